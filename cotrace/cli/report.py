"""How a graph is told in a terminal."""

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cotrace.graphs import Graph, describe_path, node_label, strongest_paths

if TYPE_CHECKING:  # telling a graph needs no torch
    from cotrace.attribution.tracing.plan import TracePlan

console = Console()


def print_summary(graph: Graph) -> None:
    """Prompt, tokens, targets, sizes and scores."""
    info = graph.info
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("prompt", Text(repr(info["prompt"])))
    facts.add_row("tokens", Text(" ".join(f"{i}:{token!r}" for i, token in enumerate(info["tokens"]))))
    facts.add_row("model", Text(printable(f"{info['model']['name']} with {info['transcoders']['name']}")))
    traced, order = info["traced"], graph.order
    facts.add_row("traced", f"{traced['nodes']:,} nodes, {traced['edges']:,} edges")
    if info["bound"] > 0:
        rows = f"{traced['rows']:,} rows computed; " if "rows" in traced else ""
        facts.add_row(
            "coverage", f"{info['coverage']:.2%} ({rows}no node lacks more influence than {info['bound']:.3g})"
        )
    if info["pruning"]:
        pruning = info["pruning"]
        limits = f"node threshold {pruning['node_threshold']}, edge threshold {pruning['edge_threshold']}"
        facts.add_row("pruned to", f"{order.n_nodes:,} nodes, {graph.n_edges:,} edges ({limits})")
        if "certainty" in pruning:
            found = pruning["certainty"]
            words = f"{found['inside']:,} nodes inside, {found['outside']:,} outside, {found['undecided']:,} undecided"
            facts.add_row("certain", f"at the node threshold, whatever the other rows hold: {words}")
    features, errors, tokens, logits = order.counts
    facts.add_row("nodes", f"{features:,} features, {errors:,} errors, {tokens} tokens, {logits} targets")
    scores = traced["scores"]
    facts.add_row(
        "scores", f"replacement {scores['replacement']:.3f}, completeness {scores['completeness']:.3f} (traced graph)"
    )
    console.print(facts)
    print_targets(graph)


def print_plan(plan: "TracePlan") -> None:
    """Print the estimate of what a trace needs."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    for name, text in plan.table().items():
        facts.add_row(name, text)
    console.print(facts)


def printable(text: str) -> str:
    """Text of a file without the control characters that would steer a terminal."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else "\ufffd" for c in text)


def say_written(path: Path) -> None:
    """Say where a result is, on one line."""
    console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def print_targets(graph: Graph) -> None:
    """The targets with their probabilities."""
    table = Table("node", "target", "at", "probability", "weight", title="targets", title_justify="left", box=None)
    for target in graph.info["targets"]:
        position = str(target.get("position", graph.info["position"]))
        probability = "" if target["probability"] is None else f"{target['probability']:.1%}"
        table.add_row(
            str(target["node"]), Text(repr(target["label"])), position, probability, f"{target['weight']:.3f}"
        )
    console.print(table)


def print_top_nodes(graph: Graph, count: int) -> None:
    """The nodes with most influence on the targets."""
    influence = graph.column("influence")
    table = Table("node", "name", "influence", "activation", title="most influential", title_justify="left", box=None)
    activation = graph.column("activation")
    for node in np.argsort(-influence, kind="stable")[:count].tolist():
        shown = "" if np.isnan(activation[node]) else f"{activation[node]:.3g}"
        table.add_row(str(node), Text(node_label(graph, node)), f"{influence[node]:.4f}", shown)
    console.print(table)


def print_paths(graph: Graph, count: int, target: int | None = None) -> None:
    """The strongest paths from tokens to the targets as text."""
    table = Table("share", "sign", "path", title="strongest paths", title_justify="left", box=None)
    for path in strongest_paths(graph, target, count):
        table.add_row(f"{path.strength:.2%}", "+" if path.sign > 0 else "−", Text(describe_path(graph, path)))
    console.print(table)


def print_validation(graph: Graph, nodes: int = 12) -> None:
    """What `Model.validate` found: one table, and the numbers that sum it up."""
    record = graph.info["validation"]
    columns = ("ablated", "influence", "predicted", "measured", "effect", "controls", "KL")
    table = Table(*columns, title="validation", title_justify="left", box=None)
    features = [row for row in record["nodes"] if row.get("control_size") is not None]
    for row in features[:nodes]:
        table.add_row(Text(printable(row["label"])), *_validated(row))
    for row in record["groups"]:
        table.add_row(Text(printable(row["name"])), *_validated(row))
    for row in record["paths"]:
        table.add_row(Text(printable(row["label"])), *_validated(row))
        kept = (f"{row[name]:+.3f}" for name in ("kept_predicted", "kept_measured"))
        table.add_row("  all other features kept", "", *kept)
    console.print(table)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    summary = record["summary"]
    all_of_them = "the features that were kept" if graph.info["pruning"] else "all features with influence"
    for of, whose in (
        ("", f"{summary['sample']} of {all_of_them}"),
        ("_top", f"the {summary['features']} most influential"),
    ):
        facts.add_row(f"of {whose}", "")
        facts.add_row("  influence and effect", f"Spearman {_interval(summary['spearman' + of])}")
        facts.add_row("  direct edges and effect", f"Spearman {_interval(summary['spearman_direct' + of])}")
        facts.add_row("  activation and effect", f"Spearman {_interval(summary['spearman_activation' + of])}")
        facts.add_row("  predicted size and effect", f"Spearman {_interval(summary['spearman_predicted' + of])}")
        facts.add_row("  influence and KL", f"Spearman {_interval(summary['spearman_kl' + of])}")
        facts.add_row("  predicted and measured", f"Spearman {_interval(summary['spearman_signed' + of])}")
        if summary["sign_agreement" + of] is not None:
            facts.add_row("  right signs", f"{summary['sign_agreement' + of]:.0%}")
    if summary["larger_than_controls"] is not None:
        times = summary["times_controls"]
        more = "" if times is None else f", {times:.1f} times as much (median)"
        facts.add_row("  more than controls", f"{summary['larger_than_controls']:.0%}{more}")
        if summary["control_length"] is not None:
            facts.add_row("  controls write", f"{summary['control_length']:.2f} times as long vectors (median)")
    for row in record["later"]:
        apart = f"{row['least']}" if row["least"] == row["most"] else f"{row['least']} to {row['most']}"
        apart = f"{row['least']} and more" if row["most"] > 90 else apart
        right = f"{row['signs']:.0%} of the predicted change has the right sign"
        facts.add_row(f"{apart} layer{'s' * (row['most'] > 1)} later", f"cosine {row['cosine']:.2f}, {right}")
    facts.add_row("influence on later features", "and relative effect on them")
    facts.add_row("  as the model responds", f"Spearman {_interval(summary['spearman_pairs'])}")
    facts.add_row("  with MLPs clamped", f"Spearman {_interval(summary['spearman_pairs_clamped'])}")
    if graph.info["bound"] > 0:
        facts.add_row("not predicted", "what goes through features whose rows were not computed (coverage below 1)")
    settings = record["settings"]
    facts.add_row("held", f"freeze {settings['freeze']}, errors {settings['errors']}")
    console.print(facts)


def _validated(row: dict[str, Any]) -> tuple[str, ...]:
    control = "" if row["control_size"] is None else f"{row['control_size']:.3f}"
    numbers = f"{row['predicted']:+.3f}", f"{row['measured']:+.3f}", f"{row['size']:.3f}", control, f"{row['kl']:.4f}"
    return f"{row['influence']:.4f}", *numbers


def _interval(found: dict[str, float] | None) -> str:
    """A correlation with its interval."""
    return "too few to tell" if found is None else f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"

"""Graphs and plans as text in a terminal."""

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cotrace.graphs import Graph, describe_path, node_label, strongest_paths

if TYPE_CHECKING:  # printing a graph needs no torch
    from cotrace.attribution.tracing.plan import TracePlan

console = Console()


def print_summary(graph: Graph) -> None:
    """Print the prompt, tokens, targets, sizes and scores of a graph."""
    info = graph.info
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("prompt", Text(repr(info["prompt"])))
    facts.add_row("tokens", Text(" ".join(f"{i}:{token!r}" for i, token in enumerate(info["tokens"]))))
    facts.add_row("model", Text(printable(f"{info['model']['name']} with {info['transcoders']['name']}")))
    traced, order = info["traced"], graph.order
    facts.add_row("traced", f"{traced['nodes']:,} nodes, {traced['edges']:,} edges")
    if traced["bound"] > 0:
        rows = f"{traced['rows']:,} rows computed; " if "rows" in traced else ""
        facts.add_row(
            "coverage",
            f"{traced['coverage']:.2%} ({rows}each node's influence is at most {traced['bound']:.3g} too low)",
        )
    if info["pruning"]:
        pruning = info["pruning"]
        limits = f"node threshold {pruning['node_threshold']}, edge threshold {pruning['edge_threshold']}"
        facts.add_row("pruned to", f"{order.n_nodes:,} nodes, {graph.n_edges:,} edges ({limits})")
        if "certainty" in pruning:
            counts = pruning["certainty"]
            words = (
                f"{counts['inside']:,} nodes inside, {counts['outside']:,} outside, {counts['undecided']:,} undecided"
            )
            facts.add_row(
                "certainty", f"at the node threshold, for any values of the rows that were not computed: {words}"
            )
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
    """Return text with control characters, which a terminal would execute, replaced by �."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else "\ufffd" for c in text)


def print_line(text: str) -> None:
    """Print one line as it is: not wrapped, without markup or colours."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_written(path: Path) -> None:
    """Print the path of a result."""
    print_line(f"wrote {path}")


def print_targets(graph: Graph) -> None:
    """Print the targets with their probabilities."""
    table = Table(
        "node", "target", "position", "probability", "weight", title="targets", title_justify="left", box=None
    )
    for target in graph.info["targets"]:
        position = str(target.get("position", graph.info["position"]))
        probability = "" if target["probability"] is None else f"{target['probability']:.1%}"
        table.add_row(
            str(target["node"]), Text(repr(target["label"])), position, probability, f"{target['weight']:.3f}"
        )
    console.print(table)


def print_top_nodes(graph: Graph, count: int) -> None:
    """Print the nodes with the most influence on the targets."""
    influence = graph.column("influence")
    table = Table("node", "name", "influence", "activation", title="most influential", title_justify="left", box=None)
    activation = graph.column("activation")
    for node in np.argsort(-influence, kind="stable")[:count].tolist():
        shown = "" if np.isnan(activation[node]) else f"{activation[node]:.3g}"
        table.add_row(str(node), Text(node_label(graph, node)), f"{influence[node]:.4f}", shown)
    console.print(table)


def print_paths(graph: Graph, count: int, target: int | None = None) -> None:
    """Print the strongest paths from tokens to the targets."""
    table = Table("share", "sign", "path", title="strongest paths", title_justify="left", box=None)
    for path in strongest_paths(graph, target, count):
        table.add_row(f"{path.strength:.2%}", "+" if path.sign > 0 else "−", Text(describe_path(graph, path)))
    console.print(table)

"""Graphs and plans as text in a terminal."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.graphs import Graph, GraphSummary, describe_path, node_label
from cotrace.graphs import Path as NodePath
from cotrace.graphs.annotations import groups_inside
from cotrace.graphs.drawing.text import format_percent
from cotrace.graphs.grouping.stored import is_suggested
from cotrace.graphs.labels import GIVEN_SOURCES
from cotrace.graphs.subgraph import chosen_by
from cotrace.graphs.summary import NodeSummary
from cotrace.graphs.verdicts import coverage_verdict

from . import report_sampling
from .console import standard_output

if TYPE_CHECKING:  # printing a graph needs no torch
    from cotrace.attribution.tracing.plan import TracePlan

NODE_COLUMNS_WIDTH, EFFECT_WIDTH = 45, 7  # characters of a table of nodes without names and effects, and of an effect
ERROR_WIDTH = len(" ± <0.0001")
EXPECTED_HEADER, TRACED_HEADER = "if ablated", "in the traced graph"
MAX_CHARACTERS, MAX_TOKENS, MAX_TARGETS = 300, 40, 10  # of the longest prompt that is printed as a whole
ANNOTATIONS_SHOWN = 30  # labels, and nodes of a group
LABEL_LENGTH = 40  # characters of a label in a table or path

console = standard_output()


def print_summary(graph: Graph, *, full: bool = False) -> None:
    """Print the prompt, tokens, targets, sizes and scores of a graph; of a long prompt both ends, unless `full`."""
    info = graph.info
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("prompt", Text(quoted(info["prompt"]) if full else shortened(info["prompt"])))
    facts.add_row("tokens", Text(_tokens(info["tokens"], len(info["tokens"]) if full else MAX_TOKENS)))
    facts.add_row("model", Text(printable(f"{info['model']['name']} with {info['transcoders']['name']}")))
    traced, order = info["traced"], graph.order
    facts.add_row("traced", f"{traced['nodes']:,} nodes, {traced['edges']:,} edges")
    _add_coverage(facts, graph, full)
    if info["pruning"]:
        pruning = info["pruning"]
        limits = f"node threshold {pruning['node_threshold']}, edge threshold {pruning['edge_threshold']}"
        for step in reversed(pruning.get("earlier", [])):
            limits += f"; before that {step['node_threshold']} and {step['edge_threshold']}"
        facts.add_row("pruned to", f"{order.n_nodes:,} nodes, {graph.n_edges:,} edges ({limits})")
        if "certainty" in pruning and full:
            counts = pruning["certainty"]
            facts.add_row(
                "certainty",
                "for any values of the rows that were not computed, at the node threshold: "
                f"{counts['inside']:,} nodes are inside, {counts['outside']:,} outside, {counts['undecided']:,} undecided",
            )
    for step in info.get("subgraph", []):
        facts.add_row("part of", f"{step['nodes']:,} nodes, {step['edges']:,} edges ({chosen_by(step)})")
    features, errors, tokens, logits = order.counts
    facts.add_row("nodes", f"{features:,} features, {errors:,} errors, {tokens} tokens, {logits} targets")
    facts.add_row("scores", f"{report_sampling.scores_text(traced['scores'])} (traced graph)")
    if "subgraph" in info:
        shown = report_sampling.scores_text(graph.scores().entries())
        facts.add_row("", f"{shown} (this part, with what it lacks as error)")
    console.print(facts)
    print_targets(graph, len(info["targets"]) if full else MAX_TARGETS)


def _add_coverage(facts: Table, graph: Graph, full: bool) -> None:
    """Add what missing rows mean for the graph; nothing if it has all rows."""
    traced, verdict = graph.info["traced"], coverage_verdict(graph.info)
    if verdict is None:
        return
    if "sampling" in traced:
        facts.add_row("sampled", verdict)
        details = report_sampling.sampling_lines(graph)
    else:
        facts.add_row("coverage", f"{traced['coverage']:.2%}: {verdict}")
        rows = f"{traced['rows']:,} rows were computed; " if "rows" in traced else ""
        details = [f"{rows}each node's influence is at most {traced['bound']:.3g} too low"]
    for line in details if full else ():
        facts.add_row("", line)


def shortened(text: str, length: int = MAX_CHARACTERS) -> str:
    """Return the repr of a text; of one of more than `length` characters both ends, and how many are left out."""
    if len(text) <= length:
        return quoted(text)
    return f"{quoted(text[: length // 2])} … {quoted(text[-length // 2 :])} ({len(text) - length // 2 * 2:,} characters left out)"


def _tokens(tokens: Sequence[str], most: int) -> str:
    named = [f"{i}:{quoted(token)}" for i, token in enumerate(tokens)]
    if len(named) <= most:
        return " ".join(named)
    left_out = len(named) - most // 2 * 2
    return " ".join([*named[: most // 2], "…", *named[-(most // 2) :], f"({left_out:,} tokens left out)"])


def print_annotations(graph: Graph) -> None:
    """Print the notes, groups and labels of a graph, if it has any."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    if graph.notes:
        facts.add_row("notes", Text("\n".join(map(printable, graph.notes.splitlines()))))
    _add_groups(facts, graph)
    if graph.labels:
        given = np.flatnonzero(np.isin(graph.column("label_source"), GIVEN_SOURCES)).tolist()
        listed = f"{_listed([node_label(graph, node) for node in given])}; " if given else ""
        facts.add_row("labels", Text(f"{listed}{label_counts(graph)}"))
    if facts.row_count:
        console.print(facts)


def label_counts(graph: Graph) -> str:
    """Return the number of labels from each source in words."""
    counts = Counter(source for source in graph.column("label_source") if source)
    return ", ".join(f"{number:,} from {source}" for source, number in counts.most_common()) or "none"


def _add_groups(facts: Table, graph: Graph) -> None:
    """Add the user's groups with their members, and the names and sizes of suggested ones, which are many."""
    inside, suggested = groups_inside(graph), []
    for entry in graph.info.get("groups", []):
        name, present = entry["name"], inside.get(entry["name"], [])
        missing = len(entry["nodes"]) - len(present)
        pruned = f"; {missing} not in this graph" if missing else ""
        if is_suggested(entry):
            suggested.append(f"{quoted(name)} ({len(present)} nodes{pruned})")
        else:
            members = _listed([node_label(graph, node) for node in present])
            facts.add_row("group", Text(f"{quoted(name)}: {members}{pruned}"))
    if suggested:
        facts.add_row("suggested groups", Text(_listed(suggested)))


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - ANNOTATIONS_SHOWN} more" if len(names) > ANNOTATIONS_SHOWN else ""
    return ", ".join(names[:ANNOTATIONS_SHOWN]) + more


def print_plan(plan: "TracePlan") -> None:
    """Print the estimate of what a trace needs."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    for name, text in plan.table().items():
        facts.add_row(name, text)
    console.print(facts)


def print_line(text: str) -> None:
    """Print one line as it is: not wrapped, without markup or colours."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_written(path: Path, planned: Path | None = None) -> None:
    """Print the path of a result, and of the file of the planned name that was kept."""
    kept = "" if planned in (None, path) else f" ({planned} has other content and was kept; --force overwrites it)"
    print_line(f"wrote {path}{kept}")


def print_targets(graph: Graph, count: int = MAX_TARGETS) -> None:
    """Print the heaviest targets with their probabilities."""
    table = Table(
        "node", "target", "position", "probability", "weight", title="targets", title_justify="left", box=None
    )
    targets = sorted(graph.info["targets"], key=lambda target: -target["weight"])
    for target in targets[:count]:
        position = str(target.get("position", graph.info["position"]))
        probability = "" if target["probability"] is None else f"{target['probability']:.1%}"
        table.add_row(
            str(target["node"]), Text(quoted(target["label"])), position, probability, f"{target['weight']:.3f}"
        )
    console.print(table)
    if len(targets) > count:
        rest = sum(target["weight"] for target in targets[count:])
        print_line(f" … and {len(targets) - count:,} more with a weight of {rest:.3f} together")


def print_answer(graph: Graph, summary: GraphSummary) -> None:
    """Print where the influence on the targets comes from, the nodes that matter most and the strongest paths."""
    _print_last_steps(graph, summary)
    if summary.nodes:
        _print_nodes(graph, summary)
    if summary.paths:
        print_paths(graph, summary.paths)


def _names(summary: GraphSummary) -> str:
    targets = summary.targets
    return quoted(targets[0]["label"]) if len(targets) == 1 else f"all {len(targets)} targets"


def _print_last_steps(graph: Graph, summary: GraphSummary) -> None:
    steps = summary.last_steps
    one_target = len(summary.targets) == 1
    edges = [
        f"{node_label(graph, edge.nodes[0]) if one_target else describe_path(graph, edge, LABEL_LENGTH)} {_sign(edge.sign)}{edge.strength:.1%}"
        for edge in steps.strongest_tokens
    ]
    print_line(
        f"influence on {_names(summary)}: {steps.features:.1%} through features, {steps.errors:.1%} straight from errors, "
        f"{steps.tokens:.1%} straight from tokens{': ' if edges else ''}{', '.join(edges)}"
    )


def _print_nodes(graph: Graph, summary: GraphSummary) -> None:
    one_target = len(summary.targets) == 1
    names = [node_label(graph, node.node, LABEL_LENGTH) for node in summary.nodes]
    headers = [f"{'effect on ' * one_target}{quoted(target['label'])}" for target in summary.targets]
    expected = [EXPECTED_HEADER] if summary.ranked_by == "expected effect" else []
    estimated = [TRACED_HEADER] if summary.nodes[0].traced_influence is not None else []
    columns_width = NODE_COLUMNS_WIDTH + sum(len(header) + 2 for header in (*expected, *estimated))
    columns_width += ERROR_WIDTH * graph.sampled
    shown = _that_fit(headers, console.width - columns_width - max(map(cell_len, names)))
    ranked = "largest expected effects" if expected else "most influential"
    title = Text(f"{ranked} on {_names(summary)}{'' if one_target else ', with the effect on each'}")
    table = Table(title=title, title_justify="left", box=None)
    for header in (
        "node",
        "name",
        *expected,
        "influence",
        *estimated,
        "activation",
        "usual",
        *shown,
    ):  # names give way where a terminal is narrow
        width = None if header == "name" else max(cell_len(header), EFFECT_WIDTH)
        table.add_column(Text(header), no_wrap=True, min_width=width)
    for node, name in zip(summary.nodes, names, strict=True):
        activations = ("" if value is None else f"{value:.3g}" for value in (node.activation, node.usual))
        effects = (f"{effect:+.3f}" for effect in node.effects[: len(shown)])
        changes = [_expected(node)] if expected else []
        influences = report_sampling.influences(node)
        table.add_row(str(node.node), Text(name), *changes, *influences, *activations, *effects)
    console.print(table)
    if len(shown) < len(headers):
        print_line(f" effects on {len(headers) - len(shown)} more targets: choose one with --target")


def _expected(node: NodeSummary) -> str:
    """Return the change of one target that is expected when a node is ablated; of several, the mean size."""
    assert node.expected_effects is not None
    one = len(node.expected_effects) == 1
    return f"{node.expected_effects[0]:+.3f}" if one else f"±{node.expected_size:.3f}"


def _that_fit(headers: list[str], width: int) -> list[str]:
    """Return the first headers of columns of effects that fit into a width, at least one."""
    ends = itertools.accumulate(max(cell_len(header), EFFECT_WIDTH) + 2 for header in headers)
    return headers[: max(1, sum(end <= width for end in ends))]


def print_paths(graph: Graph, paths: Sequence[NodePath]) -> None:
    """Print paths with their shares and signs."""
    table = Table("share", "sign", "path", title="strongest paths", title_justify="left", box=None)
    for path in paths:
        table.add_row(format_percent(path.strength), _sign(path.sign), Text(describe_path(graph, path, LABEL_LENGTH)))
    console.print(table)


def _sign(sign: int) -> str:
    return "+" if sign > 0 else "−"

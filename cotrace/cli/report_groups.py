"""Groups of features as text in a terminal, and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.graphs import Graph, node_label
from cotrace.graphs.annotations import groups_inside
from cotrace.graphs.grouping.groups import Groups

from .report import EXPECTED_HEADER, console, print_line

MEMBERS_SHOWN = 4


def print_changed_groups(earlier: Mapping[str, Sequence], now: Mapping[str, Sequence]) -> None:
    """Print what making or removing groups changed, and how many there are."""
    for name, nodes in now.items():
        if nodes != earlier.get(name):
            replaced = f", in place of {len(earlier[name])}" if name in earlier else ""
            print_line(f"group {quoted(name)}: nodes {len(nodes)}{replaced}")
    print_line(f"groups removed: {len(earlier.keys() - now.keys())}; the graph now has {len(now)}")


def print_groups(graph: Graph, groups: Groups, top: int) -> None:
    """Print the most influential groups with their reasons, and how much of the graph all groups keep."""
    grouped = sum(len(group.nodes) for group in groups)
    title = f"{len(groups)} groups of {grouped} among {groups.compared} features; effects on {quoted(groups.target)}"
    table = Table(title=Text(title), title_justify="left", box=None)
    for header in ("group", "features", "influence", EXPECTED_HEADER, "reason", "members"):
        table.add_column(Text(header), overflow="fold")
    for group in groups[:top]:
        names = [node_label(graph, node) for node in group.nodes[:MEMBERS_SHOWN]]
        more = [f"and {len(group.nodes) - len(names)} more"] if len(group.nodes) > len(names) else []
        size, influence, effect = str(len(group.nodes)), f"{group.influence:.4f}", f"{group.effect:+.3f}"
        table.add_row(
            Text(printable(group.name)), size, influence, effect, group.reason, Text(", ".join([*names, *more]))
        )
    if len(groups):
        console.print(table)
    if len(groups) > top:
        print_line(f" … and {len(groups) - top:,} more: --top {len(groups)} lists all")
    print_line(groups.kept.text() if len(groups) else "no features are alike enough; try a smaller --similarity")


def groups_json(graph: Graph, groups: Groups | None) -> dict[str, Any]:
    """Return the groups of a graph, and suggestions with what they keep, as values that JSON can hold."""
    stored = {name: [node_label(graph, node) for node in nodes] for name, nodes in groups_inside(graph).items()}
    if groups is None:
        return {"groups": stored}
    kept = groups.kept
    return {
        "groups": stored,
        "target": groups.target,
        "compared": groups.compared,
        "suggested": groups.table.to_pylist(),
        "kept": {
            "influence": kept.influence,
            "scores": kept.scores._asdict(),
            "graph_scores": kept.graph_scores._asdict(),
        },
    }

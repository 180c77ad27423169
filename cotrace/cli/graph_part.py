"""Options that choose a part of a graph."""

from typing import Annotated

import typer

from cotrace.graphs import Graph

PART_PANEL = "Part of a graph"
NODES_SYNTAX = (
    "NODES is a node number, a name that the command prints (L17#264@5, ' hot'@4), a label, a group, the text of a target, or a "
    "span such as @2:6 for every node at positions 2 to 5. Repeatable."
)

NodesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NODES", rich_help_panel=PART_PANEL, help=f"Take only these nodes, tokens and targets. {NODES_SYNTAX}"
    ),
]
MinInfluenceOption = Annotated[
    float | None,
    typer.Option(rich_help_panel=PART_PANEL, help="Take only nodes of at least this influence, tokens and targets."),
]
LabelOption = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        rich_help_panel=PART_PANEL,
        help="Take only features and error nodes with this in their label, tokens and targets. A word or a regular expression.",
    ),
]


def part_of(graph: Graph, nodes: list[str] | None, min_influence: float | None, label: str | None) -> Graph:
    """Return the chosen part of a graph; the graph itself if nothing is chosen."""
    if not nodes and min_influence is None and label is None:
        return graph
    return graph.subgraph(nodes or None, min_influence=min_influence, label=label)

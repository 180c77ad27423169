"""`cotrace heads`: which attention heads carry the edges of a graph."""

import re
from enum import StrEnum
from typing import Annotated

import typer

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, open_graph
from cotrace.graphs.edge_ends import find_ends

from . import graph_model, options

ARROW = re.compile(r"\s*(?:->|→)\s*")


class ShownLoading(StrEnum):
    """Loadings by which heads can be ordered."""

    LAST = "last"
    FIRST = "first"
    ONE_HOP = "one_hop"


def heads(
    file: options.GraphArgument,
    edge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'A -> B'",
            help="The source and the target of an edge: numbers, names such as L17#264@5, labels or target texts that `cotrace "
            "show` prints. Repeatable. Default: all edges together, of a graph that was traced with --heads.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Number of heads to list.", min=1)] = 10,
    by: Annotated[
        ShownLoading, typer.Option(help="With --edge: list the heads that carry most of this.")
    ] = ShownLoading.LAST,
    model: graph_model.ModelOption = None,
    transcoders: graph_model.TranscodersOption = None,
    device: options.DeviceOption = "auto",
    dtype: options.GraphDtypeOption = None,
    json: options.JsonOption = False,
) -> None:
    """List the attention heads that carry an edge.

    A direct edge is a sum over paths through attention heads and the residual stream. Three numbers for each head: the part
    of the edge whose paths pass it last, nearest the target; first, nearest the source; and as their only head. With the
    part that passes no head, either of the first two adds up to the edge. Parts are in units of what the target reads, such
    as logits.
    """
    from .console import print_json
    from .report_heads import print_head_shares, print_loadings

    graph = open_graph(file)
    if not edge:
        shares = graph.head_shares()
        print_json(shares.to_pylist()) if json else print_head_shares(shares, top)
        return
    edges = [find_edge(graph, text) for text in edge]
    found = graph_model.load_model(graph, model, transcoders, device, dtype).heads_many(graph, edges)
    if json:
        print_json([loadings.as_json() for loadings in found])
        return
    for loadings in found:
        print_loadings(loadings, top, by.value)


def find_edge(graph: Graph, text: str) -> tuple[int, int]:
    """Return the numbers of the two ends that a text such as `L17#264@5 -> ' cold'` names; names may have arrows inside.

    Raises ArgumentError for a text without an arrow, and for names between which no edge can run.
    """
    pairs = [(text[: arrow.start()], text[arrow.end() :]) for arrow in ARROW.finditer(text)]
    if not pairs:
        raise ArgumentError(
            f"--edge {text!r}: expected two nodes with an arrow between them, such as 'L17#264@5 -> L20#3@5'"
        )
    problems = []
    for source, target in pairs:
        try:
            return find_ends(graph, source, target)
        except ArgumentError as error:
            problems.append(error)
    raise ArgumentError(f"--edge {text!r}: {problems[0]}")

"""Graphs that are too large for a page, pruned until they fit."""

from typing import NamedTuple

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph
from cotrace.graphs.subgraph import is_subgraph

MAX_EDGES, MAX_NODES = 2_000_000, 100_000
THRESHOLDS = ((0.99, 0.99), (0.95, 0.98), (0.9, 0.98), (0.8, 0.98), (0.7, 0.95), (0.5, 0.9), (0.3, 0.8), (0.1, 0.5))
"""Shares of the influence that nodes and edges hold, tried in this order."""


class FittedGraph(NamedTuple):
    """A graph that fits a page, and what was done for this, in a sentence; "" for nothing."""

    graph: Graph
    note: str


def fitted(graph: Graph) -> FittedGraph:
    """Return a graph, pruned if it is too large for a page to the largest thresholds at which it fits.

    Raises ArgumentError for a graph that does not fit at any.
    """
    if fits(graph.order.n_nodes, graph.n_edges):
        return FittedGraph(graph, "")
    for nodes, edges in _thresholds(graph):
        kept = graph.select(nodes, edges)
        if fits(int(kept.nodes.sum()), int(kept.edges.sum())):
            return FittedGraph(graph.prune(nodes, edges), _note(graph, nodes, edges))
    raise ArgumentError(
        f"this graph is too large for a page ({graph.order.n_nodes:,} nodes, {graph.n_edges:,} edges, at most "
        f"{MAX_NODES:,} and {MAX_EDGES:,}); choose a part of it with subgraph()"
    )


def fits(nodes: int, edges: int) -> bool:
    """Return whether a page can show this many nodes and edges without delay."""
    return nodes <= MAX_NODES and edges <= MAX_EDGES


def _thresholds(graph: Graph) -> list[tuple[float, float]]:
    """Return the thresholds to try: not above those to which the graph was pruned before."""
    held = graph.info["pruning"] or {"node_threshold": 1.0, "edge_threshold": 1.0}
    pairs = [(min(n, held["node_threshold"]), min(e, held["edge_threshold"])) for n, e in THRESHOLDS]
    return list(dict.fromkeys(pairs))


def _note(graph: Graph, nodes: float, edges: float) -> str:
    what = "subgraph" if is_subgraph(graph) else "graph"
    return (
        f"The {what} of {graph.order.n_nodes:,} nodes and {graph.n_edges:,} edges is too large for a page: this is its part "
        f"pruned to the thresholds {nodes:g} and {edges:g}; its file has everything."
    )

"""The strongest paths through a graph, between its tokens and targets or any nodes, and their names."""

import functools
import heapq
import itertools
from typing import NamedTuple

import numpy as np

from cotrace.common.checks import as_index
from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError

from .annotations import NodeName, numbers_of
from .data import GraphData
from .labels import node_label
from .node_sets import NodeSet, find_set, weighted_ends


class Path(NamedTuple):
    """A chain of edges: from a token or error node to a target, or between any nodes."""

    nodes: tuple[int, ...]
    """Node numbers, the target last."""
    strength: float
    """Share of the influence along exactly this path: its normalised weights times the weight of the target."""
    sign: int
    """1 or -1, the product of the signs of its edges."""


def find_paths(
    graph: GraphData,
    sources: NodeSet | None = None,
    targets: NodeSet | None = None,
    n: int = 5,
    *,
    min_length: int = 1,
    through_errors: bool = False,
) -> list[Path]:
    """Return the `n` strongest paths from some nodes to others; arguments and errors as `Graph.paths`."""
    starts_M = np.zeros(graph.order.n_nodes, np.bool_)
    if sources is None:
        starts_M[graph.order.tokens] = True
        starts_M[graph.order.errors] = through_errors
    else:
        starts_M[find_set(graph, sources)] = True
    return _search(graph, starts_M, weighted_ends(graph, targets)[1], n, min_length)


def strongest_paths(
    graph: GraphData,
    target: NodeName | None = None,
    count: int = 5,
    through_errors: bool = False,
    min_length: int = 1,
) -> list[Path]:
    """Return the `count` strongest complete paths that end in one target, or in any, strongest first.

    `find_paths` is for paths between any nodes. Strengths are shares of the influence on all targets.

    Args:
        graph: the graph.
        target: number or another name (`Graph.find`) of one of `graph.info["targets"]`; any of them by default.
        count: number of paths.
        through_errors: let paths start at error nodes too, not only at token embeddings.
        min_length: number of edges that a path has at least; with 2 it runs through at least one feature.

    Raises:
        ArgumentError: `target` is not a target of the graph, or `min_length` is below 1.
    """
    weights_M = graph.target_weights
    if target is not None:
        targets = [t["node"] for t in graph.info["targets"]]
        named = set(numbers_of(graph, target)).intersection(targets)
        if not named:
            names = ", ".join(f"{node} ({node_label(graph, node)})" for node in targets)
            raise ArgumentError(f"{target!r} is not a target of this graph; its targets are the nodes {names}")
        weights_M = np.where(np.isin(np.arange(graph.order.n_nodes), list(named)), weights_M, 0.0)
    starts_M = np.zeros(graph.order.n_nodes, np.bool_)
    starts_M[graph.order.tokens] = True
    starts_M[graph.order.errors] = through_errors
    return _search(graph, starts_M, weights_M, count, min_length)


class _Choices(NamedTuple):
    """The edges into a node along which paths from a start can come, the best first."""

    sources: list[int]
    shares: list[float]
    """Normalised weights."""
    signs: list[int]
    bounds: list[float]
    """Largest strength of a path from a start over this edge, if the node has strength 1."""


def _search(graph: GraphData, starts_M: np.ndarray, ends_M: np.ndarray, count: int, min_length: int) -> list[Path]:
    """Return the strongest paths from the nodes of a mask to nodes of positive weight.

    Best-first search from the ends backwards: strengths only fall along a path, so the first complete paths found are
    the strongest. An entry of the heap is the end of a path, and the rank of the edge by which it grows next; None if it
    is complete.
    """
    count, min_length = as_index(count, "the number of paths"), as_index(min_length, "min_length")
    if min_length < 1:
        raise ArgumentError(f"invalid min_length {min_length}: a path has at least one edge")
    if count < 0:
        raise ArgumentError(f"invalid number of paths {count}: expected 0 or more")
    if min_length > _longest(graph):  # also keeps the table of completions small
        return []
    best_ML = _best_completions(graph, starts_M, min_length)
    rank_edges = functools.lru_cache(None)(lambda node, missing: _choices(graph, node, best_ML[:, missing]))
    heap: list[tuple[float, int, Path, int | None]] = []
    tickets, found = itertools.count(), list[Path]()

    def push(bound: float, path: Path, rank: int | None) -> None:
        if bound > 0:
            heapq.heappush(heap, (-bound, next(tickets), path, rank))

    for node in np.flatnonzero(ends_M).tolist():
        push(ends_M[node] * best_ML[node, -1], Path((node,), float(ends_M[node]), 1), 0)
    while heap and len(found) < count:
        _, _, path, rank = heapq.heappop(heap)
        if rank is None:
            found.append(path)
            continue
        missing = max(0, min_length - len(path.nodes))  # edges, after one more
        choices = rank_edges(path.nodes[0], missing)
        if rank + 1 < len(choices.sources):
            push(path.strength * choices.bounds[rank + 1], path, rank + 1)
        source, strength = choices.sources[rank], path.strength * choices.shares[rank]
        longer = Path((source, *path.nodes), strength, path.sign * choices.signs[rank])
        if starts_M[source] and not missing:
            push(strength, longer, None)
        push(strength * best_ML[source, max(missing, 1)], longer, 0)
    return found


def _longest(graph: GraphData) -> int:
    """Return how many edges a path can have: one into each layer of features, and one into a target."""
    return len(np.unique(graph.column("layer", -1)[graph.order.features])) + 1


def _choices(graph: GraphData, node: int, best_M: np.ndarray) -> _Choices:
    """Return the edges into a node, ranked; `best_M` are the best completions from each node, (M,)."""
    sources, weights = graph.csr.row(node)
    shares = graph.csr.row_shares(node)
    bounds = shares * best_M[sources]
    order = np.argsort(-bounds, kind="stable")[: np.count_nonzero(bounds)]
    signs = np.where(weights > 0, 1, -1)
    return _Choices(*(values[order].tolist() for values in (sources, shares, signs, bounds)))


def _best_completions(graph: GraphData, starts_M: np.ndarray, min_length: int) -> np.ndarray:
    """Return the largest product of normalised weights from each node down to a start of paths, (M, min_length + 1).

    Column n is the largest over paths of at least n edges; column 0 has ones at the starts.
    """
    best_ML = np.zeros((graph.order.n_nodes, min_length + 1))
    best_ML[starts_M, 0] = 1.0
    _complete(*graph.csr, graph.csr.row_totals(), best_ML)
    return best_ML


@compiled
def _complete(indptr, indices, weights, totals, best):
    """Go through the rows, sources first."""
    left = best.shape[1] - 1
    largest = np.zeros(left + 1)
    for row in range(len(totals)):
        if totals[row] == 0.0:
            continue
        largest[:] = 0.0
        for edge in range(indptr[row], indptr[row + 1]):
            size, source = abs(weights[edge]), indices[edge]
            for n in range(left + 1):
                largest[n] = max(largest[n], size * best[source, n])
        best[row, 0] = max(best[row, 0], largest[0] / totals[row])
        for n in range(1, left + 1):
            best[row, n] = largest[n - 1] / totals[row]


def describe_path(graph: GraphData, path: Path, longest_label: int | None = None) -> str:
    """Return a path in one line: ' hot'@4 → L3#812@4 → … → ' cold'. `longest_label` is as in `node_label`."""
    return " → ".join(node_label(graph, node, longest_label) for node in path.nodes)

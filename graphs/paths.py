"""The strongest paths through a graph, and their names."""

import heapq
from typing import NamedTuple

import numpy as np

from cotrace.common.errors import ArgumentError

from .annotations import NodeName, numbers_of
from .data import GraphData
from .labels import node_label


class Path(NamedTuple):
    """A path from a token or error node to a target."""

    nodes: tuple[int, ...]
    """Node numbers, the target last."""
    strength: float
    """Share of all influence along exactly this path: its normalised weights times the target's weight."""
    sign: int
    """1 or -1, the product of the signs of its edges."""


def strongest_paths(
    graph: GraphData,
    target: NodeName | None = None,
    count: int = 5,
    through_errors: bool = False,
    min_length: int = 1,
) -> list[Path]:
    """Return the `count` strongest complete paths that end in one target, or in any, strongest first.

    Best-first search from the targets backwards: strengths only fall along a path, so the first complete paths found
    are the strongest.

    Args:
        graph: the graph.
        target: number or another name (`Graph.find`) of one of `graph.info["targets"]`; any of them by default.
        count: number of paths.
        through_errors: let paths start at error nodes too, not only at token embeddings.
        min_length: number of edges that a path has at least; with 2 it runs through at least one feature.

    Raises:
        ArgumentError: `target` is not a target of the graph, or `min_length` is below 1.
    """
    if min_length < 1:
        raise ArgumentError(f"invalid min_length {min_length}: a path has at least one edge")
    targets = [t["node"] for t in graph.info["targets"]]
    if target is not None:
        named = set(numbers_of(graph, target)).intersection(targets)
        if not named:
            names = ", ".join(f"{node} ({node_label(graph, node)})" for node in targets)
            raise ArgumentError(f"{target!r} is not a target of this graph; its targets are the nodes {names}")
        targets = sorted(named)
    best_LM = _best_completions(graph, through_errors, min_length)
    heap: list[tuple[float, int, tuple[int, ...], float, int]] = []
    for node in targets:
        weight = float(graph.target_weights[node])
        heapq.heappush(heap, (-weight * best_LM[-1, node], 0, (node,), weight, 1))
    found: list[Path] = []
    totals, ticket = graph.csr.row_totals(), 1
    while heap and len(found) < count:
        bound, _, nodes, strength, sign = heapq.heappop(heap)
        if bound == 0.0:
            break
        head = nodes[0]
        sources, weights = graph.csr.row(head)
        if not len(sources):
            found.append(Path(nodes, strength, sign))
            continue
        shares = np.abs(weights) / totals[head] * strength
        bounds = shares * best_LM[max(0, min_length - len(nodes)), sources]
        for edge in np.argsort(-bounds, kind="stable")[:count]:  # no more of them can be among the best
            edge_sign = 1 if weights[edge] > 0 else -1
            entry = (-float(bounds[edge]), ticket, (int(sources[edge]), *nodes), float(shares[edge]), sign * edge_sign)
            heapq.heappush(heap, entry)
            ticket += 1
    return found


def _best_completions(graph: GraphData, through_errors: bool, min_length: int) -> np.ndarray:
    """Return the largest product of normalised weights from each node down to a start of paths, (min_length + 1, M).

    Row n is the largest over paths of at least n edges.
    """
    best_LM = np.zeros((min_length + 1, graph.order.n_nodes))
    best_LM[0, graph.order.tokens] = 1.0
    if through_errors:
        best_LM[0, graph.order.errors] = 1.0
    left = np.maximum(np.arange(min_length + 1) - 1, 0)  # edges that are still missing below
    totals = graph.csr.row_totals()
    rows = [*range(graph.order.n_features), *range(graph.order.logits.start, graph.order.logits.stop)]
    for node in rows:
        if totals[node] > 0:
            sources, weights = graph.csr.row(node)
            best_LM[:, node] = (np.abs(weights) * best_LM[:, sources]).max(axis=1)[left] / totals[node]
    return best_LM


def describe_path(graph: GraphData, path: Path) -> str:
    """Return a path in one line: ' hot'@4 → L3#812@4 → … → ' cold'."""
    return " → ".join(node_label(graph, node) for node in path.nodes)

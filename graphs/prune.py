"""Pruning: which nodes and edges carry the stated share of the influence."""

from dataclasses import dataclass

import numpy as np

from cotrace.common.compiled import compiled
from cotrace.common.errors import CotraceError

from .influence import node_influence, row_totals
from .order import NodeOrder


@dataclass(frozen=True)
class GraphSelection:
    """What pruning keeps: nodes (M,) bool, edges (E,) bool in CSR order."""

    nodes: np.ndarray
    edges: np.ndarray


def check_threshold(name: str, value: float) -> None:
    """Raise ValueError unless a threshold is a share in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise CotraceError(f"{name} is {value}: it is a share and must lie between 0 and 1")


def select(
    order: NodeOrder,
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    target_weights: np.ndarray,
    *,
    node_threshold: float,
    edge_threshold: float,
    keep_errors: bool = False,
    computed: np.ndarray | None = None,
    influence: np.ndarray | None = None,
) -> GraphSelection:
    """Choose nodes and edges by the two thresholds (Ameisen et al. 2025, "Graph pruning").

    Nodes: those whose influence is at least that of the node at which the cumulative share first
    reaches `node_threshold`; tokens and targets stay, errors too if `keep_errors`. Edges: the same
    rule on `Ahat[t, s] * (influence + w)[t]`, recomputed on the node-pruned graph. Then features
    and errors left without an outgoing edge, and features left without an incoming one, are
    dropped until none is left. Features whose rows were not `computed`, (M,) bool, need no incoming edge.
    Another estimate of nodes' `influence`, (M,), can take the place of that along the edges.
    """
    check_threshold("node_threshold", node_threshold)
    check_threshold("edge_threshold", edge_threshold)
    if influence is None:
        influence = node_influence(indptr, indices, weights, target_weights)
    nodes = influence >= _score_at_share(influence, node_threshold)
    pinned = target_weights > 0
    pinned[order.tokens] = pinned[order.logits] = True
    if keep_errors:
        pinned[order.errors] = True
    nodes |= pinned
    edge_K, kept_indptr = _edges_between(indptr, indices, nodes)
    kept_indices, kept_weights = indices[edge_K], weights[edge_K]
    kept_K = _edges_above(kept_indptr, kept_indices, kept_weights, target_weights, edge_threshold)
    needs_incoming = np.ones(order.n_features, bool) if computed is None else computed[order.features]
    _drop_dead_ends(kept_indptr, kept_indices, nodes, kept_K, pinned, needs_incoming)
    edges = np.zeros(len(indices), bool)
    edges[edge_K[kept_K]] = True
    return GraphSelection(nodes, edges)


def dropped_sums(indptr: np.ndarray, weights: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Signed sum of every row's edges that are not kept, (M,) float64; `kept` is a mask, (E,)."""
    return _dropped_sums(indptr, weights, kept)


def _score_at_share(scores: np.ndarray, share: float) -> float:
    """Score at which the cumulative share, from the largest down, first reaches `share`.

    That of the whole is the smallest positive score, however the sum is rounded; without a positive
    score there is nothing to keep and it is infinite.
    """
    descending = np.sort(scores[scores > 0])[::-1]
    if len(descending) == 0:
        return np.inf
    cumulative = np.cumsum(descending)
    rank = -1 if share == 1 else np.searchsorted(cumulative / cumulative[-1], share)
    return float(descending[rank])


def _edges_above(indptr, indices, weights, target_weights, threshold):
    """Which edges pass the edge threshold, (E,) bool."""
    influence = node_influence(indptr, indices, weights, target_weights) + target_weights
    totals = row_totals(indptr, weights)
    totals[totals == 0] = 1
    scores = np.abs(weights) / np.repeat(totals, np.diff(indptr))
    scores *= np.repeat(influence, np.diff(indptr))
    return scores >= _score_at_share(scores, threshold)


@compiled
def _edges_between(indptr, indices, nodes):
    """Numbers of the edges between the nodes of a mask, in order, and their row pointer."""
    kept_indptr = np.zeros(len(indptr), np.int64)
    for row in range(len(nodes)):
        kept_indptr[row + 1] = kept_indptr[row]
        if nodes[row]:
            for edge in range(indptr[row], indptr[row + 1]):
                kept_indptr[row + 1] += nodes[indices[edge]]
    edge_K, k = np.empty(kept_indptr[-1], np.int64), 0
    for row in range(len(nodes)):
        if nodes[row]:
            for edge in range(indptr[row], indptr[row + 1]):
                if nodes[indices[edge]]:
                    edge_K[k] = edge
                    k += 1
    return edge_K, kept_indptr


@compiled
def _dropped_sums(indptr, weights, kept):
    sums = np.zeros(len(indptr) - 1, np.float64)
    for row in range(len(sums)):
        for edge in range(indptr[row], indptr[row + 1]):
            if not kept[edge]:
                sums[row] += weights[edge]
    return sums


@compiled
def _drop_dead_ends(indptr, indices, nodes, edges, pinned, needs_incoming):
    """Drop unpinned nodes without outgoing edges and features that need incoming ones and have none, in place.

    Each pass can open up new dead ends, at most one layer further: it ends after L + 1 passes.
    """
    changed = True
    while changed:
        changed = False
        incoming = np.zeros(len(nodes), np.int64)
        outgoing = np.zeros(len(nodes), np.int64)
        for row in range(len(nodes)):
            for edge in range(indptr[row], indptr[row + 1]):
                edges[edge] = edges[edge] and nodes[row] and nodes[indices[edge]]
                if edges[edge]:
                    incoming[row] += 1
                    outgoing[indices[edge]] += 1
        for node in range(len(nodes)):
            dead = outgoing[node] == 0 or (node < len(needs_incoming) and needs_incoming[node] and incoming[node] == 0)
            if nodes[node] and dead and not pinned[node]:
                nodes[node] = False
                changed = True

"""Pruning: the nodes and edges that carry a given share of the influence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError

from .csr import CSR
from .influence import node_influence
from .order import NodeOrder

THRESHOLDS = ("node_threshold", "edge_threshold")


def check_threshold(name: str, value: float) -> None:
    """Raise ArgumentError unless a threshold is a share in [0, 1]."""
    if isinstance(value, str) or not 0.0 <= value <= 1.0:
        raise ArgumentError(f"{name} is {value}: it is a share and must lie between 0 and 1")


@dataclass(frozen=True)
class PruneConfig:
    """Options of pruning, with their defaults. Raises ArgumentError for thresholds outside [0, 1]."""

    node_threshold: float = 0.8
    """Keep the most influential nodes until they hold this share of all influence."""
    edge_threshold: float = 0.98
    """Keep the strongest edges between these nodes until they hold this share of the influence along edges."""
    keep_errors: bool = False
    """Keep all error nodes, whatever their influence."""

    def __post_init__(self) -> None:
        check_threshold("node_threshold", self.node_threshold)
        check_threshold("edge_threshold", self.edge_threshold)


def prune_config(
    node_threshold: float | None, edge_threshold: float | None, keep_errors: bool, held: Mapping[str, Any] | None
) -> PruneConfig:
    """Return the options of a pruning, with defaults for thresholds that are None.

    Thresholds are shares of the influence in the traced graph. `held` is the record of an earlier pruning, if there was
    one: a default is at most what it kept.

    Raises ArgumentError for a threshold outside [0, 1], and for options that ask for more than `held` kept.
    """
    defaults = {name: getattr(PruneConfig, name) for name in THRESHOLDS}
    if held is not None:
        defaults = {name: min(value, held[name]) for name, value in defaults.items()}
    given = {"node_threshold": node_threshold, "edge_threshold": edge_threshold}
    config = PruneConfig(
        **defaults | {name: value for name, value in given.items() if value is not None}, keep_errors=keep_errors
    )
    if held is not None:
        _check_held(config, held)
    return config


def _check_held(config: PruneConfig, held: Mapping[str, Any]) -> None:
    """Raise ArgumentError for options that ask for more than an earlier pruning kept."""
    cure = "prune the unpruned graph, which `cotrace trace --full` keeps"
    for name in THRESHOLDS:
        if getattr(config, name) > held[name]:
            raise ArgumentError(
                f"the {name.replace('_', ' ')} {getattr(config, name)} is above the {held[name]} to which this graph was "
                f"pruned already: {cure}, or use at most {held[name]}"
            )
    if config.keep_errors and not held["keep_errors"]:
        raise ArgumentError(f"error nodes were pruned from this graph already: {cure}, or do not keep all error nodes")


def within(config: PruneConfig, held: Mapping[str, Any]) -> PruneConfig:
    """Return the options with thresholds as shares of what an earlier pruning kept."""
    shares = {name: getattr(config, name) / held[name] if held[name] > 0 else 1.0 for name in THRESHOLDS}
    return PruneConfig(**shares, keep_errors=config.keep_errors)


def pruning_record(config: PruneConfig, held: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the record of a pruning for the metadata: its options, and under "earlier" those of the ones before it."""
    if held is None:
        return asdict(config)
    before = {name: value for name, value in held.items() if name != "earlier"}
    return {**asdict(config), "earlier": [*held.get("earlier", []), before]}


@dataclass(frozen=True, eq=False)
class GraphSelection:
    """Masks of the nodes and edges that stay in a smaller graph."""

    nodes: np.ndarray
    """(M,) bool."""
    edges: np.ndarray
    """(E,) bool, in the order of the CSR arrays."""

    def __repr__(self) -> str:
        nodes, edges = (f"{mask.sum()} of {len(mask)}" for mask in (self.nodes, self.edges))
        return f"GraphSelection({nodes} nodes, {edges} edges)"


def select(
    order: NodeOrder,
    csr: CSR,
    target_weights: np.ndarray,
    config: PruneConfig,
    *,
    computed: np.ndarray | None = None,
    influence: np.ndarray | None = None,
) -> GraphSelection:
    """Choose nodes and edges by the two thresholds (Ameisen et al. 2025, "Graph pruning").

    1. Keep the nodes whose influence is at least that of the node at which the cumulative share first reaches
       the node threshold. Tokens and targets stay in any case, errors with `keep_errors`.
    2. Apply the same rule to the edges between them, on the scores `Ahat[t, s] * (influence + w)[t]` of the
       node-pruned graph.
    3. Drop features and errors without an outgoing edge, and features without an incoming one, until there are
       none left.

    Args:
        order: counts of the nodes of each kind.
        csr: the edges.
        target_weights: weight w of every node as a target, (M,).
        config: thresholds.
        computed: mask of the nodes whose rows were computed, (M,) bool; other features need no incoming edge.
            All nodes by default.
        influence: influence of every node for step 1, (M,); computed from the edges by default.
    """
    if influence is None:
        influence = node_influence(csr, target_weights)
    pinned = target_weights > 0
    pinned[order.tokens] = pinned[order.logits] = True
    if config.keep_errors:
        pinned[order.errors] = True
    nodes = (influence >= score_at_share(influence, config.node_threshold)) | pinned
    edge_K, kept_indptr = _edges_between(csr.indptr, csr.indices, nodes)
    between = CSR(kept_indptr, csr.indices[edge_K], csr.weights[edge_K])
    kept_K = _edges_above(between, target_weights, config.edge_threshold)
    needs_incoming = np.ones(order.n_features, bool) if computed is None else computed[order.features]
    _drop_dead_ends(between.indptr, between.indices, nodes, kept_K, pinned, needs_incoming)
    edges = np.zeros(csr.n_edges, bool)
    edges[edge_K[kept_K]] = True
    return GraphSelection(nodes, edges)


def dropped_sums(csr: CSR, kept_E: np.ndarray) -> np.ndarray:
    """Return the signed sum of every row's edges outside a mask (E,), (M,) float64."""
    return _dropped_sums(csr.indptr, csr.weights, kept_E)


def score_at_share(scores: np.ndarray, share: float) -> float:
    """Return the score at which the cumulative share, from the largest down, first reaches `share`.

    For a share of 1 that is the smallest positive score, however the sum is rounded. Without any positive
    score it is infinite: there is nothing to keep.
    """
    descending = np.sort(scores[scores > 0])[::-1]
    if len(descending) == 0:
        return np.inf
    return float(descending[-1 if share == 1 else _rank_at_share(descending, share)])


@compiled
def _rank_at_share(descending, share):
    """Return the first rank at which the cumulative share of descending scores reaches `share`.

    Sums carry their rounding errors along, so that a share hardly depends on the order of equal or similar scores.
    """
    total, error = 0.0, 0.0
    for score in descending:
        total, error = _sum_with_error(total, error, score)
    whole, total, error = total + error, 0.0, 0.0
    for rank in range(len(descending)):
        total, error = _sum_with_error(total, error, descending[rank])
        if (total + error) / whole >= share:
            return rank
    return len(descending) - 1


@compiled
def _sum_with_error(total, error, term):
    """Return a sum with one term more, and the sum of its rounding errors (Knuth's two-sum)."""
    result = total + term
    added = result - total
    return result, error + ((total - (result - added)) + (term - added))


def _edges_above(csr: CSR, target_weights: np.ndarray, threshold: float) -> np.ndarray:
    """Return a mask of the edges that pass the edge threshold, (E,) bool."""
    influence = node_influence(csr, target_weights) + target_weights
    totals = csr.row_totals()
    totals[totals == 0] = 1
    scores = np.abs(csr.weights) / np.repeat(totals, csr.row_lengths())
    scores *= np.repeat(influence, csr.row_lengths())
    return scores >= score_at_share(scores, threshold)


@compiled
def _edges_between(indptr, indices, nodes):
    """Return the numbers of the edges between the nodes of a mask, in order, and their row pointer."""
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

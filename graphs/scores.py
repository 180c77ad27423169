"""Scores of a graph: how much of it runs through features instead of error nodes."""

from typing import Any, Literal, NamedTuple

import numpy as np

from cotrace.common.compiled import compiled

from .csr import CSR
from .influence import node_influence
from .order import NodeOrder

ScoredGraph = Literal["traced", "pruned", "subgraph"]


class GraphScores(NamedTuple):
    """Shares in [0, 1]; 1 means that no influence comes from error nodes."""

    replacement: float
    completeness: float
    graph: ScoredGraph = "traced"
    """The graph that was scored: as it was traced, after pruning, or a subgraph, with what it lacks as error."""
    replacement_interval: tuple[float, float] | None = None
    """95% interval of the score of a sampled graph, whose scores are estimates; None for other graphs."""
    completeness_interval: tuple[float, float] | None = None
    """The same for the completeness score."""

    def entries(self) -> dict[str, Any]:
        """Return the scores as the metadata of a graph hold them."""
        intervals = {name: getattr(self, name) for name in ("replacement_interval", "completeness_interval")}
        given = {name: list(interval) for name, interval in intervals.items() if interval is not None}
        return {"replacement": self.replacement, "completeness": self.completeness, **given}


def graph_scores(
    order: NodeOrder,
    csr: CSR,
    target_weights: np.ndarray,
    *,
    computed: np.ndarray | None = None,
    influence: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
    graph: ScoredGraph = "traced",
) -> GraphScores:
    """Return the replacement and completeness score of a graph (Ameisen et al. 2025, "Evaluating graphs").

    Replacement is token influence / (token + error influence). Completeness is the mean over all nodes,
    weighted by influence + target weight, of the share of incoming weight that does not come from errors;
    nodes without incoming edges (errors, tokens) have share 1. Both are 1 in a graph without influence.

    Args:
        order: counts of the nodes of each kind.
        csr: the edges.
        target_weights: weight of every node as a target, (M,).
        computed: mask of the nodes whose rows were computed, (M,) bool; other features do not count towards
            completeness. All nodes by default.
        influence: influence of every node, (M,); computed from the edges by default.
        left_out: absolute weight of each row's edges from nodes that are not in the graph, (M,), which count as one more error
            node. None by default.
        graph: recorded in the result.
    """
    if left_out is None:
        left_out = np.zeros(order.n_nodes)
    if influence is None:
        influence = node_influence(csr, target_weights, left_out)
    totals = csr.row_totals() + left_out
    share = np.divide(left_out, totals, out=np.zeros_like(totals), where=totals > 0)
    outside = share @ (influence + target_weights)
    token, error = influence[order.tokens].sum(), influence[order.errors].sum() + outside
    from_errors = error_weights(order, csr) + left_out
    error_share = np.divide(from_errors, totals, out=np.zeros_like(totals), where=totals > 0)
    mass = influence + target_weights
    if computed is not None:
        mass[order.features] *= computed[order.features]
    replacement = token / (token + error) if token + error > 0 else 1.0
    all_mass = mass.sum() + outside
    completeness = 1 - error_share @ mass / all_mass if all_mass > 0 else 1.0
    return GraphScores(float(replacement), float(completeness), graph)


def error_weights(order: NodeOrder, csr: CSR) -> np.ndarray:
    """Return the absolute weight of every row's edges from error nodes, (M,) float64."""
    return _weight_from(*csr, order.errors.start, order.errors.stop)


@compiled
def _weight_from(indptr, indices, weights, first, stop):
    """Sum the absolute weights of every row's edges from the sources first … stop - 1."""
    totals = np.zeros(len(indptr) - 1, np.float64)
    for row in range(len(totals)):
        sources = indices[indptr[row] : indptr[row + 1]]  # ascending
        here = np.searchsorted(sources, first), np.searchsorted(sources, stop)
        for edge in range(indptr[row] + here[0], indptr[row] + here[1]):
            totals[row] += abs(weights[edge])
    return totals

"""How much of a graph runs through features instead of error nodes."""

from typing import NamedTuple

import numpy as np

from cotrace.common.compiled import compiled

from .influence import node_influence, row_totals
from .order import NodeOrder


class Scores(NamedTuple):
    """Both are shares in [0, 1]; 1 means that no influence comes from error nodes."""

    replacement: float
    completeness: float


def graph_scores(
    order: NodeOrder,
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    target_weights: np.ndarray,
    computed: np.ndarray | None = None,
    influence: np.ndarray | None = None,
) -> Scores:
    """Replacement and completeness score of a graph (Ameisen et al. 2025, "Evaluating graphs").

    Replacement: token influence / (token + error influence). Completeness: mean over all nodes,
    weighted by influence + target weight, of the share of incoming weight that is not from errors;
    nodes without incoming edges (errors, tokens) have share 1, and features whose rows were not
    `computed`, (M,) bool, are left out. A graph without influence has nothing to explain and scores 1.
    Nodes' `influence` along the edges, (M,), is computed unless it is given.
    """
    if influence is None:
        influence = node_influence(indptr, indices, weights, target_weights)
    token, error = influence[order.tokens].sum(), influence[order.errors].sum()
    totals = row_totals(indptr, weights)
    from_errors = _weight_from(indptr, indices, weights, order.errors.start, order.errors.stop)
    error_share = np.divide(from_errors, totals, out=np.zeros_like(totals), where=totals > 0)
    mass = influence + target_weights
    if computed is not None:
        mass[order.features] *= computed[order.features]
    replacement = token / (token + error) if token + error > 0 else 1.0
    completeness = 1 - error_share @ mass / mass.sum() if mass.sum() > 0 else 1.0
    return Scores(float(replacement), float(completeness))


@compiled
def _weight_from(indptr, indices, weights, first, stop):
    totals = np.zeros(len(indptr) - 1, np.float64)
    for row in range(len(totals)):
        sources = indices[indptr[row] : indptr[row + 1]]  # ascending
        here = np.searchsorted(sources, first), np.searchsorted(sources, stop)
        for edge in range(indptr[row] + here[0], indptr[row] + here[1]):
            totals[row] += abs(weights[edge])
    return totals

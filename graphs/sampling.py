"""Influence from sampled rows: unbiased estimates, their errors, and what a graph file stores of the draws.

A replicate goes down the layers and draws each feature's row with a known probability p, which depends on earlier draws
only. A drawn row passes on 1/p times the influence that reaches it, another passes on nothing, so that each replicate is
unbiased for the influence of every node. The factors (1/p or 0) of R uncorrelated replicates are all that must be stored:
with them and the edges, every linear function of influence can be estimated again, with its error (docs/influence.md).
Method: Horvitz and Thompson, "A generalization of sampling without replacement from a finite universe" (1952).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError, FileError

from .csr import CSR, absolute_sum
from .influence import spread
from .order import NodeOrder
from .scores import GraphScores, ScoredGraph, error_weights

LEVEL = 0.95
"""Share of intervals that cover the true value."""
ROUNDING = 16  # units in the last place by which influence along the same rows may differ
# The sum over all nodes and replicates is about their number; factors of a hostile file multiply.
IMPOSSIBLE_INFLUENCE = 1e100


class Draws(NamedTuple):
    """The rows that at least one of R replicates drew, and by what each replicate multiplies what they pass on."""

    row_D: np.ndarray
    """Node numbers of the D rows, ascending, int64."""
    factor_DR: np.ndarray
    """1/p where a replicate drew the row, else 0, (D, R) float64; rows that are not listed have 0 in every replicate."""

    def __repr__(self) -> str:
        return f"Draws({len(self.row_D):,} rows, {self.n_replicates} replicates)"

    @property
    def n_replicates(self) -> int:
        """Number of replicates R."""
        return self.factor_DR.shape[1]

    @classmethod
    def of_column(cls, column: pa.Array, n_replicates: int) -> "Draws":
        """Return the draws of R replicates in the column `draws` of a node table."""
        row_D = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        values = column.drop_null().flatten().to_numpy()
        return cls(row_D, values.reshape(len(row_D), n_replicates))

    def column(self, n_nodes: int) -> pa.Array:
        """Return the column `draws` of a node table: a list of R factors for each row that was drawn, null for others."""
        drawn_M = np.zeros(n_nodes, bool)
        drawn_M[self.row_D] = True
        ends = np.concatenate([[0], np.cumsum(drawn_M)]) * self.n_replicates
        values = pa.array(np.ascontiguousarray(self.factor_DR, np.float64).reshape(-1))
        return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values, mask=pa.array(~drawn_M))

    def factors(self, n_nodes: int, replicate: int) -> np.ndarray:
        """Return the factor of every node in one replicate, (M,)."""
        factor_M = np.zeros(n_nodes)
        factor_M[self.row_D] = self.factor_DR[:, replicate]
        return factor_M


class Estimate(NamedTuple):
    """Estimates with their standard errors and intervals: numbers, or arrays of one shape."""

    value: Any
    standard_error: Any
    """Infinite if there is only one replicate."""
    low: Any
    """Lower end of the interval."""
    high: Any


def replicate_influence(
    csr: CSR,
    target_weights: np.ndarray,
    draws: Draws,
    *,
    left_out: np.ndarray | None = None,
    exact_ends: bool = False,
) -> np.ndarray:
    """Return the influence of every node in each replicate, (R, M) float64.

    A drawn row passes on its influence and its weight, times its factor, and another row its weight alone. It is linear in
    the weights; with one replicate whose factors are all 1 it equals `node_influence` to the last bit.

    Args:
        csr: the edges.
        target_weights: weight of every node as a target, (M,).
        draws: the factors of R replicates.
        left_out: as in `node_influence`.
        exact_ends: let drawn rows pass on their weights as they are, without the factor: right where every row that has a
            weight is in `csr`.

    Raises FileError for factors so large that no trace can have drawn them.
    """
    lost = np.zeros(csr.n_rows) if left_out is None else left_out
    index_M = np.full(csr.n_rows, -1)
    index_M[draws.row_D] = np.arange(len(draws.row_D))
    influence_RM = np.zeros((draws.n_replicates, csr.n_rows))
    weights = np.ascontiguousarray(target_weights, np.float64)
    factor_DR = np.array(draws.factor_DR, np.float64)  # not read-only, for which numba would compile once more
    _propagate_replicates(*csr, weights, lost, index_M, factor_DR, exact_ends, influence_RM)
    if not influence_RM.sum() < IMPOSSIBLE_INFLUENCE:
        raise FileError("its draws have factors that no trace has; trace the prompt again")
    return influence_RM


def passed_influence(
    csr: CSR, target_weights: np.ndarray, draws: Draws, *, exact_ends: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each row passes on to its sources, the mean over replicates: of its influence and of its weight, both (M,).

    Arguments are those of `replicate_influence`.
    """
    influence_RM = replicate_influence(csr, target_weights, draws, exact_ends=exact_ends)
    passed_M, ends_M = np.zeros(csr.n_rows), np.array(target_weights, np.float64)
    passed_M[draws.row_D] = (influence_RM[:, draws.row_D].T * draws.factor_DR).mean(axis=1)
    if not exact_ends:
        ends_M[draws.row_D] *= draws.factor_DR.mean(axis=1)
    return passed_M, ends_M


def estimate(value_R: np.ndarray, level: float = LEVEL) -> Estimate:
    """Return the mean of uncorrelated replicates, (R, …), its standard error, and an interval by Student's t distribution.

    Replicates that agree give exactly their value, with standard error 0. `level` is the share of intervals that cover the
    true value.
    """
    n_replicates, difference_R = len(value_R), value_R - value_R[0]
    shift = difference_R.mean(axis=0)
    mean = value_R[0] + shift
    if n_replicates == 1:
        unknown = np.full_like(mean, np.inf)
        return Estimate(mean, unknown, -unknown, unknown)
    difference_R -= shift  # in place: replicates of long prompts are the largest arrays there are
    squares = np.einsum("r...,r...->...", difference_R, difference_R)
    error = np.sqrt(squares / (n_replicates * (n_replicates - 1)))
    half_width = student_quantile(n_replicates, level) * error
    return Estimate(mean, error, mean - half_width, mean + half_width)


def beyond_rounding(low: np.ndarray, high: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of intervals, further apart by what computing the same rows in other batches changes."""
    margin = ROUNDING * np.finfo(dtype).eps
    return low * (1 - margin), high * (1 + margin)


def jackknife(statistic: Callable[[np.ndarray], Any], value_RK: np.ndarray, level: float = LEVEL) -> Estimate:
    """Return a function of the means of replicates, such as a ratio, with the error that leaving out one at a time shows.

    Args:
        statistic: a function of the K means, (K,).
        value_RK: K values in each of R replicates.
        level: share of intervals that cover the true value.
    """
    n_replicates, difference_RK = len(value_RK), value_RK - value_RK[0]  # replicates that agree have no error at all
    value = statistic(value_RK[0] + difference_RK.mean(axis=0))
    if n_replicates == 1:
        return Estimate(value, np.inf, -np.inf, np.inf)
    others_RK = value_RK[0] + (difference_RK.sum(axis=0) - difference_RK) / (n_replicates - 1)
    without_R = np.array([statistic(others_K) for others_K in others_RK])
    error = np.sqrt((n_replicates - 1) * without_R.var(axis=0))
    half_width = student_quantile(n_replicates, level) * error
    return Estimate(value, error, value - half_width, value + half_width)


def student_quantile(n_replicates: int, level: float = LEVEL) -> float:
    """Return how many standard errors an interval from R replicates extends to each side.

    Raises ArgumentError unless `level` is between 0 and 1.
    """
    if isinstance(level, str) or not 0.0 < level < 1.0:
        raise ArgumentError(f"level={level!r}: it is a share of intervals, such as 0.95")
    from scipy.special import stdtrit

    return float(stdtrit(n_replicates - 1, (1 + level) / 2))


def sampled_scores(
    order: NodeOrder,
    csr: CSR,
    target_weights: np.ndarray,
    draws: Draws,
    *,
    influence_RM: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
    graph: ScoredGraph = "traced",
) -> GraphScores:
    """Return estimates of the scores that `graph_scores` would give with all rows, with 95% intervals.

    Arguments are those of `graph_scores` and `replicate_influence`; `influence_RM` is what the latter returns. Sums in
    numerators and denominators are unbiased; the ratios are those of their means.
    """
    lost = np.zeros(order.n_nodes) if left_out is None else left_out
    if influence_RM is None:
        influence_RM = replicate_influence(csr, target_weights, draws, left_out=left_out)
    totals, from_errors = csr.row_totals() + lost, error_weights(order, csr) + lost
    error_share, lost_share = (
        np.divide(part, totals, out=np.zeros_like(totals), where=totals > 0) for part in (from_errors, lost)
    )
    sums_RK = np.empty((draws.n_replicates, 4))
    for r, influence in enumerate(influence_RM):
        passed = (influence + target_weights) * draws.factors(order.n_nodes, r)
        passed[order.logits] = target_weights[order.logits]
        outside = lost_share @ passed
        error = influence[order.errors].sum() + outside
        all_mass = influence.sum() + target_weights.sum() + outside
        sums_RK[r] = influence[order.tokens].sum(), error, error_share @ passed, all_mass
    replacement = _clipped(jackknife(lambda k: k[0] / (k[0] + k[1]) if k[0] + k[1] > 0 else 1.0, sums_RK))
    completeness = _clipped(jackknife(lambda k: 1 - k[2] / k[3] if k[3] > 0 else 1.0, sums_RK))
    return GraphScores(
        replacement.value,
        completeness.value,
        graph,
        (replacement.low, replacement.high),
        (completeness.low, completeness.high),
    )


def _clipped(score: Estimate) -> Estimate:
    """Return the estimate of a score within [0, 1]."""
    value, low, high = (float(np.clip(each, 0.0, 1.0)) for each in (score.value, score.low, score.high))
    return Estimate(value, float(score.standard_error), low, high)


@compiled
def _propagate_replicates(indptr, indices, weights, target_weights, left_out, index, factor, exact_ends, influence):
    for row in range(len(target_weights) - 1, -1, -1):
        draw, weight = index[row], target_weights[row]
        if indptr[row] == indptr[row + 1] or (draw < 0 and weight == 0.0):
            continue
        total = absolute_sum(weights[indptr[row] : indptr[row + 1]]) + left_out[row]
        for replicate in range(len(influence)):
            mass = weight
            if draw >= 0:
                scale = factor[draw, replicate]
                mass = (
                    influence[replicate, row] * scale + weight
                    if exact_ends
                    else (influence[replicate, row] + weight) * scale
                )
            spread(row, mass, total, indptr, indices, weights, influence[replicate])

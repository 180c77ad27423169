"""Metrics of a score against the truth, for one weighting of the rows or for many at once.

Weights have the shape (N,) or (B, N): a replicate of a bootstrap, or a permutation, is a weighting, and all B of them are
computed from one sort. Results have the shape of the weights without the last axis. NaN where a metric is undefined.

Letters: N rows, B weightings, G groups of equal scores.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cotrace.common.errors import ArgumentError

MOST_FALSE = 0.01  # rate of false positives at which true positives are counted
LEAST_NEGATIVES = 500
COVERAGES = np.linspace(0.1, 1, 19)

Array = npt.NDArray[np.float64]


class Ties(NamedTuple):
    """Rows sorted by score, from low to high, and the starts of groups of equal scores."""

    order_N: npt.NDArray[np.intp]
    start_G: npt.NDArray[np.intp]

    def sums(self, weight: Array) -> Array:
        """Return the sum of weights in each group, (..., G)."""
        return np.add.reduceat(weight[..., self.order_N], self.start_G, axis=-1)

    def spread(self, value: Array) -> Array:
        """Return the value of each row's group, (..., N)."""
        row = np.empty(len(self.order_N), np.intp)
        row[self.order_N] = np.repeat(np.arange(len(self.start_G)), np.diff([*self.start_G, len(self.order_N)]))
        return value[..., row]


def ties(score_N: npt.ArrayLike) -> Ties:
    """Return the groups of equal scores. Raises ArgumentError for an empty array, NaN and infinity."""
    score_N = np.asarray(score_N, float)
    if not len(score_N) or not np.isfinite(score_N).all():
        raise ArgumentError("metrics need at least one score, all finite; leave out the rows without a score")
    order_N = np.argsort(score_N, kind="stable")
    new_N = np.diff(score_N[order_N], prepend=-np.inf) > 0
    return Ties(order_N, np.flatnonzero(new_N))


def auroc(score_N: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike) -> Array:
    """Return the area under the ROC curve: how often a positive row scores higher than a negative one; ties count half.

    `positive` and `negative` are the weights of the rows as positive and as negative ones.
    """
    groups = ties(score_N)
    pos_G, neg_G = (groups.sums(np.asarray(weight, float)) for weight in (positive, negative))
    below_G = np.cumsum(neg_G, -1) - neg_G / 2
    return _over((pos_G * below_G).sum(-1), pos_G.sum(-1) * neg_G.sum(-1))


def true_positives(
    score_N: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, most_false: float = MOST_FALSE
) -> Array:
    """Return the largest share of positives above a threshold that at most `most_false` of the negatives reach.

    Raises ArgumentError with fewer than 500 negatives, rows that have a weight as negative ones in any weighting.
    """
    negative = np.asarray(negative, float)
    n_negatives = count_rows(negative)
    if n_negatives < LEAST_NEGATIVES:
        raise ArgumentError(
            f"true positives at {most_false:.0%} false ones need {LEAST_NEGATIVES} negatives, not {n_negatives}; "
            "score more instances"
        )
    groups = ties(-np.asarray(score_N, float))
    tpr_G, fpr_G = (
        _over(np.cumsum(groups.sums(weight), -1), weight.sum(-1)[..., None])
        for weight in (np.asarray(positive, float), negative)
    )
    return np.where(fpr_G <= most_false + 1e-12, tpr_G, 0).max(-1)


def count_rows(weight: npt.ArrayLike) -> int:
    """Return the number of rows that have a weight in any weighting."""
    weight = np.asarray(weight)
    return int((weight.reshape(-1, weight.shape[-1]) > 0).any(0).sum())


def spearman(score_N: npt.ArrayLike, share_N: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """Return Spearman's rank correlation; equal values have their mean rank. NaN where one of the two is constant."""
    weight = np.asarray(weight, float)
    x, y = (_ranks(values, weight) for values in (score_N, share_N))
    x, y = (rank - _mean(rank, weight)[..., None] for rank in (x, y))
    cov, var_x, var_y = (_mean(a * b, weight) for a, b in ((x, y), (x, x), (y, y)))
    return _over(cov, np.sqrt(var_x * var_y))


def brier(probability_N: npt.ArrayLike, share_N: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """Return the mean squared difference between a probability and the share."""
    square_N = (np.asarray(probability_N, float) - np.asarray(share_N, float)) ** 2
    return _mean(square_N, np.asarray(weight, float))


def abstention(
    probability_N: npt.ArrayLike, positive: npt.ArrayLike, negative: npt.ArrayLike, coverage_C: Array = COVERAGES
) -> Array:
    """Return the share of right verdicts, (..., C), when only the surest `coverage` of the rows gets one.

    The verdict is positive from a probability of 1/2, which counts as half right; the surest rows are farthest from it. Rows
    that are equally sure are taken in random order, in expectation.
    """
    probability_N = np.asarray(probability_N, float)
    positive, negative = np.asarray(positive, float), np.asarray(negative, float)
    verdict_N = (np.sign(probability_N - 0.5) + 1) / 2
    groups = ties(-np.abs(probability_N - 0.5))
    right_G = groups.sums(positive * verdict_N + negative * (1 - verdict_N))
    all_G = groups.sums(positive + negative)
    right, total = (np.concatenate([np.zeros((*a.shape[:-1], 1)), np.cumsum(a, -1)], -1) for a in (right_G, all_G))
    flat = zip(right.reshape(-1, right.shape[-1]), total.reshape(-1, total.shape[-1]), strict=True)
    curves = [_over(np.interp(coverage_C * t[-1], t, r), coverage_C * t[-1]) for r, t in flat]
    return np.array(curves).reshape(*right.shape[:-1], len(coverage_C))


def _ranks(values_N: npt.ArrayLike, weight: Array) -> Array:
    groups = ties(values_N)
    sum_G = groups.sums(weight)
    return groups.spread(np.cumsum(sum_G, -1) - sum_G / 2)


def _mean(values: Array, weight: Array) -> Array:
    return _over((values * weight).sum(-1), weight.sum(-1))


def _over(a: Array, b: Array) -> Array:
    """Return a / b, and NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)

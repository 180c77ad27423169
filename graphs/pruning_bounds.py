"""Bounds of pruning for a graph without some of its rows: the nodes that certainly pass a threshold, or fail it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .prune import score_at_share

ROUNDING = 1e-12  # relative error of sums of influences


class PruningBounds(NamedTuple):
    """Masks of the nodes that pass and that fail a node threshold, for any contents of the missing rows."""

    inside: np.ndarray
    """Nodes that certainly pass, (M,) bool."""
    outside: np.ndarray
    """Nodes that certainly fail, (M,) bool."""

    def __repr__(self) -> str:
        return f"PruningBounds({', '.join(f'{count} {name}' for name, count in self.counts().items())})"

    @property
    def undecided(self) -> np.ndarray:
        """Nodes that may pass or fail, depending on the missing rows, (M,) bool."""
        return ~(self.inside | self.outside)

    def counts(self) -> dict[str, int]:
        """Return the numbers of nodes that are inside, outside and undecided."""
        masks = {"inside": self.inside, "outside": self.outside, "undecided": self.undecided}
        return {name: int(mask.sum()) for name, mask in masks.items()}


def certainty(influence_M: np.ndarray, bound_M: np.ndarray, node_threshold: float) -> PruningBounds:
    """Return which nodes certainly reach the score at which the cumulative share is the node threshold, or cannot.

    The true influence of every node is between `influence` and `influence + bound`, both (M,). Over all influences
    within these limits, the score at the share (see `prune.select`) is at least `low` and at most `high`. A node with
    at least `high` is inside; one that cannot reach `low` is outside.
    """
    low, high = _score_limits(influence_M, influence_M + bound_M, node_threshold)
    return PruningBounds(influence_M >= high, influence_M + bound_M < low)


def sampling_record(
    influence_M: np.ndarray, low_M: np.ndarray, high_M: np.ndarray, node_threshold: float
) -> dict[str, Any]:
    """Return what the errors of estimates mean for a node threshold, for the record of a pruning.

    "ranked" is the number of nodes whose estimate passes the threshold, "uncertain" that of all nodes for which chance decides: the
    score at the threshold lies inside of their intervals, from `low_M` to `high_M`. "gap" is the distance of the last node that
    passes to the first that does not, and "half_width" half of the former's interval; both are shares of the score.
    """
    score = score_at_share(influence_M, node_threshold)
    passes_M = influence_M >= score
    if not passes_M.any():
        return {"ranked": 0, "uncertain": 0, "gap": 0.0, "half_width": 0.0}
    last = np.flatnonzero(passes_M)[influence_M[passes_M].argmin()]
    return {
        "ranked": int(passes_M.sum()),
        "uncertain": int(((low_M < score) & (score < high_M)).sum()),
        "gap": float(1 - influence_M[~passes_M].max(initial=0.0) / score),
        "half_width": float((high_M - low_M)[last] / 2 / score),
    }


def _score_limits(least_M: np.ndarray, most_M: np.ndarray, share: float) -> tuple[float, float]:
    """Return limits of the score at a share, the largest score for which the nodes that reach it have that share.

    That is the largest score with `(1 - share) * sum of nodes that reach it >= share * sum of the rest`. For each
    score, every node is set to the end of its limits that makes the difference smallest, or largest.
    """
    scores = np.unique(np.concatenate([least_M, most_M]))
    scores = scores[scores > 0]
    if not len(scores):
        return np.inf, np.inf

    def is_surely_reached(score: float) -> bool:
        reaches, cannot = least_M >= score, most_M < score
        between = len(least_M) - reaches.sum() - cannot.sum()
        rest = most_M[cannot].sum() + between * score
        return bool(reaches.any()) and (1 - share) * least_M[reaches].sum() >= share * rest * (1 + ROUNDING)

    def may_be_reached(score: float) -> bool:
        can = most_M >= score
        return (1 - share) * most_M[can].sum() * (1 + ROUNDING) >= share * least_M[~can].sum()

    low, high = _last(scores, is_surely_reached), _last(scores, may_be_reached)
    return float(np.nextafter(0, 1)) if low is None else low, float(scores[0]) if high is None else high


def _last(scores: np.ndarray, holds: Callable[[float], bool]) -> float | None:
    """Return the largest of ascending scores for which a condition holds that holds for all smaller ones too."""
    first, after = 0, len(scores)
    while first < after:
        middle = (first + after) // 2
        first, after = (middle + 1, after) if holds(scores[middle]) else (first, middle)
    return float(scores[first - 1]) if first else None

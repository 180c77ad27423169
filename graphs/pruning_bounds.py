"""What a graph without some of its rows says for certain: which nodes are above a pruning threshold, or below it."""

from typing import NamedTuple

import numpy as np


class PruningBounds(NamedTuple):
    """Nodes, (M,) bool: at the threshold whatever the missing rows hold, below it whatever they hold, and the rest."""

    inside: np.ndarray
    outside: np.ndarray

    @property
    def undecided(self) -> np.ndarray:
        """Nodes of which the missing rows decide."""
        return ~(self.inside | self.outside)

    def counts(self) -> dict[str, int]:
        """How many nodes there are of each."""
        masks = {"inside": self.inside, "outside": self.outside, "undecided": self.undecided}
        return {name: int(mask.sum()) for name, mask in masks.items()}


def certainty(influence_M: np.ndarray, bound_M: np.ndarray, node_threshold: float) -> PruningBounds:
    """Which nodes' influence is certain to be at or below the one at which a cumulative share is reached.

    Every node's influence lies between `influence` and `influence + bound`. Of all influences within
    these limits, at once, the score at the share (see `prune.select`) is at least `low` and at most
    `high`: a node that has at least `high` is inside, one that cannot reach `low` outside.
    """
    low, high = _score_limits(influence_M, influence_M + bound_M, node_threshold)
    return PruningBounds(influence_M >= high, influence_M + bound_M < low)


ROUNDING = 1e-12  # relative: what sums of influences may be off


def _score_limits(least_M: np.ndarray, most_M: np.ndarray, share: float) -> tuple[float, float]:
    """Limits of the score at a share. It is the largest score for which those that reach it hold the share of all.

    That is: `(1 - share) * sum of what reaches it - share * sum of the rest` is not negative. For each
    score every node is taken at the end of its limits that makes this smallest, or largest.
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


def _last(scores: np.ndarray, holds) -> float | None:
    """The largest of ascending scores for which something holds that holds for all smaller ones too."""
    first, after = 0, len(scores)
    while first < after:
        middle = (first + after) // 2
        first, after = (middle + 1, after) if holds(scores[middle]) else (first, middle)
    return float(scores[first - 1]) if first else None

"""How alike two lists of influences are."""

import math

import numpy as np

MIN_RANKED = 3  # values of which a rank correlation says something


def weighted_jaccard(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Return the sum of the smaller of each two values over the sum of the larger: 1 for equal lists, 0 for disjoint ones.

    Values are not negative. Two lists of zeros are equal. The sums are exactly rounded, so that their order does not matter.
    """
    larger = math.fsum(np.maximum(a_N, b_N).tolist())
    return math.fsum(np.minimum(a_N, b_N).tolist()) / larger if larger > 0 else 1.0


def rank_correlation(a_N: np.ndarray, b_N: np.ndarray) -> float | None:
    """Return Spearman's rank correlation of two lists; None for fewer than `MIN_RANKED` values, and where all are equal."""
    if len(a_N) < MIN_RANKED:
        return None
    a, b = (ranks - ranks.mean() for ranks in (_ranks(a_N), _ranks(b_N)))
    size = math.sqrt(float(a @ a) * float(b @ b))
    return max(-1.0, min(1.0, float(a @ b) / size)) if size > 0 else None


def _ranks(values_N: np.ndarray) -> np.ndarray:
    """Return the rank of every value, the mean of theirs for equal ones."""
    _, number, count = np.unique(values_N, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[number.reshape(-1)]

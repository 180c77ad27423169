"""Weights that balance the two labels, bootstrap weights of clustered rows, intervals, and permutation nulls.

Letters: N rows, B replicates.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.clear import CLEAR_HIGH, CLEAR_LOW

LEVEL = 0.95

Array = npt.NDArray[np.float64]


class Clusters(NamedTuple):
    """Rows that are drawn together, and the strata within which clusters are drawn.

    Args:
        of_N: (N,) number of each row's cluster.
        stratum_N: (N,) number of each row's stratum; a cluster lies in one stratum.
    """

    of_N: npt.NDArray
    stratum_N: npt.NDArray


def balanced(share_N: npt.ArrayLike, group_N: npt.NDArray, *, clear: bool = False) -> tuple[Array, Array]:
    """Return the weights of the rows as positive and as negative ones, (N,) each, that add up to 1 each in every group.

    A row is positive with its share and negative with the rest. With `clear` a row is one of the two where its label is clear,
    and has no weight elsewhere. Rows without a share, and groups that lack one side, have no weight. Where a group is a
    transcript that several models answer, a score that reads the text alone has an AUROC of exactly 0.5 in these weights.
    """
    share_N, n_groups = np.asarray(share_N, float), int(np.max(group_N, initial=-1)) + 1
    if clear:
        share_N = np.where(share_N <= CLEAR_LOW, 0.0, np.where(share_N >= CLEAR_HIGH, 1.0, np.nan))
    sides = np.nan_to_num([share_N, 1 - share_N])
    sums = np.array([np.bincount(group_N, side_N, n_groups) for side_N in sides], float)
    sums[:, (sums < 1e-9).any(0)] = np.inf
    positive_N, negative_N = sides / sums[:, group_N]
    return positive_N, negative_N


def bootstrap_weights(clusters: Sequence[Clusters], n_replicates: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return the weights of rows in each replicate, (B, N): the product of the weights of their clusters.

    Several kinds of clusters are crossed (Owen 2007, the pigeonhole bootstrap). In a stratum of n clusters n − 1 are drawn,
    and weigh n / (n − 1), so that variances are right for few clusters (Rao and Wu 1988). The only cluster of a stratum is
    always drawn: its own variation cannot be known.
    """
    if n_replicates < 2:
        raise ArgumentError(f"{n_replicates} replicates give no interval; use at least 2")
    random = np.random.default_rng(seed)
    weight_BN = np.ones((n_replicates, len(clusters[0].of_N)), np.float32)
    for kind in clusters:
        _, first_C, cluster_N = np.unique(kind.of_N, return_index=True, return_inverse=True)
        weight_BC = np.ones((n_replicates, len(first_C)), np.float32)
        stratum_C = kind.stratum_N[first_C]
        for stratum in np.unique(stratum_C):
            columns = np.flatnonzero(stratum_C == stratum)
            n = len(columns)
            if n > 1:
                drawn = random.multinomial(n - 1, np.full(n, 1 / n), size=n_replicates)
                weight_BC[:, columns] = drawn * (n / (n - 1))
        weight_BN *= weight_BC[:, cluster_N]
    return weight_BN


def interval(value: Any, replicate_B: npt.ArrayLike, level: float = LEVEL) -> dict[str, float | None]:
    """Return a value with its percentile interval as {"value", "low", "high"}; None for what is undefined."""
    replicate_B = np.asarray(replicate_B, float)
    known = replicate_B[np.isfinite(replicate_B)]
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) > 1 else (np.nan, np.nan)
    found = {"value": float(value), "low": float(low), "high": float(high)}
    return {name: number if np.isfinite(number) else None for name, number in found.items()}


def permuted_shares(
    share_N: npt.ArrayLike,
    block_N: npt.NDArray,
    unit_N: npt.NDArray,
    item_N: npt.NDArray,
    n_permutations: int,
    seed: int = 0,
) -> Array:
    """Return shares, (B, N), where the units of a block have exchanged theirs, item by item.

    With tasks as blocks, models as units and problems as items, a model gets the truth of another model of its task on the
    same problem: the null of a score that has nothing to do with the mechanism, however the rows of one model depend on each
    other. NaN where the other unit lacks the item.
    """
    share_N, random = np.asarray(share_N, float), np.random.default_rng(seed)
    out_BN = np.full((n_permutations, len(share_N)), np.nan)
    for block in np.unique(block_N):
        rows = np.flatnonzero(block_N == block)
        units, unit_R = np.unique(unit_N[rows], return_inverse=True)
        items, item_R = np.unique(item_N[rows], return_inverse=True)
        grid_UI = np.full((len(units), len(items)), np.nan)
        grid_UI[unit_R, item_R] = share_N[rows]
        for replicate in range(n_permutations):
            out_BN[replicate, rows] = grid_UI[random.permutation(len(units))[unit_R], item_R]
    return out_BN


def p_value(value: float, null_B: npt.ArrayLike) -> float:
    """Return the one-sided p-value: the share of the null that is at least as large, the value itself included."""
    known = np.asarray(null_B, float)
    known = known[np.isfinite(known)]
    return float((1 + (known >= value - 1e-12).sum()) / (1 + len(known)))

"""Encode with one compiled pass over every tile."""

import numba
import numpy as np
import torch
from torch import Tensor

from cotrace.common.compiled import compiled, compiled_in_parallel, shares

from . import streaming
from .streaming import ActiveEntries

BLOCK_ENTRIES = 32  # skipped together where none is active
PART_ENTRIES = 8  # of a block, likewise
GROUP_ENTRIES = 16  # only the largest of each group is ranked for a first bound of TopK


def encode(
    x_PD: Tensor, w_enc_DF: Tensor, bias_F: Tensor, threshold_F: Tensor | None, k: int | None, batch_k: int | None
):
    """Return active features; see `api.encode`."""
    if k is None:
        return streaming.encode_with(NumbaTileScanner, x_PD, w_enc_DF, bias_F, threshold_F, k, batch_k)
    return streaming.encode(NumbaTopKSelector(x_PD, bias_F, k), x_PD, w_enc_DF)


# The scanners compute what they can before the first tile: between two tiles, Python's data is not in the caches.


class FeatureConstants:
    """The constants of every feature that a scan needs, and scratch memory, reused since fresh pages are slow."""

    def __init__(self, bias_F: Tensor, least_F: Tensor):
        bias, least = _array(bias_F), _array(least_F)
        streaming.require_finite(bool(np.isfinite(bias).all()))  # otherwise no shift would separate active entries
        # For a first test `product + shift > bound` that no active entry fails, however it is rounded.
        shift = bias - least + 4 * np.finfo(bias.dtype).eps * (abs(bias) + least)
        self.of_features_3F = np.stack([bias, least, shift])
        self.room = np.empty(0, np.int32)

    def columns(self, product: np.ndarray) -> np.ndarray:
        """Return scratch memory for the column of every entry of a tile."""
        if len(self.room) < product.size:
            self.room = np.empty(product.size, np.int32)
        return self.room


class NumbaTileScanner(FeatureConstants):
    """Finds the active entries of a tile; see `streaming.TileScanner`."""

    def __call__(self, product_pf: Tensor, positions: slice, features: slice, bound_P: Tensor | None) -> ActiveEntries:
        """Scan with all threads; each moves the entries that it finds to the front of its rows."""
        product, count_p = _array(product_pf), np.empty(len(product_pf), np.int64)
        bound_p = np.zeros(len(product), product.dtype) if bound_P is None else _array(bound_P[positions])
        columns, bounds = self.columns(product), _shares(len(product))
        bias, least, shift = self.of_features_3F[:, features]
        n_found = _scan(product, bias, least, shift, bound_p, columns, count_p, bounds)
        streaming.require_finite(n_found.min(initial=0) >= 0)
        starts = bounds[:-1] * product.shape[1]
        fronts = [slice(start, start + n) for start, n in zip(starts, n_found, strict=True)]
        feature_n = np.concatenate([columns[front] for front in fronts], dtype=np.int64) + features.start
        z_n = np.concatenate([product.reshape(-1)[front] for front in fronts])
        return ActiveEntries(
            torch.from_numpy(count_p), torch.from_numpy(feature_n), torch.from_numpy(z_n).to(product_pf)
        )


class NumbaTopKSelector(FeatureConstants):
    """Selects for TopK: keeps the largest entries of each position, in order of features, and a bound for later ones.

    There is room for 2k entries of a position: the k largest are selected only when it is full.
    """

    def __init__(self, x_PD: Tensor, bias_F: Tensor, k: int):
        super().__init__(bias_F, torch.zeros_like(bias_F))
        self.like, self.k = x_PD, k
        self.z_Pr = np.empty((len(x_PD), 2 * k), self.of_features_3F.dtype)
        self.feature_Pr = np.empty((len(x_PD), 2 * k), np.int64)
        self.count_P = np.zeros(len(x_PD), np.int64)
        self.bound_P = np.zeros(len(x_PD), self.of_features_3F.dtype)

    def add(self, product_pf: Tensor, positions: slice, features: slice) -> None:
        """Replace smaller entries by those of a tile."""
        product, count_p, bound_p = _array(product_pf), self.count_P[positions], self.bound_P[positions]
        largest, bounds = (self.z_Pr[positions], self.feature_Pr[positions]), _shares(len(product))
        of_features, columns = tuple(self.of_features_3F[:, features]), self.columns(product)  # each contiguous
        _scan_largest(product, of_features, columns, features.start, self.k, *largest, count_p, bound_p, bounds)
        streaming.require_finite(count_p.min(initial=0) >= 0)

    def end_of_features(self) -> None:
        """Do nothing: a position never takes more memory than 2k entries."""

    def result(self) -> ActiveEntries:
        """Return the entries of all positions, one after the other."""
        _keep_largest(self.k, self.z_Pr, self.feature_Pr, self.count_P, _shares(len(self.count_P)))
        used_Pk = np.arange(self.k) < self.count_P[:, None]
        z_n = torch.from_numpy(self.z_Pr[:, : self.k][used_Pk])
        feature_n = torch.from_numpy(self.feature_Pr[:, : self.k][used_Pk])
        return ActiveEntries(torch.from_numpy(self.count_P), feature_n, z_n.to(self.like))


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array; numba has no bfloat16, so that becomes float32."""
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()


def _shares(n_rows: int) -> np.ndarray:
    """Return the bounds of every thread's rows."""
    return shares(range(n_rows + 1), torch.get_num_threads())


@compiled_in_parallel
def _scan(product, bias, least, shift, bound, columns, count, shares):
    """Move the active entries of every share of rows to its front; return their number, or -1 where z is not finite."""
    width = product.shape[1]
    entries, n_found = product.reshape(-1), np.zeros(len(shares) - 1, np.int64)
    for share in numba.prange(len(shares) - 1):
        blocks, first = _room_for_blocks(width), shares[share] * width
        for row in range(shares[share], shares[share + 1]):
            before = n_found[share]
            n = _scan_row(
                product[row], bias, least, shift, bound[row], blocks, entries[first:], columns[first:], before
            )
            count[row], n_found[share] = n - before, n
            if n < 0:
                break
    return n_found


@compiled
def _room_for_blocks(width):
    """Return memory for the first entries of all blocks, and behind them of all their parts."""
    n_blocks = -(-width // BLOCK_ENTRIES)
    return np.empty(n_blocks * (1 + BLOCK_ENTRIES // PART_ENTRIES), np.int32)


@compiled
def _scan_row(product, bias, least, shift, bound, blocks, z_n, column_n, n):
    """Append active entries to the first n and return their new number; -1 where one is not finite.

    No branch depends on where they are: it would be mispredicted.
    """
    n_blocks = 0
    for first in range(0, len(product), BLOCK_ENTRIES):
        last = min(first + BLOCK_ENTRIES, len(product))
        blocks[n_blocks] = first
        n_blocks += 1 if _may_have_active(product[first:last], shift[first:last], bound) else 0
    parts, n_parts = blocks[n_blocks:], 0
    for block in blocks[:n_blocks]:
        for first in range(block, min(block + BLOCK_ENTRIES, len(product)), PART_ENTRIES):
            last = min(first + PART_ENTRIES, len(product))
            parts[n_parts] = first
            n_parts += 1 if _may_have_active(product[first:last], shift[first:last], bound) else 0
    bad, largest = False, np.finfo(product.dtype).max
    for first in parts[:n_parts]:
        for c in range(first, min(first + PART_ENTRIES, len(product))):
            z = product[c] + bias[c]
            bad |= not abs(z) <= largest
            column_n[n], z_n[n] = c, z
            n += 1 if (z > least[c]) & (z > bound) else 0
    return -1 if bad else n


@compiled
def _may_have_active(product, shift, bound):
    """Return whether any entry may be active or is not finite; a single flag, so that the compiler vectorises it."""
    any_is, lowest = False, -np.finfo(product.dtype).max
    for c in range(len(product)):
        any_is |= (product[c] + shift[c] > bound) | (not product[c] >= lowest)
    return any_is


@compiled_in_parallel
def _scan_largest(product, of_features, columns, first_feature, k, largest_z, largest_feature, count, bound, shares):
    """Add every row's entries to its largest; set a count of -1 where z is not finite."""
    width, room = product.shape[1], largest_z.shape[1]
    bias, least, shift = of_features
    for share in numba.prange(len(shares) - 1):
        blocks, column = _room_for_blocks(width), columns[shares[share] * width :]
        all_z, all_feature = np.empty(room + width, product.dtype), np.empty(room + width, np.int64)
        for row in range(shares[share], shares[share + 1]):
            z, kept_z, kept_feature, n_kept = product[row], largest_z[row], largest_feature[row], count[row]
            if n_kept < k and bound[row] == 0:
                bound[row] = _bound(z, bias, k, all_z)
            n = _scan_row(z, bias, least, shift, bound[row], blocks, z, column, 0)
            if n_kept + n <= room:
                for i in range(n):
                    kept_z[n_kept + i], kept_feature[n_kept + i] = z[i], first_feature + column[i]
                count[row] = n_kept + n if n >= 0 else n
                continue
            all_z[:n_kept], all_feature[:n_kept] = kept_z[:n_kept], kept_feature[:n_kept]
            for i in range(n):
                all_z[n_kept + i], all_feature[n_kept + i] = z[i], first_feature + column[i]
            count[row] = _keep(all_z[: n_kept + n], all_feature, kept_z[:k], kept_feature[:k])
            bound[row] = kept_z[:k].min()


@compiled_in_parallel
def _keep_largest(k, largest_z, largest_feature, count, shares):
    """Leave at most k entries of every row."""
    for share in numba.prange(len(shares) - 1):
        for row in range(shares[share], shares[share + 1]):
            z, feature, n = largest_z[row], largest_feature[row], count[row]
            if n > k:
                count[row] = _keep(z[:n], feature, z[:k], feature[:k])


@compiled
def _bound(product, bias, k, largest):
    """Return a value just below about the k-th largest group maximum; if it is not 0, at least k entries exceed it."""
    n_groups = len(product) // GROUP_ENTRIES
    zero = product.dtype.type(0)
    if n_groups < k:
        return zero
    for group in range(n_groups):
        largest[group] = zero
    for first in range(0, n_groups * GROUP_ENTRIES, n_groups):
        for group in range(n_groups):
            z = product[first + group] + bias[first + group]
            largest[group] = z if z > largest[group] else largest[group]
    kth = _kth_largest(largest[:n_groups], k, k + k // 8)
    return np.nextafter(kth, zero) if kth > zero else zero


@compiled
def _kth_largest(z, k, most):
    """Return the k-th largest of at least k values from 0 up, by bisection of its range, which vectorises well.

    With `most` above k, return any value that k to `most` values reach.
    """
    low, high, half = z.dtype.type(0), z.max(), z.dtype.type(0.5)  # k values reach low; fewer than k exceed high
    while low < high:
        middle = low + (high - low) * half
        middle = middle if middle > low else high  # where there is nothing between
        n_reach = 0
        for i in range(len(z)):
            n_reach += 1 if z[i] >= middle else 0
        if k <= n_reach <= most:
            return _least_from(z, middle, high) if most == k else middle
        if n_reach > k:
            low = middle
        else:
            high = np.nextafter(middle, low)
    return low


@compiled
def _least_from(z, low, high):
    """Return the least value from low up, at most high."""
    for i in range(len(z)):
        value = z[i] if z[i] >= low else high
        high = value if value < high else high
    return high


@compiled
def _keep(z, feature, kept_z, kept_feature):
    """Move the largest entries, of equal ones the first, to `kept_z` until it is full; return their number."""
    n, n_equal = 0, len(kept_z)
    smallest = _kth_largest(z, n_equal, n_equal)
    for i in range(len(z)):
        n_equal -= 1 if z[i] > smallest else 0
    for i in range(len(z)):
        equal = z[i] == smallest
        if z[i] > smallest or (equal and n_equal > 0):
            n_equal -= 1 if equal else 0
            kept_z[n], kept_feature[n] = z[i], feature[i]
            n += 1
    return n

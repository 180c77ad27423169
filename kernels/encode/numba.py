"""Encode with one compiled pass over every tile."""

import functools

import numba
import numpy as np
import torch
from torch import Tensor

from ..compiled import compiled, compiled_in_parallel, shares
from . import streaming

BLOCK, PART = 128, 8  # entries that are skipped at once where none is active, and within those that are not
GROUP = 16  # entries whose largest stands for them when a first bound for TopK is sought


def encode(
    x_PD: Tensor, w_enc_DF: Tensor, bias_F: Tensor, threshold_F: Tensor | None, k: int | None, batch_k: int | None
):
    """Active features; see `api.encode`."""
    if k is None:
        return streaming.encode_with(Compact(), x_PD, w_enc_DF, bias_F, threshold_F, k, batch_k)
    return streaming.encode(Heaps(x_PD, k), x_PD, w_enc_DF, bias_F)


class Compact:
    """Finds the active entries of tiles; see `streaming.Compact`. Keeps memory from tile to tile: fresh pages cost."""

    def __init__(self) -> None:
        self.room = np.empty(0, np.int32)

    def __call__(self, product_pf: Tensor, bias_f: Tensor, least_f: Tensor, bound_p: Tensor | None) -> streaming.Found:
        """Active entries of one tile."""
        product, bias, least = _array(product_pf), _array(bias_f), _array(least_f)
        streaming.require_finite(bool(np.isfinite(bias).all()))  # else no shift would tell what is active
        bound = np.zeros(len(product), product.dtype) if bound_p is None else _array(bound_p)
        if len(self.room) < product.size:
            self.room = np.empty(product.size, np.int32)
        column, count = self.room[: product.size].reshape(product.shape), np.empty(len(product), np.int64)
        # One number to add and a comparison with the bound, that no active entry fails whatever is rounded.
        shift = bias - least + 4 * np.finfo(product.dtype).eps * (abs(bias) + least)
        _scan(product, bias, least, shift, bound, column, count, _rows(len(product), torch.get_num_threads()))
        streaming.require_finite(bool((count >= 0).all()))
        feature, z = np.empty(count.sum(), np.int64), np.empty(count.sum(), product.dtype)
        _pack(column, product, count, feature, z)
        return streaming.Found(torch.from_numpy(count), torch.from_numpy(feature), torch.from_numpy(z).to(product_pf))


class Heaps:
    """TopK: a heap for each position of the largest values so far, the smallest at its root."""

    def __init__(self, x_PD: Tensor, k: int):
        self.like, self.k = x_PD, k
        self.z = np.empty((len(x_PD), k), np.float64 if x_PD.dtype == torch.float64 else np.float32)
        self.feature = np.empty((len(x_PD), k), np.int64)
        self.count = np.zeros(len(x_PD), np.int64)

    def add(self, product_pf: Tensor, bias_f: Tensor, positions: slice, features: slice) -> None:
        """Replace the smallest by larger ones."""
        product, bias = _array(product_pf), _array(bias_f)
        z, feature, count = self.z[positions], self.feature[positions], self.count[positions]
        _scan_largest(product, bias, features.start, z, feature, count, _rows(len(product), torch.get_num_threads()))
        streaming.require_finite(bool((count >= 0).all()))

    def end_of_features(self) -> None:
        """Nothing to do: heaps do not grow."""

    def result(self) -> streaming.Found:
        """The heaps, each sorted by feature."""
        unused = np.arange(self.k) >= self.count[:, None]
        order = np.argsort(np.where(unused, np.iinfo(np.int64).max, self.feature), axis=1)
        feature, z = (np.take_along_axis(values, order, 1)[~unused] for values in (self.feature, self.z))
        return streaming.Found(
            torch.from_numpy(self.count), torch.from_numpy(feature), torch.from_numpy(z).to(self.like)
        )


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor as numpy sees it; numba knows no bfloat16."""
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()


@functools.lru_cache(maxsize=16)
def _rows(n_rows: int, n_threads: int) -> np.ndarray:
    """Every thread's rows."""
    return shares(range(n_rows + 1), n_threads)


@compiled
def _worth_a_look(product, shift, bound):
    """Whether any entry may be active, or is not finite: one flag, which the compiler makes of many entries at once."""
    any_is, lowest = False, -np.finfo(product.dtype).max
    for c in range(len(product)):
        any_is |= (product[c] + shift[c] > bound) | (not product[c] >= lowest)
    return any_is


@compiled_in_parallel
def _scan(product, bias, least, shift, bound, column, count, shares):
    """Active entries of every row, moved to its front; a count of -1 where z is not finite."""
    for share in numba.prange(len(shares) - 1):
        for row in range(shares[share], shares[share + 1]):
            count[row] = _scan_row(product[row], bias, least, shift, bound[row], column[row])


@compiled
def _scan_row(product, bias, least, shift, bound, column):
    n = 0
    for first in range(0, len(product), BLOCK):
        last = min(first + BLOCK, len(product))
        if _worth_a_look(product[first:last], shift[first:last], bound):
            for begin in range(first, last, PART):
                end = min(begin + PART, last)
                if _worth_a_look(product[begin:end], shift[begin:end], bound):
                    n = _take(product, bias, least, bound, column, begin, end, n)
                    if n < 0:
                        return -1
    return n


@compiled
def _take(product, bias, least, bound, column, begin, end, n):
    """Move some active entries to the front, behind the n that are there; -1 where one is not finite."""
    bad, largest = False, np.finfo(product.dtype).max
    part, its_bias, its_least = product[begin:end], bias[begin:end], least[begin:end]
    for i in range(len(part)):  # without a branch, which would be mispredicted; n never passes begin + i
        z = part[i] + its_bias[i]
        bad |= not abs(z) <= largest
        column[n], product[n] = begin + i, z
        n += 1 if (z > its_least[i]) & (z > bound) else 0
    return -1 if bad else n


@compiled
def _pack(column, z, count, feature_n, z_n):
    """The fronts of all rows, one after the other."""
    n = 0
    for row in range(len(count)):
        for i in range(count[row]):
            feature_n[n], z_n[n] = column[row, i], z[row, i]
            n += 1


@compiled_in_parallel
def _scan_largest(product, bias, first_feature, heap_z, heap_feature, count, shares):
    """Offer every row to its heap; a count of -1 where z is not finite."""
    for share in numba.prange(len(shares) - 1):
        for row in range(shares[share], shares[share + 1]):
            count[row] = _offer(product[row], bias, first_feature, heap_z[row], heap_feature[row], count[row])


@compiled
def _offer(product, bias, first_feature, heap_z, heap_feature, n):
    """Entries of the heap after a row's have been offered to it, of which there were n."""
    k, largest = len(heap_z), np.finfo(product.dtype).max
    bound = heap_z[0] if n == k else _bound(product, bias, k)
    for first in range(0, len(product), PART):
        last = min(first + PART, len(product))
        if _worth_a_look(product[first:last], bias[first:last], bound):
            for c in range(first, last):
                z = product[c] + bias[c]
                if not abs(z) <= largest:
                    return -1
                if z > bound:
                    _put(heap_z, heap_feature, n, z, first_feature + c)
                    n = min(n + 1, k)
                    bound = max(bound, heap_z[0]) if n == k else bound
    return n


@compiled
def _bound(product, bias, k):
    """A value just below the k-th largest of what stands for groups of entries: k entries exceed it, if it is not 0."""
    n_groups = len(product) // GROUP
    zero = np.zeros_like(bias[:1])[0]
    if n_groups < k:
        return zero
    largest = np.zeros_like(bias[:n_groups])
    for first in range(0, n_groups * GROUP, n_groups):
        for group in range(n_groups):
            z = product[first + group] + bias[first + group]
            largest[group] = z if z > largest[group] else largest[group]
    kth = np.partition(largest, n_groups - k)[n_groups - k]
    return np.nextafter(kth, zero) if kth > 0 else zero


@compiled
def _put(heap_z, heap_feature, n, z, feature):
    """Into a heap of n entries, in place of its root if it is full; entries come in ascending order of feature."""
    k = len(heap_z)
    if n < k:
        i = n
        while i > 0:  # up from the last leaf
            parent = (i - 1) // 2
            if not _goes_before(z, feature, heap_z[parent], heap_feature[parent]):
                break
            heap_z[i], heap_feature[i] = heap_z[parent], heap_feature[parent]
            i = parent
    else:
        i = 0
        while 2 * i + 1 < k:  # down from the root
            child = 2 * i + 1
            if child + 1 < k and _goes_before(
                heap_z[child + 1], heap_feature[child + 1], heap_z[child], heap_feature[child]
            ):
                child += 1
            if not _goes_before(heap_z[child], heap_feature[child], z, feature):
                break
            heap_z[i], heap_feature[i] = heap_z[child], heap_feature[child]
            i = child
    heap_z[i], heap_feature[i] = z, feature


@compiled
def _goes_before(z, feature, other_z, other_feature):
    """Order in which entries are given up: the smallest, of equal ones the last feature."""
    return z < other_z or (z == other_z and feature > other_feature)

"""Encode with one compiled pass over every tile."""

import numba
import numpy as np
import torch
from torch import Tensor

from ..compiled import compiled, compiled_in_parallel, shares
from . import streaming

BLOCK = 64  # entries that are skipped at once where none is active
GROUP = 16  # entries whose largest stands for them when a first bound for TopK is sought


def encode(
    x_PD: Tensor, w_enc_DF: Tensor, bias_F: Tensor, threshold_F: Tensor | None, k: int | None, batch_k: int | None
):
    """Active features; see `api.encode`."""
    picker = streaming.above(compact, x_PD, threshold_F, None, batch_k) if k is None else Largest(x_PD, k)
    return streaming.encode(picker, x_PD, w_enc_DF, bias_F)


def compact(product_pf: Tensor, bias_f: Tensor, threshold_f: Tensor | None, bound_p: Tensor | None) -> streaming.Found:
    """Active entries of a tile; see `streaming.Compact`."""
    product, bias = _array(product_pf), _array(bias_f)
    least = np.zeros_like(bias) if threshold_f is None else _array(threshold_f.clamp(min=0))
    bound = np.zeros(len(product), product.dtype) if bound_p is None else _array(bound_p)
    column, count = np.empty(product.shape, np.int32), np.empty(len(product), np.int64)
    _scan(product, bias, least, bound, column, count, _rows(len(product)))
    _check(count)
    feature, z = np.empty(count.sum(), np.int64), np.empty(count.sum(), product.dtype)
    _pack(column, product, count, feature, z)
    return streaming.Found(torch.from_numpy(count), torch.from_numpy(feature), torch.from_numpy(z).to(product_pf))


class Largest:
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
        _scan_largest(product, bias, features.start, z, feature, count, _rows(len(product)))
        _check(count)

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


def _rows(n_rows: int) -> np.ndarray:
    return shares(range(n_rows + 1), torch.get_num_threads())


def _check(count: np.ndarray) -> None:
    if (count < 0).any():
        raise ValueError("NaN or infinite pre-activations")


@compiled
def _above(product, bias, least, bound):
    """How many entries are active, or -1 where one is not finite."""
    hits, bad, largest = 0, 0, np.finfo(product.dtype).max
    for c in range(len(product)):
        z = product[c] + bias[c]
        hits += (z > least[c]) & (z > bound)
        bad += not abs(z) <= largest
    return -1 if bad else hits


@compiled_in_parallel
def _scan(product, bias, least, bound, column, count, shares):
    """Active entries of every row, moved to its front; a count of -1 where z is not finite."""
    for share in numba.prange(len(shares) - 1):
        for row in range(shares[share], shares[share + 1]):
            count[row] = _scan_row(product[row], bias, least, bound[row], column[row])


@compiled
def _scan_row(product, bias, least, bound, column):
    n = 0
    for first in range(0, len(product), BLOCK):
        last = min(first + BLOCK, len(product))
        hits = _above(product[first:last], bias[first:last], least[first:last], bound)
        if hits < 0:
            return -1
        if hits:
            for c in range(first, last):  # without a branch, which would be mispredicted; n never passes c
                z = product[c] + bias[c]
                column[n], product[n] = c, z
                n += (z > least[c]) & (z > bound)
    return n


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
    k = len(heap_z)
    least = np.empty_like(bias)
    least[:] = 0 if n == k else _bound(product, bias, k)
    for first in range(0, len(product), BLOCK):
        last = min(first + BLOCK, len(product))
        bound = heap_z[0] if n == k else least[0]
        hits = _above(product[first:last], bias[first:last], least[first:last], bound)
        if hits < 0:
            return -1
        if hits:
            for c in range(first, last):
                z = product[c] + bias[c]
                if z > least[c] and (n < k or z > heap_z[0]):
                    _put(heap_z, heap_feature, n, z, first_feature + c)
                    n = min(n + 1, k)
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

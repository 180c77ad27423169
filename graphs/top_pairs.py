"""Find the pairs of vectors with the largest dot products, without computing all of them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK_PRODUCTS = 2**22  # dot products that are computed at once


class VectorPairs(NamedTuple):
    """Some pairs of rows of two matrices with their dot products, largest absolute value first."""

    left: np.ndarray
    right: np.ndarray
    product: np.ndarray

    def __repr__(self) -> str:
        return f"<VectorPairs: {len(self.product):,}>"


def top_pairs(left_Md: np.ndarray, right_Nd: np.ndarray, count: int) -> VectorPairs:
    """Return the `count` pairs of a left and a right vector with the largest dot products by absolute value.

    Products of zero are left out. The search is exact: vectors are paired in the order of their norms, and stop where the
    product of two norms, which bounds the dot product, is below the smallest product found so far.
    """
    left, right = _Sorted(left_Md), _Sorted(right_Nd)
    best = VectorPairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, left_Md.dtype))
    threshold = 0.0
    rounding = 1 + left_Md.shape[1] * float(np.finfo(left_Md.dtype).eps)  # a computed product may exceed the bound
    for rows in _slices(len(left_Md), 2 ** (BLOCK_PRODUCTS.bit_length() // 2)):
        bound_N = left.norm[rows.start] * right.norm * rounding  # descending
        for columns in _slices(len(right_Nd), BLOCK_PRODUCTS // (rows.stop - rows.start)):
            if bound_N[columns.start] <= threshold:
                break
            block = left.vectors(rows) @ right.vectors(columns).T
            best = _merge(best, _largest(block, left.order[rows], right.order[columns], count, threshold), count)
            if len(best.product) == count:
                threshold = float(abs(best.product[-1]))
    return best


class _Sorted:
    """Vectors in descending order of their norms."""

    def __init__(self, vector_Md: np.ndarray):
        norm_M = np.linalg.norm(vector_Md, axis=1)
        self.order = np.argsort(-norm_M, kind="stable")
        self.norm = norm_M[self.order]
        self._vector_Md = vector_Md

    def vectors(self, rows: slice) -> np.ndarray:
        return self._vector_Md[self.order[rows]]


def _largest(block: np.ndarray, left: np.ndarray, right: np.ndarray, count: int, threshold: float) -> VectorPairs:
    """Return the largest entries of a block above a threshold, by the numbers of its rows and columns."""
    flat = np.abs(block).ravel()
    chosen = np.flatnonzero(flat > threshold)
    if len(chosen) > count:
        chosen = chosen[np.argpartition(-flat[chosen], count - 1)[:count]]
    row, column = np.unravel_index(chosen, block.shape)
    return VectorPairs(left[row], right[column], block[row, column])


def _merge(first: VectorPairs, second: VectorPairs, count: int) -> VectorPairs:
    """Return the largest of two lists of pairs, sorted; equal ones by number."""
    joined = VectorPairs(*(np.concatenate(both) for both in zip(first, second, strict=True)))
    order = np.lexsort((joined.right, joined.left, -np.abs(joined.product)))[:count]
    return VectorPairs(*(column[order] for column in joined))


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))

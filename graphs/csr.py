"""Sparse matrices in compressed row form: the edges of a graph, with one row for each target."""

from typing import NamedTuple

import numpy as np

from cotrace.common.compiled import compiled


class CSR(NamedTuple):
    """The edges of a graph. Row = target, column = source; sources ascend within a row.

    A named tuple, so that `*csr` passes the three arrays to a compiled function.
    """

    indptr: np.ndarray
    """Where each row starts in the other two arrays, (M+1,) int32 or int64."""
    indices: np.ndarray
    """The source of every edge, (E,) int32."""
    weights: np.ndarray
    """The direct effect of every edge, (E,) float32 or float64."""

    def __repr__(self) -> str:
        return f"CSR({self.n_rows} rows, {self.n_edges} edges, {self.weights.dtype})"

    @property
    def n_rows(self) -> int:
        """Number of rows M."""
        return len(self.indptr) - 1

    @property
    def n_edges(self) -> int:
        """Number of edges E, those of weight 0 included."""
        return len(self.indices)

    def row_lengths(self) -> np.ndarray:
        """Return the number of edges of every row, (M,)."""
        return np.diff(self.indptr)

    def row_totals(self) -> np.ndarray:
        """Return the sum of absolute weights of every row, (M,) float64."""
        return _row_totals(self.indptr, self.weights)

    def row_sums(self) -> np.ndarray:
        """Return the signed sum of the weights of every row, (M,) float64."""
        return _row_sums(self.indptr, self.weights)

    def row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return views of the sources and weights of one row."""
        edges = slice(int(self.indptr[row]), int(self.indptr[row + 1]))
        return self.indices[edges], self.weights[edges]

    def row_shares(self, row: int) -> np.ndarray:
        """Return absolute weights of one row over their sum, float64; zeros for a row of zeros."""
        size = np.abs(self.row(row)[1]).astype(np.float64)
        return size / (size.sum() or 1.0)

    def edge_targets(self) -> np.ndarray:
        """Return the target of every edge, (E,) int32."""
        return np.repeat(np.arange(self.n_rows, dtype=np.int32), self.row_lengths())

    def select_rows(self, rows: np.ndarray) -> "CSR":
        """Return copies of some rows, in the given order."""
        edges = edges_of_rows(self.indptr, rows)
        counts = self.indptr[rows + 1] - self.indptr[rows]
        return CSR(indptr_of(counts), self.indices[edges], self.weights[edges])


def indptr_of(row_lengths: np.ndarray) -> np.ndarray:
    """Return the row pointer (M+1,) int64 of rows with these numbers of edges, (M,)."""
    return np.concatenate([[0], row_lengths]).cumsum(dtype=np.int64)


def edges_of_rows(indptr: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the numbers of the edges of some rows, (E,) int64, row after row."""
    counts = indptr[rows + 1] - indptr[rows]
    before = counts.cumsum() - counts
    return np.repeat(indptr[rows] - before, counts) + np.arange(counts.sum())


@compiled
def _row_totals(indptr, weights):
    totals = np.zeros(len(indptr) - 1, np.float64)
    for row in range(len(totals)):
        totals[row] = absolute_sum(weights[indptr[row] : indptr[row + 1]])
    return totals


@compiled
def _row_sums(indptr, weights):
    sums = np.zeros(len(indptr) - 1, np.float64)
    for row in range(len(sums)):
        for edge in range(indptr[row], indptr[row + 1]):
            sums[row] += weights[edge]
    return sums


@compiled
def absolute_sum(weights):
    """Return the sum of absolute weights, in float64; for compiled functions.

    Four sums side by side are as fast as what a compiler may reorder, and have the same bits on every machine and in the page.
    """
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    in_fours = len(weights) // 4 * 4
    for edge in range(0, in_fours, 4):
        a += abs(weights[edge])
        b += abs(weights[edge + 1])
        c += abs(weights[edge + 2])
        d += abs(weights[edge + 3])
    for edge in range(in_fours, len(weights)):
        a += abs(weights[edge])
    return a + b + (c + d)

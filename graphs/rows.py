"""Rows on their way to disk: finished rows of the adjacency matrix, streamed to a temporary file."""

import tempfile
from typing import IO

import numpy as np

from cotrace.kernels.compiled import compiled


class RowSpool:
    """Collects rows in node order as CSR; holds one block in memory, the rest in unlinked files.

    The files have no name, so nothing is left behind when the process stops, however it stops.
    """

    def __init__(self, value_type: np.dtype):
        self._value_type = np.dtype(value_type)
        self._indices: IO[bytes] = tempfile.TemporaryFile(prefix="cotrace-")
        self._weights: IO[bytes] = tempfile.TemporaryFile(prefix="cotrace-")
        self._counts: list[np.ndarray] = []

    def append(self, block_TC: np.ndarray, columns_C: np.ndarray) -> None:
        """Add T finished rows given densely over some columns; exact zeros are not edges.

        `columns_C` holds the node numbers of the block's columns, ascending int32.
        """
        counts = np.count_nonzero(block_TC, axis=1)
        indices = np.empty(counts.sum(), np.int32)
        weights = np.empty(counts.sum(), self._value_type)
        _compress(block_TC, columns_C, indices, weights)
        self._indices.write(indices.data)
        self._weights.write(weights.data)
        self._counts.append(counts)

    def append_empty(self, rows: int) -> None:
        """Add rows without edges (errors and tokens)."""
        self._counts.append(np.zeros(rows, np.int64))

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return indptr (M+1,) int64, indices (E,) int32 and weights (E,), the last two file-backed.

        The arrays keep their files alive; the spool is used up.
        """
        indptr = np.concatenate([[0], *self._counts]).cumsum(dtype=np.int64)
        return indptr, _mapped(self._indices, np.int32), _mapped(self._weights, self._value_type)


def _mapped(file: IO[bytes], kind: np.dtype | type) -> np.ndarray:
    with file:
        file.flush()
        if file.tell() == 0:  # an empty file cannot be mapped
            return np.empty(0, kind)
        return np.memmap(file, dtype=kind, mode="r")


@compiled
def _compress(block, columns, indices, weights):
    edge = 0
    for row in range(block.shape[0]):
        for column in range(block.shape[1]):
            value = block[row, column]
            if value != 0.0:
                indices[edge] = columns[column]
                weights[edge] = value
                edge += 1

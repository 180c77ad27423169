"""Rows on their way to disk: finished rows of the adjacency matrix, streamed to a temporary file."""

import mmap
import tempfile
from typing import IO, NamedTuple

import numpy as np

from cotrace.common.compiled import compiled
from cotrace.common.errors import CotraceError
from cotrace.common.files import free_disk


class SparseRows(NamedTuple):
    """Finished rows of ascending nodes; the edges of each stand behind those of the one before, by ascending source."""

    node_T: np.ndarray
    count_T: np.ndarray
    indices_E: np.ndarray  # int32
    weights_E: np.ndarray

    def only(self, chosen_T: np.ndarray) -> "SparseRows":
        """The rows that a mask takes."""
        if chosen_T.all():
            return self
        edge_E = np.repeat(chosen_T, self.count_T)
        return SparseRows(self.node_T[chosen_T], self.count_T[chosen_T], self.indices_E[edge_E], self.weights_E[edge_E])


def rows_of_block(node_T: np.ndarray, block_TC: np.ndarray, columns_C: np.ndarray) -> SparseRows:
    """Rows given densely over some columns, ascending node numbers (int32); zeros are no edges."""
    counts = np.count_nonzero(block_TC, axis=1)
    arrays = np.empty(counts.sum(), np.int32), np.empty(counts.sum(), block_TC.dtype)
    _compress(block_TC, columns_C, *arrays)
    return SparseRows(node_T, counts, *arrays)


def in_node_order(one: SparseRows, other: SparseRows) -> SparseRows:
    """The rows of both."""
    if not len(one.node_T) or not len(other.node_T):
        return one if len(one.node_T) else other
    node_T, count_T, indices_E, weights_E = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    order_T = np.argsort(node_T)
    edge_E = edges_of_rows(np.concatenate([[0], count_T.cumsum()]), order_T)
    return SparseRows(node_T[order_T], count_T[order_T], indices_E[edge_E], weights_E[edge_E])


def edges_of_rows(indptr: np.ndarray, row_T: np.ndarray) -> np.ndarray:
    """Numbers of the edges of some rows, (E,) int64, row after row."""
    count_T = indptr[row_T + 1] - indptr[row_T]
    before_T = count_T.cumsum() - count_T
    return np.repeat(indptr[row_T] - before_T, count_T) + np.arange(count_T.sum())


class RowWriter:
    """Collects rows as CSR, from the last node to the first; holds one block in memory, the rest in unlinked files.

    A row's influence is known when the rows of later nodes are: so the last come first, and the files,
    which have a place for every possible edge, fill from their ends. They are sparse: only what is
    there takes space. They have no name, so nothing is left behind when the process stops, however it
    stops.
    """

    def __init__(self, value_type: np.dtype, n_nodes: int, most_edges: int):
        self._types = np.dtype(np.int32), np.dtype(value_type)
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile(prefix="cotrace-") for _ in self._types]
        self._count_M = np.zeros(n_nodes, np.int64)
        self._most = self._free = min(most_edges, free_disk() // sum(kind.itemsize for kind in self._types))
        self._next = n_nodes

    def prepend(self, rows: SparseRows) -> None:
        """Add finished rows before all that are there. Raises ValueError where the disk is full."""
        if not len(rows.node_T):
            return
        assert (np.diff(rows.node_T, append=self._next) > 0).all(), "rows come from the last to the first"
        self._next = int(rows.node_T[0])
        self._count_M[rows.node_T] = rows.count_T
        arrays = rows.indices_E, rows.weights_E
        if len(arrays[0]) > self._free:
            raise CotraceError(_no_room(f"{self._most:,} edges"))
        self._free -= len(arrays[0])
        try:
            for file, array in zip(self._files, arrays, strict=True):
                file.seek(self._free * array.itemsize)
                file.write(array.data)
                file.flush()
        except OSError as error:
            raise CotraceError(_no_room(str(error.strerror))) from error

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return indptr (M+1,) int64, indices (E,) int32 and weights (E,), the last two file-backed.

        The arrays keep their files alive; the spool is used up.
        """
        indptr = np.concatenate([[0], self._count_M]).cumsum(dtype=np.int64)
        size = self._most - self._free
        indices, weights = (
            _mapped(f, kind, self._free, size) for f, kind in zip(self._files, self._types, strict=True)
        )
        return indptr, indices, weights


def free_mapped_pages(*arrays: np.ndarray) -> None:
    """Tell the system that what is mapped of files need not stay in memory: it is read again when it is used."""
    for array in arrays:
        if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _no_room(reason: str) -> str:
    return f"the rows do not fit into {tempfile.gettempdir()} ({reason}); set TMPDIR to a larger disk, or ask for less coverage"


def _mapped(file: IO[bytes], kind: np.dtype, first: int, size: int) -> np.ndarray:
    with file:
        if not size:  # an empty file cannot be mapped
            return np.empty(0, kind)
        return np.memmap(file, dtype=kind, mode="r", offset=first * kind.itemsize, shape=(size,))


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

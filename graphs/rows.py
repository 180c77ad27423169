"""Finished rows of the adjacency matrix, and the writer that streams them to temporary files."""

import mmap
import tempfile
from typing import IO, NamedTuple

import numpy as np

from cotrace.common.compiled import compiled
from cotrace.common.errors import ResourceError
from cotrace.common.files import free_disk

from .csr import CSR, edges_of_rows, indptr_of


class SparseRows(NamedTuple):
    """Finished rows of some nodes, in ascending order; edges are sorted by row, then by source."""

    node_T: np.ndarray
    count_T: np.ndarray
    """Number of edges of each row."""
    indices_E: np.ndarray
    """Sources, int32."""
    weights_E: np.ndarray

    def __repr__(self) -> str:
        return f"SparseRows({len(self.node_T)} rows, {len(self.indices_E)} edges, {self.weights_E.dtype})"

    def only(self, chosen_T: np.ndarray) -> "SparseRows":
        """Return the rows in a mask (T,)."""
        if chosen_T.all():
            return self
        edge_E = np.repeat(chosen_T, self.count_T)
        return SparseRows(self.node_T[chosen_T], self.count_T[chosen_T], self.indices_E[edge_E], self.weights_E[edge_E])


def rows_of_block(node_T: np.ndarray, block_TC: np.ndarray, columns_C: np.ndarray) -> SparseRows:
    """Return the non-zero entries of dense rows (T, C).

    `columns_C` are the node numbers of the columns, int32, ascending.
    """
    counts = np.count_nonzero(block_TC, axis=1)
    arrays = np.empty(counts.sum(), np.int32), np.empty(counts.sum(), block_TC.dtype)
    _compress(block_TC, columns_C, *arrays)
    return SparseRows(node_T, counts, *arrays)


def in_node_order(one: SparseRows, other: SparseRows) -> SparseRows:
    """Return the rows of both, sorted by node."""
    if not len(one.node_T) or not len(other.node_T):
        return one if len(one.node_T) else other
    node_T, count_T, indices_E, weights_E = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    order_T = np.argsort(node_T)
    edge_E = edges_of_rows(indptr_of(count_T), order_T)
    return SparseRows(node_T[order_T], count_T[order_T], indices_E[edge_E], weights_E[edge_E])


class RowWriter:
    """Writes rows as CSR to temporary files, from the last node to the first.

    The influence of a row is known once the rows of later nodes are, so the last rows come first and the files
    fill from their ends. The files are sparse: they have room for every possible edge, but only written parts take
    disk space. They have no name, so they disappear when the process ends, in any way.

    Raises ResourceError where the disk for temporary files is full.
    """

    def __init__(self, value_type: np.dtype, n_nodes: int, max_edges: int):
        self._types = np.dtype(np.int32), np.dtype(value_type)
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile(prefix="cotrace-") for _ in self._types]
        self._count_M = np.zeros(n_nodes, np.int64)
        self._capacity = self._free = min(max_edges, free_disk() // sum(kind.itemsize for kind in self._types))
        self._next = n_nodes

    def __repr__(self) -> str:
        return f"<RowWriter: {self._capacity - self._free:,} edges of at most {self._capacity:,}>"

    def prepend(self, rows: SparseRows) -> None:
        """Add finished rows before all others. Raises ResourceError where the disk is full."""
        if not len(rows.node_T):
            return
        assert (np.diff(rows.node_T, append=self._next) > 0).all(), "rows come from the last to the first"
        self._next = int(rows.node_T[0])
        self._count_M[rows.node_T] = rows.count_T
        arrays = rows.indices_E, rows.weights_E
        if len(arrays[0]) > self._free:
            raise ResourceError(_no_room(f"{self._capacity:,} edges"))
        self._free -= len(arrays[0])
        try:
            for file, array in zip(self._files, arrays, strict=True):
                file.seek(self._free * array.itemsize)
                file.write(array.data)
                file.flush()
        except OSError as error:
            raise ResourceError(_no_room(str(error.strerror))) from error

    def finish(self) -> CSR:
        """Return all rows; indices and weights are memory maps of the files. The writer cannot be used again."""
        size = self._capacity - self._free
        indices, weights = (
            _mapped(file, kind, self._free, size) for file, kind in zip(self._files, self._types, strict=True)
        )
        return CSR(indptr_of(self._count_M), indices, weights)


def free_mapped_pages(*arrays: np.ndarray) -> None:
    """Tell the system that it may drop the pages of memory-mapped arrays; they are read again when used."""
    for array in arrays:
        if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _no_room(reason: str) -> str:
    folder = tempfile.gettempdir()
    return f"the rows do not fit into {folder} ({reason}); set TMPDIR to a larger disk, or lower the coverage"


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

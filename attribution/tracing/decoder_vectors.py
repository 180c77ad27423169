"""Scaled decoder vectors at one layer's MLP output, stored or recomputed for every batch."""

import itertools
from collections.abc import Iterator

from torch import Tensor

from cotrace.kernels.edge_rows import SourceVectors

# Of recomputed vectors: on a CPU they stay in the cache until they are multiplied; a GPU needs much work per launch.
CHUNK_BYTES = {"cpu": 2**24, "cuda": 2**28}


class DecoderVectors:
    """The vectors that active features add at one layer's MLP output, grouped by position. E vectors.

    Vector e is `scale_E[e] * table_RD[row_E[e]]`. Group p consists of vectors `offsets[p]` to `offsets[p + 1] - 1`,
    whose columns start at `columns[p]`. A CLT has many times more vectors than distinct decoder rows: with `keep` they
    are stored, and otherwise recomputed for a few positions at a time whenever a batch passes.
    """

    def __init__(
        self, table_RD: Tensor, row_E: Tensor, scale_E: Tensor, offsets: list[int], columns: list[int], keep: bool
    ):
        self.offsets, self.columns = offsets, columns
        self._table_RD, self._row_E, self._scale_E = table_RD, row_E, scale_E
        self._stored = SourceVectors(self._scaled(0, len(row_E)), offsets, columns) if keep else None
        self._chunk_starts = self._split(CHUNK_BYTES[table_RD.device.type] // (table_RD.shape[1] * table_RD.itemsize))

    def __repr__(self) -> str:
        stored = "recomputed" if self._stored is None else "stored"
        return f"<DecoderVectors: {len(self._row_E):,} vectors at {len(self.columns):,} positions, {stored}>"

    def chunks(self, n_positions: int) -> Iterator[tuple[int, int, SourceVectors, int]]:
        """Yield the vectors at the first positions in chunks.

        Each item is the chunk's first position, its last position + 1, vectors, and the index of the first position's
        group in these vectors.
        """
        if self._stored is not None:
            yield 0, n_positions, self._stored, 0
            return
        for start, end in itertools.pairwise(self._chunk_starts):
            end = min(end, n_positions)
            if start < end:
                yield start, end, self._computed(start, end), 0

    def of_features(self, position_n: Tensor, column_n: Tensor) -> tuple[Tensor, Tensor]:
        """Return which of n features, given by position and column in the sweep, write here (n,), and their vectors."""
        offset_P, start_P = (position_n.new_tensor(each) for each in (self.offsets, self.columns))
        rank_n = column_n - start_P[position_n]
        vector_n = offset_P[position_n] + rank_n
        writes_n = (rank_n >= 0) & (vector_n < offset_P[position_n + 1])
        found = vector_n[writes_n]
        return writes_n, self._table_RD[self._row_E[found]] * self._scale_E[found, None]

    def _computed(self, first: int, stop: int) -> SourceVectors:
        before = self.offsets[first]
        offsets = [offset - before for offset in self.offsets[first : stop + 1]]
        return SourceVectors(self._scaled(before, self.offsets[stop]), offsets, self.columns[first:stop])

    def _scaled(self, first: int, stop: int) -> Tensor:
        return self._table_RD[self._row_E[first:stop]].mul_(self._scale_E[first:stop, None])

    def _split(self, max_vectors: int) -> list[int]:
        """Return the positions at which chunks start, and the end: a chunk is at least one position."""
        starts = [0]
        for position in range(1, len(self.columns)):
            if self.offsets[position + 1] - self.offsets[starts[-1]] > max_vectors:
                starts.append(position)
        return [*starts, len(self.columns)]

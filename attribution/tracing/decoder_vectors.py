"""What features write at one layer, made when it is needed where it is too much to hold."""

import itertools
from collections.abc import Iterator

from torch import Tensor

from cotrace.kernels.edge_rows import SourceVectors

AT_ONCE = 2**24  # bytes of vectors that are made at once: they stay in a cache until they are multiplied


class DecoderVectors:
    """Vectors that features write at one layer's MLP output, grouped by position. E vectors.

    Vector e is `scale_E[e] * table_RD[row_E[e]]`; group p holds those from `offsets[p]` to `offsets[p + 1]`,
    for the columns from `columns[p]`. A CLT's are many times its distinct decoders: they are held where
    `hold` says so, and otherwise made for some positions at a time, whenever a batch passes.
    """

    def __init__(
        self, table_RD: Tensor, row_E: Tensor, scale_E: Tensor, offsets: list[int], columns: list[int], hold: bool
    ):
        self.offsets, self.columns = offsets, columns
        self._table_RD, self._row_E, self._scale_E = table_RD, row_E, scale_E
        self._all = SourceVectors(self._vectors(0, len(row_E)), offsets, columns) if hold else None
        self._cuts = self._cut(AT_ONCE // (table_RD.shape[1] * table_RD.itemsize))

    def parts(self, first: int, stop: int) -> Iterator[tuple[int, int, SourceVectors, int]]:
        """Positions first … stop in parts: a part's first and last + 1, its vectors, and its first group in them."""
        if self._all is not None:
            yield first, stop, self._all, first
            return
        for start, end in itertools.pairwise(self._cuts):
            start, end = max(start, first), min(end, stop)
            if start < end:
                yield start, end, self._made(start, end), 0

    def _made(self, first: int, stop: int) -> SourceVectors:
        before = self.offsets[first]
        offsets = [offset - before for offset in self.offsets[first : stop + 1]]
        return SourceVectors(self._vectors(before, self.offsets[stop]), offsets, self.columns[first:stop])

    def _vectors(self, first: int, stop: int) -> Tensor:
        return self._table_RD[self._row_E[first:stop]].mul_(self._scale_E[first:stop, None])

    def _cut(self, most: int) -> list[int]:
        """Positions at which parts begin and end: of at most so many vectors, but of one position at least."""
        cuts = [0]
        for position in range(1, len(self.columns)):
            if self.offsets[position + 1] - self.offsets[cuts[-1]] > most:
                cuts.append(position)
        return [*cuts, len(self.columns)]

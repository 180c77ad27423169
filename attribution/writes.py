"""What features write at one layer, made when it is needed where it is too much to hold."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from cotrace.kernels.edge_rows import Written

from .memory import give_back_freed
from .transcoders import Encoded

AT_ONCE = 2**24  # bytes of vectors that are made at once: they stay in a cache until they are multiplied


def decoders_in_one_table(encoded: list[Encoded]) -> tuple[Tensor, list[Tensor]]:
    """All decoders in one table (R, D), and where in it: (J, U) row numbers of each layer.

    The entries of the list become ones that share the table's memory: there is no second copy of more than
    one layer.
    """
    shapes_JU = [(e.decoder_UJD.shape[1], len(e.decoder_UJD)) for e in encoded]
    width = encoded[0].decoder_UJD.shape[2]
    firsts = [0, *itertools.accumulate(n_layers * n for n_layers, n in shapes_JU)]
    table_RD = encoded[0].decoder_UJD.new_empty(firsts[-1], width)
    for layer, (e, first, shape) in enumerate(zip(encoded, firsts, shapes_JU, strict=False)):
        decoder_JUD = table_RD[first : firsts[layer + 1]].view(*shape, width)
        decoder_JUD.copy_(e.decoder_UJD.transpose(0, 1))
        encoded[layer] = e = replace(e, decoder_UJD=decoder_JUD.transpose(0, 1))
        give_back_freed()
    numbers = torch.arange(firsts[-1], device=table_RD.device)
    return table_RD, [
        numbers[first : first + n_layers * n].view(n_layers, n)
        for first, (n_layers, n) in zip(firsts, shapes_JU, strict=False)
    ]


class Writes:
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
        self._all = Written(self._vectors(0, len(row_E)), offsets, columns) if hold else None
        self._cuts = self._cut(AT_ONCE // (table_RD.shape[1] * table_RD.itemsize))

    def parts(self, first: int, stop: int) -> Iterator[tuple[int, int, Written, int]]:
        """Positions first … stop in parts: a part's first and last + 1, its vectors, and its first group in them."""
        if self._all is not None:
            yield first, stop, self._all, first
            return
        for start, end in itertools.pairwise(self._cuts):
            start, end = max(start, first), min(end, stop)
            if start < end:
                yield start, end, self._made(start, end), 0

    def _made(self, first: int, stop: int) -> Written:
        before = self.offsets[first]
        offsets = [offset - before for offset in self.offsets[first : stop + 1]]
        return Written(self._vectors(before, self.offsets[stop]), offsets, self.columns[first:stop])

    def _vectors(self, first: int, stop: int) -> Tensor:
        return self._table_RD[self._row_E[first:stop]].mul_(self._scale_E[first:stop, None])

    def _cut(self, most: int) -> list[int]:
        """Positions at which parts begin and end: of at most so many vectors, but of one position at least."""
        cuts = [0]
        for position in range(1, len(self.columns)):
            if self.offsets[position + 1] - self.offsets[cuts[-1]] > most:
                cuts.append(position)
        return [*cuts, len(self.columns)]

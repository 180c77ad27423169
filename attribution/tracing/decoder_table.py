"""Decoder rows of a prompt's active features, in memory or in a temporary file."""

import itertools
import tempfile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.memory import release_freed_memory
from cotrace.common.errors import ResourceError
from cotrace.common.files import free_disk


class DecoderTable:
    """Collects the decoder rows of all layers in one table (R, D); rows of a layer are in the order (J, U).

    Layer by layer, `add` takes decoders of U active features for J output layers. Once they need more than `max_bytes`
    they move to an unnamed temporary file, which `finish` maps: pages that are not in use need no memory. On a GPU
    they always stay in its memory, and `finish` needs twice their size for a moment.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.shapes_JU: list[tuple[int, int]] = []
        self._parts: list[Tensor] = []
        self._file: IO[bytes] | None = None

    def __repr__(self) -> str:
        place = "on disk" if self.on_disk else "in memory"
        return f"<DecoderTable: {self._starts[-1]:,} rows of {len(self.shapes_JU)} layers, {place}>"

    @property
    def on_disk(self) -> bool:
        """True if the table is in a file."""
        return self._file is not None

    @property
    def rows_JU(self) -> list[Tensor]:
        """Row numbers of each layer, (J, U)."""
        numbers, shapes = torch.arange(self._starts[-1]), zip(self._starts, self.shapes_JU, strict=False)
        return [numbers[start : start + n_layers * n].view(n_layers, n) for start, (n_layers, n) in shapes]

    @property
    def _starts(self) -> list[int]:
        """First row of each layer, then the number of rows."""
        return [0, *itertools.accumulate(n_layers * n for n_layers, n in self.shapes_JU)]

    def add(self, decoder_UJD: Tensor) -> None:
        """Add the next layer's decoders. Raises ResourceError if the disk is full."""
        self.shapes_JU.append((decoder_UJD.shape[1], decoder_UJD.shape[0]))
        self._parts.append(decoder_UJD.transpose(0, 1).flatten(0, 1))
        size = sum(part.nbytes for part in self._parts)
        if self._file is None and size > self.max_bytes and decoder_UJD.device.type == "cpu":
            self._file = tempfile.TemporaryFile(prefix="cotrace-")
        if self._file is not None:
            self._write(self._file)

    def finish(self) -> tuple[Tensor, list[Tensor]]:
        """Return the table (R, D), and each layer's decoders as (U, J, D) views of it."""
        like, width = self._parts[-1], self._parts[-1].shape[1]
        n_rows = self._starts[-1]
        if self._file is not None and n_rows:
            mapped = np.memmap(self._file, like.numpy().dtype, "r+", shape=(n_rows, width))
            table_RD = torch.from_numpy(mapped)
        else:
            table_RD = self._concatenated(like.new_empty(n_rows, width))
        parts = (table_RD[start:stop] for start, stop in itertools.pairwise(self._starts))
        return table_RD, [
            part.view(*shape, width).transpose(0, 1) for part, shape in zip(parts, self.shapes_JU, strict=True)
        ]

    def _concatenated(self, table_RD: Tensor) -> Tensor:
        """Move the layers into one tensor, freeing each: pages of the table take memory once they are written."""
        for start, stop in itertools.pairwise(self._starts):
            table_RD[start:stop] = self._parts.pop(0)
            release_freed_memory()
        return table_RD

    def _write(self, file: IO[bytes]) -> None:
        """Move the parts in memory to the file, leaving an empty tensor with their type."""
        try:
            for part in self._parts:
                file.write(part.numpy().data)
            file.flush()
        except OSError as error:
            raise ResourceError(
                f"the decoders of the active features do not fit into {tempfile.gettempdir()} ({free_disk():,} bytes are "
                "free): set TMPDIR to a larger disk, or allow more memory"
            ) from error
        self._parts = [self._parts[-1].new_empty(0, self._parts[-1].shape[1])]

"""Decoder rows of a prompt's active features: in memory, or in a file where they are too many."""

import itertools
import tempfile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.memory import release_freed_memory
from cotrace.common.errors import CotraceError
from cotrace.common.files import free_disk


class DecoderTable:
    """The rows of all layers in one table (R, D): of each layer (J, U, D), so that all it writes to one layer is together.

    `add` takes the layers one after the other. As soon as they are more than `room` bytes they go to a temporary
    file without a name, which is mapped at the end: what is not in use need not be in memory. On a GPU
    they stay there, and are twice there for a moment.
    """

    def __init__(self, room: int):
        self.room = room
        self.shapes_JU: list[tuple[int, int]] = []
        self._parts: list[Tensor] = []
        self._file: IO[bytes] | None = None

    @property
    def on_disk(self) -> bool:
        """Whether the table is a file."""
        return self._file is not None

    @property
    def rows_JU(self) -> list[Tensor]:
        """Row numbers of each layer, (J, U)."""
        numbers, sizes = torch.arange(self._firsts[-1]), zip(self._firsts, self.shapes_JU, strict=False)
        return [numbers[first : first + n_layers * n].view(n_layers, n) for first, (n_layers, n) in sizes]

    @property
    def _firsts(self) -> list[int]:
        return [0, *itertools.accumulate(n_layers * n for n_layers, n in self.shapes_JU)]

    def add(self, decoder_UJD: Tensor) -> None:
        """Take the next layer's decoders. Raises ValueError where the disk is full."""
        self.shapes_JU.append((decoder_UJD.shape[1], decoder_UJD.shape[0]))
        self._parts.append(decoder_UJD.transpose(0, 1).flatten(0, 1))
        size = sum(part.nbytes for part in self._parts)
        if self._file is None and size > self.room and decoder_UJD.device.type == "cpu":
            self._file = tempfile.TemporaryFile(prefix="cotrace-")
        if self._file is not None:
            self._write(self._file)

    def finish(self) -> tuple[Tensor, list[Tensor]]:
        """The table (R, D), and each layer's decoders as (U, J, D) views of it."""
        like, width = self._parts[-1], self._parts[-1].shape[1]
        n_rows = self._firsts[-1]
        if self._file is not None and n_rows:
            mapped = np.memmap(self._file, like.numpy().dtype, "r+", shape=(n_rows, width))
            table_RD = torch.from_numpy(mapped)
        else:
            table_RD = self._joined(like.new_empty(n_rows, width))
        parts = (table_RD[first:stop] for first, stop in itertools.pairwise(self._firsts))
        return table_RD, [
            part.view(*shape, width).transpose(0, 1) for part, shape in zip(parts, self.shapes_JU, strict=True)
        ]

    def _joined(self, table_RD: Tensor) -> Tensor:
        """The layers in one tensor; each goes when it is there: pages that are not written to yet take no memory."""
        for first, stop in itertools.pairwise(self._firsts):
            table_RD[first:stop] = self._parts.pop(0)
            release_freed_memory()
        return table_RD

    def _write(self, file: IO[bytes]) -> None:
        """Move what is in memory to the file, but for an empty tensor that says its type."""
        try:
            for part in self._parts:
                file.write(part.numpy().data)
            file.flush()
        except OSError as error:
            raise CotraceError(
                f"the decoders of the active features do not fit into {tempfile.gettempdir()} ({free_disk():,} bytes are "
                "free); set TMPDIR to a larger disk, or allow more memory"
            ) from error
        self._parts = [self._parts[-1].new_empty(0, self._parts[-1].shape[1])]

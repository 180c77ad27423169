"""What is written at one layer, grouped by position."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


class Written:
    """Vectors written at one layer, grouped by position.

    Group p holds `vectors[offsets[p]:offsets[p + 1]]`; its products go to the consecutive columns
    that start at `columns[p]`. Raises ValueError unless there is one more offset than columns.
    """

    def __init__(self, vectors_ED: Tensor, offsets: Sequence[int], columns: Sequence[int]):
        if len(offsets) != len(columns) + 1:
            raise ValueError(f"{len(columns)} groups have {len(columns) + 1} offsets, not {len(offsets)}")
        self.vectors_ED = vectors_ED
        self.offsets = list(offsets)
        self.columns = list(columns)

    @cached_property
    def groups_P3(self) -> Tensor:
        """First vector, last vector + 1 and first column of each group, int64, where the vectors are."""
        rows = [self.offsets[:-1], self.offsets[1:], self.columns]
        return torch.tensor(rows, dtype=torch.int64, device=self.vectors_ED.device).T.contiguous()

    def sizes(self, first: int, n_positions: int) -> list[int]:
        """Vectors of each of some groups."""
        bounds = self.offsets[first : first + n_positions + 1]
        return [stop - start for start, stop in pairwise(bounds)]

    def require(self, first: int, n_positions: int, width: int, n_columns: int) -> None:
        """Raise ValueError unless gradients at some positions, and rows of some columns, fit."""
        if self.vectors_ED.shape[1] != width:
            raise ValueError(f"vectors are {self.vectors_ED.shape[1]} wide and gradients {width}")
        if not 0 <= first <= first + n_positions <= len(self.columns):
            raise ValueError(f"there are {len(self.columns)} groups, not those of {n_positions} positions from {first}")
        sizes, columns = self.sizes(first, n_positions), self.columns[first : first + n_positions]
        last = max((c + size for c, size in zip(columns, sizes, strict=True) if size), default=0)
        if min(columns, default=0) < 0 or last > n_columns or min(sizes, default=0) < 0:
            raise ValueError(f"groups end at column {last} and rows have {n_columns}, or offsets do not ascend")
        if self.offsets[0] < 0 or self.offsets[-1] > len(self.vectors_ED):
            raise ValueError(
                f"offsets reach from {self.offsets[0]} to {self.offsets[-1]} of {len(self.vectors_ED)} vectors"
            )

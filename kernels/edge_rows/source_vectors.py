"""Source vectors of one layer, grouped by position."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


class SourceVectors:
    """The vectors (E, D) that sources add at one layer, grouped by position.

    Group p consists of `vectors_ED[offsets[p] : offsets[p + 1]]`. Its dot products are added to consecutive columns,
    from `columns[p]` on.

    Raises:
        ValueError: offsets do not ascend within the vectors or are not one more than columns, or two groups share a
            column.
    """

    def __init__(self, vectors_ED: Tensor, offsets: Sequence[int], columns: Sequence[int]):
        self.vectors_ED, self.offsets, self.columns = vectors_ED, list(offsets), list(columns)
        if len(self.offsets) != len(self.columns) + 1:
            raise ValueError(f"{len(columns)} groups have {len(columns) + 1} offsets, not {len(offsets)}")
        # Bounds of the threads' shares, by call: for small groups they would take most of the time.
        self.bounds: dict[tuple[int, ...], np.ndarray] = {}
        self.sizes = [stop - start for start, stop in pairwise(self.offsets)]
        self.ends = [column + size if size else 0 for column, size in zip(self.columns, self.sizes, strict=True)]
        if min(self.sizes, default=0) < 0 or self.offsets[0] < 0 or self.offsets[-1] > len(vectors_ED):
            raise ValueError(f"offsets must ascend from 0 or more to at most {len(vectors_ED)}, the number of vectors")
        taken = sorted((column, end) for column, end in zip(self.columns, self.ends, strict=True) if end)
        if min(self.columns, default=0) < 0 or any(end > column for (_, end), (column, _) in pairwise(taken)):
            raise ValueError("columns of groups must not be negative or overlap")

    @cached_property
    def groups_P3(self) -> Tensor:
        """First vector, last vector + 1 and first column of each group, int64, on the device of the vectors."""
        rows = [self.offsets[:-1], self.offsets[1:], self.columns]
        return torch.tensor(rows, dtype=torch.int64, device=self.vectors_ED.device).T.contiguous()

    @cached_property
    def transposed(self) -> list[Tensor]:
        """Vectors of each group as columns, (D, n)."""
        return [self.vectors_ED[start:stop].T for start, stop in pairwise(self.offsets)]

    def require(self, first: int, n_positions: int, width: int, n_columns: int) -> None:
        """Raise ValueError unless gradients at some positions, and rows of some columns, fit."""
        if self.vectors_ED.shape[1] != width:
            raise ValueError(f"vectors are {self.vectors_ED.shape[1]} wide and gradients {width}")
        if not 0 <= first <= first + n_positions <= len(self.columns):
            raise ValueError(f"there are {len(self.columns)} groups, not those of {n_positions} positions from {first}")
        last = max(self.ends[first : first + n_positions], default=0)
        if last > n_columns:
            raise ValueError(f"groups end at column {last} and rows have {n_columns}")

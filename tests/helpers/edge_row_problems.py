"""Problems of the operations on source vectors that are grouped by position, for the kernel tests."""

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from cotrace.kernels.edge_rows import SourceVectors
from helpers.kernel_problems import bits, integers

every_sum_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)

# Sizes of groups, targets, width, first position. Blocks of every backend have remainders in each direction.
CASES = {
    "no positions": ([], 3, 5, 0),
    "positions after the last group": ([2], 3, 5, 1),
    "no targets": ([2, 3], 0, 5, 0),
    "nothing is written": ([0, 0], 3, 5, 0),
    "one entry": ([1], 1, 1, 0),
    "one position": ([3], 1, 60, 0),
    "63 targets": ([0, 5, 0, 1], 63, 60, 0),
    "width 1": ([4, 1, 7], 5, 1, 0),
    "one position takes everything": ([0, 150, 0], 70, 7, 0),
    "groups of all sizes from the second": ([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], 9, 33, 2),
    "63 positions": ([1, 0, 2] * 21, 2, 4, 0),
}


class Problem(NamedTuple):
    """Arguments of edge_rows, and of its transpose: there the rows are weights."""

    grad_QTD: Tensor
    first: int
    sources: SourceVectors
    rows_TC: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "Problem":
        """Return the same groups with other numbers."""
        sources = SourceVectors(function(self.sources.vectors_ED), self.sources.offsets, self.sources.columns)
        return Problem(function(self.grad_QTD), self.first, sources, function(self.rows_TC))

    def columns(self) -> Tensor:
        """Return the columns of the groups of the gradients' positions."""
        last = self.first + len(self.grad_QTD)
        sizes = self.sources.sizes[self.first : last]
        ranges = zip(self.sources.columns[self.first : last], sizes, strict=True)
        return torch.tensor([c for start, size in ranges for c in range(start, start + size)], dtype=torch.int64)


def problem_of(
    counts: list[int], n_targets: int, width: int, first: int = 0, numbers: Callable = integers, **options
) -> Problem:
    """Return groups of the given sizes, with the columns of the last group first and gaps before each group."""
    offsets = [0, *accumulate(counts)]
    columns = [1 + sum(counts[p + 1 :]) + 2 * (len(counts) - 1 - p) for p in range(len(counts))]
    vectors_ED = numbers(offsets[-1], width, seed=1, **options)
    grad_QTD = numbers(len(counts) - first, n_targets, width, seed=2, **options)
    there_TC = numbers(n_targets, offsets[-1] + max(2 * len(counts) - 1, 1), seed=3, **options)
    return Problem(grad_QTD, first, SourceVectors(vectors_ED, offsets, columns), there_TC)


def poison_elsewhere(problem: Problem) -> None:
    """Fill all columns outside of groups with signalling NaN: even adding zero changes a bit of it."""
    signalling = {8: 0x7FF0000000000001, 4: 0x7F800001, 2: 0x7F81}[problem.rows_TC.element_size()]
    integer_type = bits(problem.rows_TC).dtype
    problem.rows_TC.view(integer_type)[:, other_columns(problem)] = signalling


def other_columns(problem: Problem) -> Tensor:
    """Return the columns outside of the groups of the gradients' positions."""
    others = torch.ones(problem.rows_TC.shape[1], dtype=torch.bool)
    others[problem.columns()] = False
    assert others.any()
    return others


def turned(tensor: Tensor) -> Tensor:
    """Return a copy in which the last axis has the largest stride."""
    turned = tensor.transpose(0, -1).clone(memory_format=torch.contiguous_format).transpose(0, -1)
    assert not turned.is_contiguous()
    return turned

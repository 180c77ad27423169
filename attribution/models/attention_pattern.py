"""Attention patterns in blocks of queries; keys that no query of a block attends to are not stored."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_QUERIES = 256  # large enough for fast products, small enough that most masked keys are left out


class QueryBlock(NamedTuple):
    """Consecutive queries, and the keys that any of them attends to: ranges of positions."""

    queries: slice
    keys: slice


class PatternBlock(NamedTuple):
    """Attention probabilities of a block, (H, queries, keys), or (B, H, queries, keys) in a batch."""

    block: QueryBlock
    pattern_Hqk: Tensor


def query_blocks(n_positions: int, window: int | None, first: int = 0) -> Iterator[QueryBlock]:
    """Iterate over the blocks of a causal pattern, for queries `first` … `n_positions` - 1.

    With a window, a query attends to the last `window` positions, itself included.
    """
    for start in range(first, n_positions, BLOCK_QUERIES):
        stop = min(start + BLOCK_QUERIES, n_positions)
        yield QueryBlock(slice(start, stop), slice(0 if window is None else max(0, start - window + 1), stop))


def causal_mask(block: QueryBlock, window: int | None, device: torch.device) -> Tensor:
    """Return a mask (queries, keys) bool, True where a query must not attend to a key."""
    queries = torch.arange(block.queries.start, block.queries.stop, device=device)
    distance = queries[:, None] - torch.arange(block.keys.start, block.keys.stop, device=device)
    return (distance < 0) if window is None else (distance < 0) | (distance >= window)


class AttentionPattern:
    """One layer's attention probabilities (H, P, P), [head, query, key], zero outside its blocks."""

    def __init__(self, blocks: list[PatternBlock]):
        self.blocks = blocks

    def scaled(self, query_P: Tensor, key_P: Tensor) -> "AttentionPattern":
        """Return the pattern multiplied by a factor for each query and each key."""
        return AttentionPattern(
            [PatternBlock(b, query_P[b.queries, None] * pattern * key_P[b.keys]) for b, pattern in self.blocks]
        )

    def first_positions(self, n_positions: int) -> "AttentionPattern":
        """Return the pattern of the first positions of the prompt."""
        blocks = []
        for (queries, keys), pattern_Hqk in self.blocks:
            if queries.start < n_positions:
                queries = slice(queries.start, min(queries.stop, n_positions))
                keys = slice(keys.start, min(keys.stop, n_positions))
                part_Hqk = pattern_Hqk[..., : queries.stop - queries.start, : keys.stop - keys.start]
                blocks.append(PatternBlock(QueryBlock(queries, keys), part_Hqk))
        return AttentionPattern(blocks)

    def with_queries(self, chosen_P: Tensor, other: "AttentionPattern") -> "AttentionPattern":
        """Return the pattern with those of some queries from another pattern in the same blocks.

        `chosen_P` (P,), or (B, P) in a batch, is True for these queries, and counts from the first one of the pattern.
        """
        blocks = list[PatternBlock]()
        for (block, own_Hqk), (_, other_Hqk) in zip(self.blocks, other.blocks, strict=True):
            chosen_1q1 = chosen_P[..., None, _shifted(block.queries, self.blocks[0].block.queries.start), None]
            blocks.append(PatternBlock(block, torch.where(chosen_1q1, other_Hqk, own_Hqk)))
        return AttentionPattern(blocks)

    def query_rows(self, position_T: Tensor, reach: int) -> Tensor:
        """Return the probabilities (H, T, reach) of the queries at `position_T` for the first `reach` keys."""
        n_heads = len(self.blocks[0].pattern_Hqk)
        rows_HTP = self.blocks[0].pattern_Hqk.new_zeros(n_heads, len(position_T), reach)
        for (queries, keys), pattern_Hqk in self.blocks:
            (inside,) = ((position_T >= queries.start) & (position_T < queries.stop)).nonzero(as_tuple=True)
            if len(inside):
                stop = min(keys.stop, reach)
                rows_Hqk = pattern_Hqk[:, position_T[inside] - queries.start, : stop - keys.start]
                rows_HTP[:, inside, keys.start : stop] = rows_Hqk
        return rows_HTP

    def of_queries(self, start: int, stop: int, window: int | None) -> Iterator[PatternBlock]:
        """Yield the probabilities of some queries, without the keys that none of them attends to."""
        for (queries, keys), pattern_Hqk in self.blocks:
            first, last = max(start, queries.start), min(stop, queries.stop)
            if first < last:
                inside = QueryBlock(
                    slice(first, last), slice(0 if window is None else max(0, first - window + 1), last)
                )
                here_q = slice(first - queries.start, last - queries.start)
                here_k = slice(inside.keys.start - keys.start, last - keys.start)
                yield PatternBlock(inside, pattern_Hqk[:, here_q, here_k])

    def forward(self, values_HPd: Tensor) -> Tensor:
        """Return the weighted sum of values (…, H, P, d) for every query, (…, H, queries, d)."""
        return torch.cat([pattern @ values_HPd[..., block.keys, :] for block, pattern in self.blocks], dim=-2)

    def add_forward(self, head: int, first: int, values_QE: Tensor, out_QE: Tensor) -> None:
        """Add to `out_QE` the weighted sums of a head's values, both at the Q positions first, first + 1, …"""
        stop = first + len(out_QE)
        for (queries, keys), pattern_Hqk in self.blocks:
            inside = slice(max(queries.start, first), min(queries.stop, stop))
            reach = slice(max(keys.start, first), min(keys.stop, stop))
            if inside.start < inside.stop:
                rows, columns = _shifted(inside, queries.start), _shifted(reach, keys.start)
                out_QE[_shifted(inside, first)].addmm_(
                    pattern_Hqk[head, rows, columns], values_QE[_shifted(reach, first)]
                )

    def add_backward(self, head: int, grad_QE: Tensor, out_QE: Tensor) -> None:
        """Add to `out_QE` the gradient at the keys of a head, from `grad_QE` at the first Q queries."""
        reach = len(out_QE)
        for (queries, keys), pattern_Hqk in self.blocks:
            if queries.start >= reach:
                break
            n_queries, key_stop = min(queries.stop, reach) - queries.start, min(keys.stop, reach)
            back_kq = pattern_Hqk[head, :n_queries, : key_stop - keys.start].T
            out_QE[keys.start : key_stop].addmm_(back_kq, grad_QE[queries.start : queries.start + n_queries])


def _shifted(positions: slice, start: int) -> slice:
    """Return a range of positions counted from `start`."""
    return slice(positions.start - start, positions.stop - start)


NO_PATTERN = AttentionPattern([])  # of a pass that keeps no patterns

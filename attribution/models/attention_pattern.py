"""Attention patterns in blocks of queries: what no query attends to is neither stored nor multiplied."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

QUERIES = 256  # of a block: large products, and little that is hidden from all of them


class QueryBlock(NamedTuple):
    """A block's queries and the keys that any of them attends to: ranges of positions."""

    queries: slice
    keys: slice


class PatternBlock(NamedTuple):
    """Pattern of a block, (H, queries, keys); of several sequences (B, H, queries, keys)."""

    span: QueryBlock
    pattern_Hqk: Tensor


def query_blocks(n_positions: int, window: int | None, first: int = 0) -> Iterator[QueryBlock]:
    """Blocks of a causal pattern, of queries from the `first` on; with a window, a query attends to its `window` last positions."""
    for start in range(first, n_positions, QUERIES):
        stop = min(start + QUERIES, n_positions)
        yield QueryBlock(slice(start, stop), slice(0 if window is None else max(0, start - window + 1), stop))


def causal_mask(span: QueryBlock, window: int | None, device: torch.device) -> Tensor:
    """Which keys of a block are hidden from which of its queries, (queries, keys) bool."""
    queries = torch.arange(span.queries.start, span.queries.stop, device=device)
    distance = queries[:, None] - torch.arange(span.keys.start, span.keys.stop, device=device)
    return (distance < 0) if window is None else (distance < 0) | (distance >= window)


class AttentionPattern:
    """One layer's attention pattern (H, P, P), [head, query, key], zero outside of its blocks."""

    def __init__(self, blocks: list[PatternBlock]):
        self.blocks = blocks

    def scaled(self, of_query_P: Tensor, of_key_P: Tensor) -> "AttentionPattern":
        """The pattern with factors for its queries and keys."""
        return AttentionPattern(
            [PatternBlock(s, of_query_P[s.queries, None] * b * of_key_P[s.keys]) for s, b in self.blocks]
        )

    def query_rows(self, position_T: Tensor, reach: int) -> Tensor:
        """What the queries at some positions attend to among the first `reach`, (H, T, reach)."""
        n_heads = len(self.blocks[0].pattern_Hqk)
        found_HTP = self.blocks[0].pattern_Hqk.new_zeros(n_heads, len(position_T), reach)
        for (queries, keys), pattern_Hqk in self.blocks:
            (mine,) = ((position_T >= queries.start) & (position_T < queries.stop)).nonzero(as_tuple=True)
            if len(mine):
                stop = min(keys.stop, reach)
                rows_Hqk = pattern_Hqk[:, position_T[mine] - queries.start, : stop - keys.start]
                found_HTP[:, mine, keys.start : stop] = rows_Hqk
        return found_HTP

    def forward(self, values_HPd: Tensor) -> Tensor:
        """What each query takes from its keys, (…, H, queries, d), of values (…, H, P, d)."""
        return torch.cat([pattern @ values_HPd[..., span.keys, :] for span, pattern in self.blocks], dim=-2)

    def add_backward(self, head: int, grad_QE: Tensor, out_QE: Tensor) -> None:
        """Add what flows back through a head from the first Q queries to keys; Q is as long as the result."""
        reach = len(out_QE)
        for (queries, keys), pattern_Hqk in self.blocks:
            if queries.start >= reach:
                break
            n_queries, key_stop = min(queries.stop, reach) - queries.start, min(keys.stop, reach)
            back_kq = pattern_Hqk[head, :n_queries, : key_stop - keys.start].T
            out_QE[keys.start : key_stop].addmm_(back_kq, grad_QE[queries.start : queries.start + n_queries])

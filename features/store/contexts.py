"""Contexts of examples: the tokens around a marked one."""

from collections.abc import Sequence
from typing import NamedTuple


class ExampleContext(NamedTuple):
    """Tokens around a marked one."""

    token_ids: list[int]
    mark: int  # index of the marked token in `token_ids`


def context_of(sequence: Sequence[int], position: int, before: int, after: int, bos_id: int | None) -> ExampleContext:
    """Return a token of a sequence with at most `before` tokens before it and `after` after it.

    The context ends at the sequence's ends and at every BOS, where another document begins.
    """
    start, stop = max(0, position - before), min(len(sequence), position + after + 1)
    borders = [at for at in range(start, stop) if sequence[at] == bos_id]
    start = max([start, *(at + 1 for at in borders if at < position)])
    stop = min([stop, *(at for at in borders if at > position)])
    return ExampleContext([int(token) for token in sequence[start:stop]], position - start)

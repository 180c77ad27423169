"""Alignment of two prompts: which token positions correspond."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import UNKNOWN
from cotrace.graphs.data import GraphData
from cotrace.graphs.nodes import resolve_position

ALIGN_WORDS = ("tokens", "start", "end")
MAX_CELLS = 2**28  # of the table of edit distances, a byte each

Align = str | Mapping[int, int] | Iterable[tuple[int, int]]
"""One of `ALIGN_WORDS`, or pairs of a position in A and one in B."""


@dataclass(frozen=True)
class Alignment:
    """Positions of two prompts A and B on one axis of C columns."""

    pairs: tuple[tuple[int, int], ...]
    """Positions that correspond, ascending in A."""
    positions: tuple[tuple[int | None, int | None], ...]
    """The position in A and in B of every column, None where a prompt has none, (C, 2)."""

    def columns(self, side: int) -> np.ndarray:
        """Return the column of every position of A (side 0) or B (side 1), int64."""
        placed = [(each[side], column) for column, each in enumerate(self.positions) if each[side] is not None]
        return np.array([column for _, column in sorted(placed)], np.int64)

    @property
    def is_identity(self) -> bool:
        """True if every position corresponds to the same position."""
        return all(a == b for a, b in self.positions)


def align(a: GraphData, b: GraphData, how: Align = "tokens") -> Alignment:
    """Return the alignment of the prompts of two graphs.

    Args:
        a: the first graph.
        b: the second graph.
        how: "tokens" for the fewest insertions, deletions and replacements of tokens, and among these the most equal tokens;
            "start" and "end" for equal positions counted from the start and from the end; or pairs of a position in `a` and
            one in `b`, as a mapping or a list. Negative positions count from the end.

    Raises:
        ArgumentError: an unknown word, a position outside a prompt or in two pairs, or prompts too long for edit distances.
    """
    n_a, n_b = len(a.info["tokens"]), len(b.info["tokens"])
    if not isinstance(how, str):
        pairs = _given_pairs(how, n_a, n_b)
    elif how == "tokens":
        pairs = edit_pairs(*_token_numbers(a, b))
    elif how in ALIGN_WORDS:
        shift = 0 if how == "start" else n_b - n_a
        pairs = [(i, i + shift) for i in range(n_a) if 0 <= i + shift < n_b]
    else:
        raise ArgumentError(f"align={how!r} is not one of {', '.join(ALIGN_WORDS)}; or give pairs such as {{4: 5}}")
    return Alignment(tuple(pairs), tuple(_axis(pairs, n_a, n_b)))


def token_key(graph: GraphData, position: int) -> tuple[str, int]:
    """Return what makes a token equal to another: its text, and its id where the text is a part of a character."""
    text = graph.info["tokens"][position]
    return text, graph.info["token_ids"][position] if UNKNOWN in text else -1


def edit_pairs(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """Return the positions of two sequences that correspond at the smallest edit distance, ascending.

    Insertions, deletions and replacements cost 1 each; of several alignments that cost the same, one with the most equal
    elements is taken. Swapping the sequences swaps the pairs. Method: Wagner and Fischer (1974), after equal ends are cut.

    Raises ArgumentError if the parts that differ are too long.
    """
    if list(b) < list(a):  # a fixed order, so that ties are broken alike in both directions
        return sorted((i, j) for j, i in edit_pairs(b, a))
    shorter = min(len(a), len(b))
    start = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    end = next((i for i in range(shorter - start) if a[-1 - i] != b[-1 - i]), shorter - start)
    middle = _middle_pairs(np.asarray(a[start : len(a) - end]), np.asarray(b[start : len(b) - end]))
    return [
        *((i, i) for i in range(start)),
        *((start + i, start + j) for i, j in middle),
        *((len(a) - i, len(b) - i) for i in range(end, 0, -1)),
    ]


def _middle_pairs(a: np.ndarray, b: np.ndarray) -> list[tuple[int, int]]:
    moves = _moves(a, b)
    i, j, pairs = len(a), len(b), []
    while i and j:
        move = moves[i - 1, j - 1]
        if move == 0:
            pairs.append((i - 1, j - 1))
        i, j = i - (move != 2), j - (move != 1)
    return pairs[::-1]


def _moves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the last step of the cheapest way to each pair of ends, (A, B): 0 for a pair, 1 to skip a, 2 to skip b."""
    if len(a) * len(b) > MAX_CELLS:
        raise ArgumentError(
            f"{len(a):,} and {len(b):,} tokens differ, too many to align by edit distance; use align='start' or 'end', "
            "or give pairs of positions"
        )
    moves = np.empty((len(a), len(b)), np.int8)
    step = min(len(a), len(b)) + 1  # an edit outweighs all equal tokens together, which cost -1 each
    inserted = step * np.arange(len(b) + 1, dtype=np.int64)
    row = inserted
    for i, token in enumerate(a):
        paired = row[:-1] + np.where(b == token, -1, step)
        skipped = row[1:] + step
        best = np.concatenate([[(i + 1) * step], np.minimum(paired, skipped)])
        row = np.minimum.accumulate(best - inserted) + inserted
        moves[i] = np.where(row[1:] == paired, 0, np.where(row[1:] == skipped, 1, 2))
    return moves


def _token_numbers(a: GraphData, b: GraphData) -> tuple[list[int], list[int]]:
    """Return the tokens of two prompts as numbers that are equal where the tokens are, the same if the prompts are swapped."""
    keys = [[token_key(graph, position) for position in range(len(graph.info["tokens"]))] for graph in (a, b)]
    number = {key: rank for rank, key in enumerate(sorted({*keys[0], *keys[1]}))}
    return [number[key] for key in keys[0]], [number[key] for key in keys[1]]


def _given_pairs(given: Any, n_a: int, n_b: int) -> list[tuple[int, int]]:
    pairs = (
        list(given.items()) if isinstance(given, Mapping) else list(given) if isinstance(given, Iterable) else [given]
    )
    if not all(isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 for pair in pairs):
        raise ArgumentError("align: expected pairs of a position in A and one in B, such as {4: 5} or [(4, 5)]")
    resolved = sorted(
        (resolve_position(a, n_a, "align: position of A"), resolve_position(b, n_b, "align: position of B"))
        for a, b in pairs
    )
    for side, name in enumerate("AB"):
        most = Counter(pair[side] for pair in resolved).most_common(1)
        if most and most[0][1] > 1:
            raise ArgumentError(f"align: position {most[0][0]} of {name} is in two pairs; name it once")
    return resolved


def _axis(pairs: Iterable[tuple[int, int]], n_a: int, n_b: int) -> list[tuple[int | None, int | None]]:
    """Return the columns: those of A in order, and each position that only B has after the one before it in B."""
    partner = dict(pairs)
    columns: list[tuple[int | None, int | None]] = [(a, partner.get(a)) for a in range(n_a)]
    place = {b: column for column, (_, b) in enumerate(columns)}
    added: dict[int, list[int]] = {}  # positions that only B has, by the column before them
    anchor = -1
    for b in range(n_b):
        if b in place:
            anchor = place[b]
        else:
            added.setdefault(anchor, []).append(b)
    joined: list[tuple[int | None, int | None]] = [(None, b) for b in added.get(-1, [])]
    for column, each in enumerate(columns):
        joined += [each, *((None, b) for b in added.get(column, []))]
    return joined

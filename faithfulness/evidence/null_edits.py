"""The null of value edits: random words of a step that are not values become other words. Imports no torch."""

from typing import NamedTuple

import numpy as np

from .text import StatedSegment, StatedText
from .token_kinds import SYMBOL, WORD, token_kind


class Edited(NamedTuple):
    """Edited positions, and what changed in words."""

    edits: dict[int, int]
    words: str


def edit_words(text: StatedText, step: StatedSegment, rng: np.random.Generator) -> Edited | None:
    """Return an edit of as many tokens of a step as its value has; None if the step has no word to edit.

    They are neighbours if possible. Each becomes another token of the transcript of the same kind, but no token of a value.
    Values, their repetitions and numbers stay. Symbols are edited only in a step without words.
    """
    assert step.value is not None
    for kind in (WORD, SYMBOL):
        places = _places(text, step, kind)
        if places:
            chosen = _together(places, step.value[1] - step.value[0], rng)
            edits = {p: int(rng.choice(places[p])) for p in chosen}
            before = text.text_of([text.ids[p] for p in chosen])
            return Edited(edits, f"{before!r} → {text.text_of(list(edits.values()))!r}")
    return None


def _places(text: StatedText, step: StatedSegment, kind: str) -> dict[int, list[int]]:
    """Return the positions of a step that can be edited, each with the tokens that may stand there."""
    taken = text.value_positions | set(text.repeats) | set(text.own_repeats(step))
    of_values = {token for each in text.segments for value in each.alternatives for token in value}
    of_values |= {text.ids[p] for p in text.value_positions if p < len(text.ids)}
    known = {
        token: token_kind(word) for token, word in zip(text.ids, text.words, strict=True) if token not in of_values
    }
    found = {}
    for p in range(step.start, min(step.stop, len(text.ids))):
        own = token_kind(text.words[p])
        if p in taken or own[0] != kind:
            continue
        same = [token for token, other in known.items() if other == own and token != text.ids[p]]
        alike = [token for token, other in known.items() if other[0] == kind and token != text.ids[p]]
        if same or alike:
            found[p] = same or alike
    return found


def _together(places: dict[int, list[int]], n: int, rng: np.random.Generator) -> list[int]:
    """Return n positions, or all if there are fewer: neighbours where there are n in a row, otherwise random ones."""
    runs = [p for p in places if all(p + i in places for i in range(n))]
    if runs:
        first = int(rng.choice(runs))
        return list(range(first, first + n))
    return sorted(rng.choice(list(places), min(n, len(places)), replace=False).tolist())

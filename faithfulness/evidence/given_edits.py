"""Edits of question and hint, with the text kept: the control edits for steps that do not matter. Imports no torch.

The first of these that question and hint contain is edited: values of the transcript and numbers; words of letters and
digits; words. Equal values change in the same way, and values are shifted by the same number of places in a circle, so that
different entries of a table stay different.
"""

from collections.abc import Sequence

import numpy as np

from ..transcripts.value_rules import letters_of, shaped_like
from .null_edits import Edited
from .rows import GIVEN_EDIT, QUESTION_EDIT
from .text import Ids, StatedSegment, StatedText
from .token_kinds import CODE, NUMBER, WORD, token_kind

TRIES = 20  # numbers drawn until one has as many tokens

Found = list[tuple[int, Ids]]  # positions and tokens


def editable_segments(text: StatedText, kind: str) -> list[StatedSegment]:
    """Return the segments that edits of a kind change: the question, or question and hint; both if the hint has no value."""
    both = kind == GIVEN_EDIT or text.hint is None or not text.fitting(text.hint)
    return [each for each in text.given if both or each.role == "question"]


def can_edit_question(text: StatedText) -> bool:
    """Return whether the question has something to edit."""
    return bool(edit_given(text, editable_segments(text, QUESTION_EDIT), 1, np.random.default_rng(0)))


def edit_given(
    text: StatedText, segments: Sequence[StatedSegment], n_rows: int, rng: np.random.Generator
) -> list[Edited]:
    """Return up to n different edits of segments; none if they contain nothing to edit."""
    found, rings, numbers = _what_to_edit(text, segments)
    rows: list[Edited] = []
    for fraction in rng.permutation(np.linspace(0, 1, n_rows, endpoint=False)) + rng.random() / n_rows:
        new = {value: _moved_on(value, rings[value], fraction) for _, value in found}
        new |= {value: _other_number(text, value, rng) for _, value in numbers}
        edits = {start + i: token for start, value in found + numbers for i, token in enumerate(new[value])}
        edits = {place: token for place, token in edits.items() if text.ids[place] != token}
        if edits and all(edits != row.edits for row in rows):
            rows.append(Edited(edits, _in_words(text, segments, new)))
    return rows


def _what_to_edit(text: StatedText, segments: Sequence[StatedSegment]) -> tuple[Found, dict[Ids, list[Ids]], Found]:
    """Return what moves on in a circle, the circle of each, and what becomes another number."""
    found = _found_values(text, segments, sorted(_values(text), key=len, reverse=True))
    numbers = _found_numbers(text, segments, {p for start, value in found for p in range(start, start + len(value))})
    rings = {value: text.ring_of(value) for _, value in found}
    if numbers or any(len(ring) > 1 for ring in rings.values()):
        return found, rings, numbers
    for kind in (CODE, WORD):
        found = _found_tokens(text, segments, kind)
        rings = {value: _alike(text, value, found) for _, value in found}
        if any(len(ring) > 1 for ring in rings.values()):
            return found, rings, []
    return [], {}, []


def _values(text: StatedText) -> list[Ids]:
    """Return all values of the transcript in a fixed order."""
    stated = [text.value_of(each) for each in text.segments if each.value]
    others = [value for each in text.segments for value in each.alternatives]
    return sorted(dict.fromkeys([*stated, *others]))


def _found_values(text: StatedText, segments: Sequence[StatedSegment], by_length: Sequence[Ids]) -> Found:
    """Return the values in question and hint; at each place the longest is meant, a stated one first."""
    stated = {each.value[0]: text.value_of(each) for each in segments if each.value}
    found, taken = [], {p for each in segments if each.value for p in range(*each.value)}
    for segment in segments:
        p = segment.start
        while p < segment.stop:
            fits = (each for each in by_length if _stands(text, each, p, segment.stop) and p not in taken)
            value = stated.get(p) or next(fits, None)
            found += [] if value is None else [(p, value)]
            p += 1 if value is None else len(value)
    return found


def _stands(text: StatedText, value: Ids, start: int, stop: int) -> bool:
    last = start + len(value)
    return last <= stop and text.ids[start:last] == value and text.stands_alone(start, last)


def _found_numbers(text: StatedText, segments: Sequence[StatedSegment], taken: set[int]) -> Found:
    """Return the numbers of question and hint: tokens of digits in a row."""
    found: Found = []
    for segment in segments:
        start = segment.start
        while start < segment.stop:
            stop = start
            while stop < segment.stop and stop not in taken and token_kind(text.words[stop])[0] == NUMBER:
                stop += 1
                if stop < segment.stop and text.words[stop][:1].isspace():
                    break
            if stop > start and text.stands_alone(start, stop):
                found.append((start, text.ids[start:stop]))
            start = max(stop, start + 1)
    return found


def _other_number(text: StatedText, value: Ids, rng: np.random.Generator) -> Ids:
    """Return another number with as many digits and tokens; the same one if none is found."""
    written = "".join(text.tokenizer.decode_token(token) for token in value)
    digits = written.strip()
    low = 10 ** (len(digits) - 1) if len(digits) > 1 else 1
    for _ in range(TRIES):
        number = str(int(rng.integers(low, 10 ** len(digits))))
        ids = tuple(text.tokenizer.encode_without_bos(written.replace(digits, number)))
        if number != digits and len(ids) == len(value) and text.text_of(ids) == number:
            return ids
    return value


def _found_tokens(text: StatedText, segments: Sequence[StatedSegment], kind: str) -> Found:
    """Return the tokens of a kind in question and hint."""
    places = (p for each in segments for p in range(each.start, each.stop))
    return [(p, (text.ids[p],)) for p in places if token_kind(text.words[p])[0] == kind]


def _alike(text: StatedText, value: Ids, found: Found) -> list[Ids]:
    """Return a token and others like it: for a code, codes with the same letters, else of its shape; for a word, words."""
    written = text.tokenizer.decode_token(value[0])
    codes = _codes_like(text, written)
    for ring in (
        {ids for other, ids in codes.items() if letters_of(other) == letters_of(written)},
        set(codes.values()),
        {other for _, other in found if token_kind(text.tokenizer.decode_token(other[0])) == token_kind(written)},
        {(token,) for token, word in zip(text.ids, text.words, strict=True) if token_kind(word) == token_kind(written)},
    ):
        if ring - {value}:
            return sorted({value, *ring})
    return [value]


def _codes_like(text: StatedText, written: str) -> dict[str, Ids]:
    """Return words of the shape of a code that are one token, with that token."""
    bare = written.strip()
    texts = [written.replace(bare, other) for other in shaped_like(bare)]
    encoded = text.tokenizer.encode_with_offsets(texts) if texts else []
    single = {each: tuple(ids) for each, (ids, _) in zip(texts, encoded, strict=True) if len(ids) == 1}
    return {each: ids for each, ids in single.items() if _spells(text, ids, each)}


def _spells(text: StatedText, ids: Ids, written: str) -> bool:
    """Return whether tokens are a text, and not the unknown token."""
    return "".join(map(text.tokenizer.decode_token, ids)) == written


def _moved_on(value: Ids, ring: Sequence[Ids], fraction: float) -> Ids:
    """Return the value some places further in a circle; itself where there is no other."""
    if value not in ring:
        return ring[int(fraction * len(ring))] if ring else value
    if len(ring) == 1:
        return value
    return ring[(ring.index(value) + 1 + int(fraction * (len(ring) - 1))) % len(ring)]


def _in_words(text: StatedText, segments: Sequence[StatedSegment], new: dict[Ids, Ids]) -> str:
    changed = [(text.text_of(value), text.text_of(other)) for value, other in new.items() if value != other]
    shown = ", ".join(f"{one} → {other}" for one, other in changed[:4])
    names = " and ".join(dict.fromkeys(each.role for each in segments))
    return f"{names}: {shown}{', …' if len(changed) > 4 else ''}"

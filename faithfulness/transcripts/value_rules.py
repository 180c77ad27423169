"""Find the value that a text states, and candidates for other values of the same kind. Imports no torch.

A segment states its last number; without one, its last content word. The numbers of list items and references, "1." and "step
2", do not count, nor does an operation such as "+3" that a content word follows. In a script without spaces between words, the
last character is found; `stated_values` extends it to whole tokens. Candidates are texts, the most plausible first; the caller
keeps those that have as many tokens as the value.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import NamedTuple

from .offsets import Span
from .word_lists import CLOSED_CLASSES
from .words import (
    LETTER_KIND,
    LETTERS,
    NUMBER_KIND,
    PHRASE,
    content_words,
    enumerations,
    is_operation,
    is_unspaced,
    kind_of,
    last_character,
    numbers,
    references,
    shape_of,
    styled,
    symbols,
    words,
)

LAST_NUMBER, LAST_WORD, LAST_SYMBOL = "last number", "last word", "last symbol"
NEAR, SPREAD, OTHER_LENGTHS = 24, 40, 100  # candidates for a number
MAX_SHAPED = 1000  # candidates for a word of letters and digits
OPTION = re.compile(r"(?<!\w)\(?([A-Za-z])[).:](?!\w)")


class FoundValue(NamedTuple):
    """A value in a text: its characters, and the rule that found it."""

    span: Span
    rule: str


class Candidates(NamedTuple):
    """Texts that may take the place of a value, in order, the rule that found them, and whether others of the kind exist."""

    texts: list[str]
    rule: str
    is_open: bool = False


def find_value(text: str, *, anything: bool = False) -> FoundValue | None:
    """Return the value that a text states: its last number, else its last content word; None without either.

    With `anything`, as for answers, a number at the start counts; a text of stop words states its last word, and one
    without words its last symbol.
    """
    marks = references(text) if anything else [*enumerations(text), *references(text)]
    found, contents = _outside(numbers(text), marks), _outside(content_words(text), marks)
    if found and not (is_operation(text, found[-1]) and any(word[0] >= found[-1][1] for word in contents)):
        return FoundValue(found[-1], LAST_NUMBER)
    if contents:
        return _found_word(text, contents[-1])
    if left := numbers(text):
        return FoundValue(left[-1], LAST_NUMBER)
    if anything and (left := words(text)):
        return _found_word(text, left[-1])
    return FoundValue(left[-1], LAST_SYMBOL) if anything and (left := symbols(text)) else None


def find_value_like(text: str, value: str) -> FoundValue | None:
    """Return the last value in a text that is of the same kind as another value; None without one."""
    kind = kind_of(value)
    if kind == NUMBER_KIND:
        found = numbers(text)
        return FoundValue(found[-1], LAST_NUMBER) if found else None
    if kind == PHRASE:
        found = [each.span() for each in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text)]
        return FoundValue(found[-1], LAST_WORD) if found else None
    found = [span for span in content_words(text) if kind_of(text[slice(*span)]) == kind]
    return _found_word(text, found[-1]) if found else None


def core_of(value: str) -> Span:
    """Return the part of a value that others replace: its last number, its only word, or all of it."""
    if found := numbers(value):
        return found[-1]
    found = words(value)
    return found[0] if len(found) == 1 else (0, len(value))


def candidates_for(value: str, stated: Sequence[str], texts: Sequence[str]) -> Candidates:
    """Return texts of the same kind as a value, without the value.

    Args:
        value: the value.
        stated: values that segments state.
        texts: the texts of the transcript.
    """
    kind = kind_of(value)
    same = [other for other in stated if kind_of(other) == kind]
    if kind == NUMBER_KIND:
        seen = [text[slice(*span)] for text in texts for span in numbers(text)]
        alike = [other for other in (*same, *seen) if _form(other) == _form(value)]
        return _without(value, [*alike, *_numbers_like(value)], "numbers")
    if kind in CLOSED_CLASSES:
        return _without(value, [styled(word, value) for word in CLOSED_CLASSES[kind].split()], f"closed class: {kind}")
    if kind.startswith(LETTER_KIND):
        options = [found[1] for text in texts for found in OPTION.finditer(text) if kind_of(found[1]) == kind]
        if value in options and len(set(options)) > 1:
            return _without(value, options, "options of the transcript")
        every = LETTERS.upper() if value.isupper() else LETTERS
        return _without(value, [*same, *every], "letters")
    if kind == PHRASE:
        phrases = [*_phrases_like(value, stated), *_phrases_like(value, texts)]
        return _without(value, phrases, "phrases of the transcript", is_open=True)
    seen = [text[slice(*span)] for text in texts for span in content_words(text) if kind_of(text[slice(*span)]) == kind]
    return _without(value, [*same, *seen], "words of the transcript", is_open=True)


def shaped_like(word: str) -> list[str]:
    """Return words of letters and digits with the same letters and other digits, then with other letters; none for others."""
    return list(dict.fromkeys([*other_digits(word), *other_letters(word)]))


def other_digits(word: str) -> list[str]:
    """Return words with the letters of a word of letters and digits, and other digits; none for other words."""
    return list(_other_digits(_runs(word))) if _mixes(word) else []


def other_letters(word: str, others: Sequence[str] = ()) -> list[str]:
    """Return words of the same shape as a word of letters and digits; those with the letters of `others` first."""
    if not _mixes(word):
        return []
    shape = shape_of(word)
    alike = {letters_of(other): other for other in others if shape_of(other) == shape and other.isascii()}
    known = [each for other in alike.values() for each in (other, *_other_digits(_runs(other)))]
    return [*known, *islice(_same_shape(_runs(word)), MAX_SHAPED)]


def letters_of(word: str) -> str:
    """Return a word without its digits."""
    return "".join(character for character in word if not character.isdecimal())


def _mixes(word: str) -> bool:
    """Return whether a word has both letters and digits, of ASCII."""
    return word.isascii() and "0" in (shape := shape_of(word)) and len(shape) > 1


def _runs(word: str) -> list[str]:
    """Return the runs of digits, of capital, and of small letters in a word, and what is between them."""
    return re.findall(r"\d+|[A-Z]+|[a-z]+|[^0-9A-Za-z]+", word)


def _other_digits(runs: Sequence[str]) -> Iterator[str]:
    """Yield words whose last run of digits is another number."""
    place = max(number for number, run in enumerate(runs) if run.isdecimal())
    for other in _numbers_like(runs[place]):
        yield "".join([*runs[:place], other, *runs[place + 1 :]])


def _same_shape(runs: Sequence[str]) -> Iterator[str]:
    """Yield all words with letters and digits of the same kinds in the places of these."""
    signs = ["0123456789" if sign.isdecimal() else _letters_like(sign) for run in runs for sign in run]
    return ("".join(each) for each in product(*signs))


def _letters_like(sign: str) -> str:
    if not sign.isalpha():
        return sign
    return LETTERS.upper() if sign.isupper() else LETTERS


def _numbers_like(number: str) -> list[str]:
    """Return numbers written like another one: near ones, ones over the whole range of as many digits, then others."""
    places = [place for place, character in enumerate(number) if character.isdecimal()]
    digits = [int(number[place]) for place in places]
    value, length = int("".join(map(str, digits))), len(digits)
    has_zeros = length == 1 or digits[0] == 0
    low, high = (0 if has_zeros else 10 ** (length - 1)), 10**length - 1
    near = [value + sign * step for step in range(1, NEAR // 2 + 1) for sign in (1, -1)]
    spread = [low + (high - low) * (2 * n + 1) // (2 * SPREAD) for n in range(SPREAD)]
    every = range(low, high + 1) if length < 3 else ()
    chosen = dict.fromkeys(each for each in (*near, *spread, *every) if low <= each <= high)
    has_sign = number[0] in "+-−"  # "-0" is written by nobody
    written = [_rewritten(number, places, str(each).zfill(length)) for each in chosen if each or not has_sign]
    if number.isascii() and number.isdecimal() and not (length > 1 and has_zeros):
        others = range(max(0, value - OTHER_LENGTHS), value + OTHER_LENGTHS)
        nearest = sorted(others, key=lambda other: (abs(other - value), other))[:OTHER_LENGTHS]
        written += [str(other) for other in nearest if len(str(other)) != length]
    return written


def _phrases_like(phrase: str, texts: Sequence[str]) -> Iterator[str]:
    """Yield parts of texts with as many words of the same shapes, and the same characters between them."""
    length, skeleton = len(words(phrase)), _skeleton(phrase)
    for text in texts:
        found, contents = words(text), set(content_words(text))
        for place in range(len(found) - length + 1):
            inside = found[place : place + length]
            if inside and contents.issuperset(inside):
                part = text[inside[0][0] : inside[-1][1]]
                if _skeleton(part) == skeleton:
                    yield part


def _skeleton(phrase: str) -> list[str]:
    """Return the shapes of a phrase's words, and what stands between them."""
    found, skeleton, place = words(phrase), [], 0
    for start, stop in found:
        skeleton += [phrase[place:start], shape_of(phrase[start:stop])]
        place = stop
    return [*skeleton, phrase[place:]]


def _found_word(text: str, span: Span) -> FoundValue:
    """Return a word as a value; of one in a script without spaces, its last character."""
    return FoundValue(last_character(text, span) if is_unspaced(text[slice(*span)]) else span, LAST_WORD)


def _form(number: str) -> str:
    """Return a number with each run of digits as 0: its sign, separators and decimal point."""
    return re.sub(r"\d+", "0", number)


def _rewritten(number: str, places: Sequence[int], digits: str) -> str:
    """Return a number with other digits, in its own script."""
    characters = list(number)
    for place, digit in zip(places, digits, strict=True):
        zero = ord(number[place]) - int(number[place])
        characters[place] = chr(zero + int(digit))
    return "".join(characters)


def _without(value: str, texts: Sequence[str], rule: str, is_open: bool = False) -> Candidates:
    return Candidates([text for text in dict.fromkeys(texts) if text != value], rule, is_open)


def _outside(spans: Sequence[Span], marks: Sequence[Span]) -> list[Span]:
    """Return the spans that overlap no mark."""
    return [(start, stop) for start, stop in spans if not any(start < last and stop > first for first, last in marks)]

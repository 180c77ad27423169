"""Find numbers and words in a text, and the kinds of values. Imports no torch.

A word is a run of letters, digits and combining marks, with apostrophes inside it; a number is a run of decimal digits that
is not part of a word. All spans here are of characters; `stated_values` extends them to whole tokens.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import groupby

from .offsets import Span
from .word_lists import AFTER_OPTION, CAPITALISED, CLOSED_CLASSES, STOP_WORDS

NUMBER = re.compile(r"(?:(?<![\w)\]}%])[-+−])?(?<!\w)(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?![,\d])|\d+)(?:\.\d+)?(?!\w)")
OPERATION = re.compile(r"(?:^|(?<=\s))[+*×·/÷^]$")  # directly before a number, as in "+3"
ENUMERATION = re.compile(r"(?i)^\s*(?:(?:step|line|equation)\s+)?[(\[#]?\d{1,3}\s?[.):\]](?=\s)")
REFERENCE = re.compile(r"(?i)\b(?:steps?|lines?|equations?)\s+\(?\d{1,3}\b\)?")
JOINERS = "'’\u200c\u200d"  # inside a word

CLASS_OF = {word: name for name, words in CLOSED_CLASSES.items() for word in words.split()}
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")  # scripts without spaces between words
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBER_KIND, LETTER_KIND, PHRASE = "number", "letter", "phrase"


def numbers(text: str) -> list[Span]:
    """Return the spans of the numbers of a text that are not part of a word, with their signs."""
    return [each.span() for each in NUMBER.finditer(text) if not _is_mark(text[each.end() : each.end() + 1])]


def words(text: str) -> list[Span]:
    """Return the spans of the words of a text."""
    return _runs(text, lambda place: _in_word(text, place), lambda run: any(sign.isalnum() for sign in run))


def content_words(text: str) -> list[Span]:
    """Return the spans of the words of a text that have a letter and are not stop words.

    A single letter is a content word at the end of the text, and "a" before a word such as "is": "A is right".
    """
    spans = words(text)
    found = [text[slice(*span)] for span in spans]
    return [
        span
        for span, word, following in zip(spans, found, [*found, ""][1:], strict=True)
        if _is_content(word, following)
    ]


def symbols(text: str) -> list[Span]:
    """Return the spans of symbols in a text: emoji, mathematical signs and currencies, but not punctuation."""
    return _runs(text, lambda place: _is_symbol(text[place]), lambda run: not all(map(_is_mark, run)))


def is_unspaced(word: str) -> bool:
    """Return whether a word ends in a script that writes no spaces between words."""
    bare = word.rstrip("".join(filter(_is_mark, word)))
    return unicodedata.name(bare[-1:] or " ", "").startswith(UNSPACED)


def last_character(text: str, span: Span) -> Span:
    """Return the span of the last character, with its combining marks; in Japanese, without an ending in Hiragana."""
    stop = span[1]
    if any(not _is_hiragana(character) for character in text[slice(*span)]):
        while _is_hiragana(text[stop - 1]):
            stop -= 1
    start = stop - 1
    while start > span[0] and _is_mark(text[start]):
        start -= 1
    return start, stop


def enumerations(text: str) -> list[Span]:
    """Return the span of a list number at the start of a text, such as "1." and "Step 2:"."""
    return [each.span() for each in ENUMERATION.finditer(text)]


def references(text: str) -> list[Span]:
    """Return the spans of references to steps, lines and equations in a text, such as "step 2"."""
    return [each.span() for each in REFERENCE.finditer(text)]


def is_operation(text: str, number: Span) -> bool:
    """Return whether a number is an operation, as in "+3" and "*2" after white space; a minus counts as a sign."""
    start = number[0] + (text[number[0]] == "+")
    return OPERATION.search(text[:start]) is not None


def kind_of(value: str) -> str:
    """Return the kind of a value: "number", "letter", the name of a closed class, a shape of words, or "phrase"."""
    found, whole = words(value), (0, len(value))
    if numbers(value) == [whole]:
        return NUMBER_KIND
    if found != [whole]:
        return PHRASE
    if (name := closed_class(value)) is not None:
        return name
    if len(value) == 1 and value.casefold() in LETTERS:
        return f"{LETTER_KIND} {'A' if value.isupper() else 'a'}"
    return f"word {shape_of(value)}"


def closed_class(word: str) -> str | None:
    """Return the name of the closed class of a word; None without one."""
    name = CLASS_OF.get(word.casefold())
    return None if name in CAPITALISED and not word[0].isupper() else name


def shape_of(word: str) -> str:
    """Return the shape of a word: runs of digits as 0, of capital, small and other letters as A, a and x, of Hiragana as h.

    A capital at the start of small letters is "Aa", one letter alone or in capitals is "A".
    """
    signs = [_sign(character) for character in word if not _is_mark(character) and character not in JOINERS]
    return "".join(sign for sign, _ in groupby(signs))


def styled(word: str, like: str) -> str:
    """Return a word with capital letters where another one has them: all, the first, or none."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[:1].isupper() else word


def _is_content(word: str, following: str) -> bool:
    if not any(character.isalpha() for character in word):
        return False
    if word.replace("’", "'").casefold() not in STOP_WORDS or closed_class(word) is not None:
        return True
    return len(word) == 1 and (not following or (word in "aA" and following in AFTER_OPTION))  # an option or a variable


def _sign(character: str) -> str:
    if character.isdecimal():
        return "0"
    if _is_hiragana(character):
        return "h"
    return "A" if character.isupper() else "a" if character.islower() else "x"


def _is_hiragana(character: str) -> bool:
    return "\u3041" <= character <= "\u309f"


def _is_mark(character: str) -> bool:
    return character != "" and unicodedata.category(character).startswith("M")


def _in_word(text: str, place: int) -> bool:
    character = text[place]
    if character in JOINERS:
        return text[place - 1 : place].isalpha() and text[place + 1 : place + 2].isalpha()
    return character.isalnum() or (_is_mark(character) and place > 0)


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character)[0] in "SM" or character == "\u200d"  # which joins emoji


def _runs(text: str, inside: Callable[[int], bool], keep: Callable[[str], bool]) -> list[Span]:
    """Return the spans of the longest runs of places that are `inside`, if `keep` accepts their text."""
    runs, start = [], 0
    for is_inside, group in groupby(range(len(text)), inside):
        stop = start + len(list(group))
        if is_inside and keep(text[start:stop]):
            runs.append((start, stop))
        start = stop
    return runs

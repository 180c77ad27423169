"""Numbers, words and kinds of values in a text. Imports no torch.

A word is a run of letters, digits and combining marks, with apostrophes inside it; a number is a run of decimal digits that
is no part of a word. Everything here is by characters; `stated_values` makes whole tokens of it.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import groupby

from .offsets import Span

NUMBER = re.compile(r"(?:(?<![\w)\]}%])[-+−])?(?<!\w)(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?![,\d])|\d+)(?:\.\d+)?(?!\w)")
OPERATION = re.compile(r"(?:^|(?<=\s))[+*×·/÷^]$")  # right in front of a number that is applied, as in "+3"
LABEL = re.compile(
    r"(?i)^\s*(?:(?:step|line|equation)\s+)?[(\[#]?\d{1,3}\s?[.):\]](?=\s)|\b(?:steps?|lines?|equations?)\s+\(?\d{1,3}\b\)?"
)
JOINERS = "'’\u200c\u200d"  # inside a word

STOP_WORDS = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "again",
        "all",
        "also",
        "although",
        "am",
        "an",
        "and",
        "any",
        "are",
        "aren't",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "but",
        "by",
        "can",
        "cannot",
        "can't",
        "could",
        "couldn't",
        "did",
        "didn't",
        "do",
        "does",
        "doesn't",
        "doing",
        "don't",
        "done",
        "down",
        "during",
        "each",
        "either",
        "else",
        "ever",
        "every",
        "few",
        "for",
        "from",
        "further",
        "get",
        "gets",
        "give",
        "given",
        "gives",
        "got",
        "had",
        "hadn't",
        "has",
        "hasn't",
        "have",
        "haven't",
        "having",
        "he",
        "hence",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "however",
        "i",
        "if",
        "in",
        "indeed",
        "into",
        "is",
        "isn't",
        "it",
        "it's",
        "its",
        "itself",
        "just",
        "let",
        "let's",
        "may",
        "me",
        "might",
        "more",
        "most",
        "must",
        "my",
        "neither",
        "nor",
        "not",
        "nothing",
        "none",
        "now",
        "of",
        "off",
        "ok",
        "okay",
        "on",
        "once",
        "only",
        "onto",
        "or",
        "other",
        "our",
        "ours",
        "out",
        "over",
        "own",
        "per",
        "please",
        "same",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "still",
        "such",
        "than",
        "that",
        "that's",
        "the",
        "their",
        "theirs",
        "them",
        "then",
        "there",
        "there's",
        "thereby",
        "therefore",
        "these",
        "they",
        "this",
        "those",
        "though",
        "through",
        "thus",
        "to",
        "too",
        "under",
        "unless",
        "until",
        "up",
        "upon",
        "us",
        "very",
        "was",
        "wasn't",
        "we",
        "well",
        "were",
        "weren't",
        "what",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "within",
        "without",
        "won't",
        "would",
        "wouldn't",
        "yet",
        "you",
        "your",
        "yours",
    ]
)
UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
CLOSED_CLASSES = {
    "yes or no": "yes no",
    "true or false": "true false",
    "number word": f"{UNITS} eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand",
    "weekday": "monday tuesday wednesday thursday friday saturday sunday",
    "short weekday": "mon tue wed thu fri sat sun",
    "month": "january february march april may june july august september october november december",
    "short month": "jan feb mar apr jun jul aug sep oct nov dec",
}
CAPITALISED = ("weekday", "short weekday", "month", "short month")  # "march" and "sun" are other words
CLASS_OF = {word: name for name, words in CLOSED_CLASSES.items() for word in words.split()}
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")  # scripts without spaces between words
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBER_KIND, LETTER_KIND, PHRASE = "number", "letter", "phrase"


def numbers(text: str) -> list[Span]:
    """Return the numbers of a text that are no part of a word, with their signs."""
    return [each.span() for each in NUMBER.finditer(text) if not _is_mark(text[each.end() : each.end() + 1])]


def words(text: str) -> list[Span]:
    """Return the words of a text."""
    return _runs(text, lambda place: _in_word(text, place), lambda run: any(sign.isalnum() for sign in run))


def content_words(text: str) -> list[Span]:
    """Return the words of a text that have a letter and are no stop words; a last word of one letter is a content word."""
    found = words(text)
    return [span for span in found if _is_content(text[slice(*span)], is_last=span == found[-1])]


def symbols(text: str) -> list[Span]:
    """Return the runs of symbols in a text, such as emoji, signs of mathematics and currencies; punctuation is none."""
    return _runs(text, lambda place: _is_symbol(text[place]), lambda run: not all(map(_is_mark, run)))


def is_unspaced(word: str) -> bool:
    """Return whether a word ends in a script that writes no spaces between words."""
    bare = word.rstrip("".join(filter(_is_mark, word)))
    return unicodedata.name(bare[-1:] or " ", "").startswith(UNSPACED)


def last_character(text: str, span: Span) -> Span:
    """Return the last character of a span, with the marks that combine with it; of Japanese, one that is no ending."""
    stop = span[1]
    if any(not _is_hiragana(character) for character in text[slice(*span)]):
        while _is_hiragana(text[stop - 1]):
            stop -= 1
    start = stop - 1
    while start > span[0] and _is_mark(text[start]):
        start -= 1
    return start, stop


def labels(text: str) -> list[Span]:
    """Return the numbers of lists and references in a text, such as "1." at its start and "step 2" anywhere."""
    return [each.span() for each in LABEL.finditer(text)]


def is_operation(text: str, number: Span) -> bool:
    """Return whether a number is an operation, as in "+3" and "*2" behind white space; a minus is a sign."""
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


def _is_content(word: str, is_last: bool) -> bool:
    if not any(character.isalpha() for character in word):
        return False
    if word.replace("’", "'").casefold() not in STOP_WORDS or closed_class(word) is not None:
        return True
    return is_last and len(word) == 1  # an option or a variable


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
    """Return the runs of places that are inside of something and whose text is to be kept."""
    runs, start = [], 0
    for is_inside, group in groupby(range(len(text)), inside):
        stop = start + len(list(group))
        if is_inside and keep(text[start:stop]):
            runs.append((start, stop))
        start = stop
    return runs

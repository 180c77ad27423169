"""Split reasoning into steps, and find the values that steps state: defaults, which callers can replace. Imports no torch."""

import re
from collections.abc import Callable

from cotrace.common.errors import ArgumentError

Splitter = Callable[[str], list[str]]
Parser = Callable[[str], str | None]

LINE = re.compile(r"[^\n]*\n+|[^\n]+")
SENTENCE_END = re.compile(r"(?<=[.!?…])(?=\s)|(?<=[。！？])")
ENUMERATION = re.compile(r"\s*\(?(\d{1,3}|[A-Za-z])[.)]")  # "1." at the start of a sentence
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?")


def split_steps(text: str) -> list[str]:
    """Split a text into its lines, or into its sentences if it has one line; the pieces add up to the text.

    A line keeps the line breaks behind it, a sentence the space in front of it. Lines of white space belong to the line
    before. A sentence ends at . ! ? or … before white space, and at 。！？; "1." or "a." in front of it ends none.
    """
    lines = _join_blank(LINE.findall(text))
    return lines if len(lines) > 1 else split_sentences(text)


def split_sentences(text: str) -> list[str]:
    """Split a text into its sentences, as `split_steps` does, whatever its lines."""
    sentences: list[str] = []
    for piece in SENTENCE_END.split(text):
        if sentences and ENUMERATION.fullmatch(sentences[-1]):
            sentences[-1] += piece
        else:
            sentences.append(piece)
    return _join_blank(sentences)


def last_number(text: str) -> str | None:
    """Return the last number in a text as it stands there, such as "-5", "1,024" or "3.5"; None if there is none."""
    numbers = NUMBER.findall(text)
    return numbers[-1].rstrip(",") if numbers else None


def check_pieces(pieces: list[str], text: str) -> list[str]:
    """Return the pieces that a splitter made. Raises ArgumentError unless they are texts that add up to the text."""
    if not isinstance(pieces, list | tuple) or not all(isinstance(piece, str) and piece for piece in pieces):
        raise ArgumentError(f"the splitter returned {pieces!r}: expected a list of texts, none of them empty")
    if "".join(pieces) != text:
        raise ArgumentError("the splitter's pieces do not add up to its text: keep white space and punctuation in them")
    return list(pieces)


def _join_blank(pieces: list[str]) -> list[str]:
    """Return the pieces with those of white space joined to the piece before, or to the one after at the start."""
    joined: list[str] = []
    for piece in pieces:
        if joined and not (piece.strip() and joined[-1].strip()):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined

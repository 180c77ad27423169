"""The text of a segment as lines of tokens that fit into its band, with the stated value always among them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cotrace.common.visible_text import printable
from cotrace.graphs.drawing.text import text_width

ELLIPSIS, LAST_PIECES = " … ", 3
SPACE_EM, FRAME_EM = text_width(" ", 1.0), 0.14
BOLD_LETTERS = 1.08  # width of bold letters over that of others
BESIDE_VALUE = ((2, 3), (1, 1), (0, 0))  # tokens before and after a value that a cut text keeps, best first
_WORD = re.compile(r"\s*\S+|\s+$")
_FIRST_WIDE = "\u2e80"  # from here on, scripts of East Asia
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")


class TextPiece(NamedTuple):
    """A token, or a word if tokens are not whole characters.

    Attributes:
        text: the token or word, with the space before it.
        position: in the prompt; None for a word and for an ellipsis.
        is_value: whether it belongs to the stated value.
        em: its width as a multiple of the font size.
    """

    text: str
    position: int | None
    is_value: bool
    em: float


class PlacedPiece(NamedTuple):
    """A piece on a line: its text without outer spaces, and where it starts and ends in em."""

    piece: TextPiece
    text: str
    start: float
    end: float


Lines = list[list[PlacedPiece]]


def pieces_of(segment: Mapping[str, Any], tokens: Sequence[str]) -> list[TextPiece]:
    """Return the tokens of a segment, or its words where its tokens do not add up to its text.

    A text that runs from right to left is one piece for each word too, since tokens would be placed the wrong way.
    """
    first, last = segment["first"], segment["last"]
    own = list(tokens[first : last + 1])
    if "".join(own).strip() == segment["text"].strip() and own:
        value = range(segment["value_first"], segment["value_last"] + 1) if segment["value_first"] is not None else ()
        return [_piece(text, first + i, first + i in value) for i, text in enumerate(own)]
    return _words(segment["text"], segment["value"])


def runs_right_to_left(pieces: Sequence[TextPiece]) -> bool:
    """Return whether a text has letters of a script that is written from right to left."""
    return any(_RIGHT_TO_LEFT.search(piece.text) for piece in pieces)


def lines_of(pieces: Sequence[TextPiece], width_em: float, most: int) -> Lines:
    """Return at most `most` lines of pieces that fit into a width; a text that is too long lacks its middle."""
    lines = _wrap(pieces, width_em)
    if len(lines) <= most:
        return lines
    for tail in _tails(pieces):
        if len(_wrap(_without_middle(pieces, 0, tail), width_em)) <= most:
            break
    low, high = 0, tail.start
    while low < high:  # the longest start of the text that leaves room for the tail
        middle = (low + high + 1) // 2
        fits = len(_wrap(_without_middle(pieces, middle, tail), width_em)) <= most
        low, high = (middle, high) if fits else (low, middle - 1)
    return _wrap(_without_middle(pieces, low, tail), width_em)[:most]


def _tails(pieces: Sequence[TextPiece]) -> Iterator[range]:
    """Yield the numbers of pieces to keep, best first: the value and some beside it, the value, the last pieces, the last one."""
    value = [i for i, piece in enumerate(pieces) if piece.is_value]
    if value:
        for before, after in BESIDE_VALUE:
            yield range(max(0, value[0] - before), min(len(pieces), value[-1] + after + 1))
    for count in (LAST_PIECES, 1):
        yield range(max(0, len(pieces) - count), len(pieces))


def _without_middle(pieces: Sequence[TextPiece], head: int, tail: range) -> list[TextPiece]:
    """Return the first pieces and those of the tail, with an ellipsis where some are left out."""
    gap, end = ([_piece(ELLIPSIS)] if cut else [] for cut in (head < tail.start, tail.stop < len(pieces)))
    return [*pieces[:head], *gap, *pieces[tail.start : tail.stop], *end]


def is_cut(pieces: Sequence[TextPiece], lines: Lines) -> bool:
    """Return whether lines lack some of the pieces."""
    return any(placed.piece.text == ELLIPSIS for line in lines for placed in line) and ELLIPSIS not in {
        piece.text for piece in pieces
    }


def _piece(text: str, position: int | None = None, is_value: bool = False) -> TextPiece:
    """Return a piece with its width; values are bold, which makes letters wider, and have a frame."""
    shown = printable(text)
    wide = BOLD_LETTERS if is_value and any(map(str.isalpha, shown)) else 1.0
    return TextPiece(text, position, is_value, wide * text_width(shown, 1.0))


def _words(text: str, value: str | None) -> list[TextPiece]:
    """Return the words of a text, with its value, where it occurs last, apart."""
    start = text.rfind(value.strip()) if value and value.strip() else -1
    if start < 0 or not value:
        return [_piece(word) for word in _WORD.findall(text)]
    before, after = text[:start].rstrip(), text[start + len(value.strip()) :]
    said = text[len(before) : len(text) - len(after)]
    parts = ((before, False), (said, True), (after, False))
    return [_piece(word, None, is_value) for part, is_value in parts for word in _WORD.findall(part)]


def _wrap(pieces: Sequence[TextPiece], width_em: float) -> Lines:
    """Return lines that break in front of spaces, or between pieces where a word is longer than a line."""
    lines: Lines = [[]]
    end = 0.0
    for word in _unbroken(pieces):
        for i, piece in enumerate(word):
            needed = sum(each.em for each in word) if i == 0 else piece.em
            if lines[-1] and end + needed > width_em:
                lines.append([])
                end = 0.0
            shown = printable(piece.text)
            lead = SPACE_EM * (len(shown) - len(shown.lstrip(" ")))
            start = end + (lead if lines[-1] else 0.0) + FRAME_EM * (piece.is_value and not _ends_in_value(lines[-1]))
            start += FRAME_EM * (_ends_in_value(lines[-1]) and not piece.is_value)
            end = start + piece.em - lead
            if bare := shown.strip(" "):
                lines[-1].append(PlacedPiece(piece, bare, start, end))
    return lines


def _ends_in_value(line: Sequence[PlacedPiece]) -> bool:
    return bool(line) and line[-1].piece.is_value


def _unbroken(pieces: Sequence[TextPiece]) -> list[list[TextPiece]]:
    """Return pieces in groups without a place for a line break: each starts with white space, or a script without spaces."""
    groups: list[list[TextPiece]] = []
    for piece in pieces:
        first = piece.text[:1]
        if groups and first and not first.isspace() and not first >= _FIRST_WIDE:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups

"""Text of pictures: widths, line breaks, percentages."""

import unicodedata
from collections.abc import Sequence

from .style import LABEL_PT

SEPARATOR = "  ·  "  # between the parts of a caption

# Advance widths of Helvetica in em, by the characters that share them; all others are 0.556 wide.
_WIDTHS_EM = {"'": 0.191, "ijl": 0.222, "|": 0.26, " !,./:;I[\\]ft": 0.278, "()-`r{}": 0.333, '"': 0.355, "*": 0.389,
              "^": 0.469, "Jcksvxyz": 0.5, "+<=>~": 0.584, "FTZ": 0.611, "&ABEKPSVXY": 0.667, "CDHNRUw": 0.722,
              "GOQ": 0.778, "Mm": 0.833, "%": 0.889, "W": 0.944, "@": 1.015, "…⋯⏎": 1.0}  # fmt: skip
_CHARACTER_EM = {character: em for characters, em in _WIDTHS_EM.items() for character in characters}


def text_width(text: str, size: float = LABEL_PT) -> float:
    """Return the approximate width of a line of Helvetica or Arial, in points."""
    return size * sum(_CHARACTER_EM.get(character) or _other_em(character) for character in text)


def _other_em(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    # Emoji and symbols often come from another, wider font.
    symbol = 1.25 if unicodedata.category(character) == "So" else 0.556
    return max(symbol, 1.0) if unicodedata.east_asian_width(character) in "WF" else symbol


def shorten(text: str, width: float, size: float = LABEL_PT, keep_end: float = 0.0) -> str:
    """Return a text cut to `width` points with an ellipsis; its end gets the share `keep_end` of the width."""
    if text_width(text, size) <= width:
        return text
    width -= text_width("…", size)
    head = _prefix(text, width * (1 - keep_end), size)
    tail = _prefix(text[::-1], width * keep_end, size)[::-1]
    return f"{head.rstrip()}…{tail.lstrip()}"


def _prefix(text: str, width: float, size: float) -> str:
    used = 0.0
    for index, character in enumerate(text):
        used += text_width(character, size)
        if used > width:
            return text[:index]
    return text


def wrap(parts: Sequence[str], width: float) -> list[str]:
    """Return lines of at most `width` points that contain the parts, with `SEPARATOR` between them."""
    lines: list[str] = []
    for part in (shorten(part, width) for part in parts):
        joined = f"{lines[-1]}{SEPARATOR}{part}" if lines else ""
        if lines and text_width(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def format_percent(share: float) -> str:
    """Return a share as a percentage with three significant digits: 45.2%, 0.08%, <0.01%."""
    if 0 < share < 1e-4:
        return "<0.01%"
    return f"{100 * share:.3g}%" if share < 0.9995 else f"{100 * share:.4g}%"


def format_count(number: int, noun: str) -> str:
    """Return a number and its noun: "1 node", "1,204 nodes"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

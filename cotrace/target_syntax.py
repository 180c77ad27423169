"""Targets, positions and sizes as users write them on the command line and in files of prompts."""

import re
from typing import Any

from cotrace.common.errors import CotraceError
from cotrace.graphs.nodes import Feature


def parse_target(text: str) -> Any:
    """Read one --target as `Model.trace` wants it; ValueError for a malformed one."""
    kind, _, rest = text.partition(":")
    if kind == "id" and rest.isdecimal():
        return int(rest)
    if kind == "diff":
        pair = tuple(rest.split("|"))
        if len(pair) != 2 or not all(pair):
            raise CotraceError(f"--target {text!r} should be 'diff:FIRST|SECOND', with the exact texts of two tokens")
        return pair
    if kind == "feature" and rest:
        parts = rest.split(":")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise CotraceError(f"--target {text!r} should be feature:LAYER:POSITION:ID, three numbers")
        layer, position, feature = map(int, parts)
        return Feature(layer, feature, position)
    return text


def parse_positions(texts: list[str]) -> int | range | list[int]:
    """Read --position as `Model.trace` wants it: one number, or all that are named. FIRST:STOP is a range.

    Raises ValueError for what is neither.
    """
    found = [_positions(text) for text in texts]
    if len(found) == 1:
        return found[0] if len(found[0]) > 1 else found[0][0]
    return [position for positions in found for position in positions]


def _positions(text: str) -> range:
    first, colon, stop = text.partition(":")
    try:
        positions = range(int(first), int(stop) if colon else int(first) + 1)
    except ValueError:
        raise CotraceError(f"--position {text!r} should be a number, or FIRST:STOP, two numbers") from None
    if not positions or positions[0] < 0 <= positions[-1]:
        raise CotraceError(f"--position {text!r} names no position; FIRST:STOP goes from FIRST up to STOP - 1")
    return positions


UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_memory(text: str | None) -> int | None:
    """Read --memory: a number of bytes with a unit, such as 8GiB. Raises ValueError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in UNITS:
        raise CotraceError(f"--memory {text!r} should be a number with a unit, such as 8GiB or 500MB")
    return int(float(match[1]) * UNITS[match[2].upper()])

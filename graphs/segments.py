"""Segments: named spans of a prompt, such as a question or a step."""

import operator
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cotrace.common.errors import ArgumentError

from .nodes import parse_integers, resolve_position

OTHER = "other"  # the positions outside every segment
RESERVED = {OTHER: "names the positions outside every segment", "none": "means no cut"}

Span = tuple[int | None, int | None] | range | slice | Iterable[int]


def parse_segments(segments: Mapping[str, Any] | None, n_positions: int) -> dict[str, tuple[int, ...]]:
    """Return the positions of each segment, ascending and counted from the start of the prompt.

    Args:
        segments: spans by name: `(start, stop)` covers start up to stop − 1, as slices do; also a slice, a range, or a
            list of positions. Negative positions count from the end of the prompt.
        n_positions: length of the prompt in tokens.

    Raises:
        ArgumentError: a span that is empty, outside the prompt or overlaps another one, or a name that is not a text or reads
            as a position.
    """
    if segments is None:
        return {}
    if not isinstance(segments, Mapping):
        raise ArgumentError(f'segments={segments!r}: expected spans by name, such as {{"question": (1, 12)}}')
    parsed: dict[str, tuple[int, ...]] = {}
    owner: dict[int, str] = {}
    for name, span in segments.items():
        check_name(name)
        parsed[name] = parse_span(span, n_positions, f"segment {name!r}")
        for position in parsed[name]:
            if owner.setdefault(position, name) != name:
                raise ArgumentError(
                    f"position {position} is in the segments {owner[position]!r} and {name!r}: end one earlier"
                )
    return parsed


def parse_span(span: Any, n_positions: int, what: str) -> tuple[int, ...]:
    """Return the positions of a span, ascending. `what` names it in messages.

    Raises ArgumentError for a span that is empty, outside the prompt or names a position twice, and for anything else.
    """
    if isinstance(span, tuple):
        if len(span) != 2:
            raise ArgumentError(f"{what} is {span!r}: a tuple is a span (start, stop); write positions as a list")
        span = slice(*span)
    if isinstance(span, slice):
        span = _range(span, n_positions, what)
    if isinstance(span, str | Mapping) or not isinstance(span, Iterable) or getattr(span, "ndim", 1) != 1:
        shown = " ".join(reprlib.repr(span).split())  # arrays have several lines
        raise ArgumentError(f"{what} is {shown}: expected (start, stop), a slice, a range or a list of positions")
    if isinstance(span, range) and span:  # may be far longer than any prompt
        (
            resolve_position(span[0], n_positions, f"{what}: position"),
            resolve_position(span[-1], n_positions, f"{what}: position"),
        )
    positions = [resolve_position(each, n_positions, f"{what}: position") for each in span]
    if not positions:
        raise ArgumentError(f"{what} is empty: name at least one position")
    if len(set(positions)) < len(positions):
        raise ArgumentError(f"{what} names a position twice: name each once")
    return tuple(sorted(positions))


def segment_of_positions(segments: Mapping[str, Iterable[int]], n_positions: int) -> tuple[np.ndarray, list[str]]:
    """Return the number of the segment of each position, (P,), and the names; those outside every one are in `OTHER`."""
    names = [*segments, OTHER]
    number_P = np.full(n_positions, len(segments))
    for number, positions in enumerate(segments.values()):
        number_P[list(positions)] = number
    return number_P, names


def _range(span: slice, n_positions: int, what: str) -> range:
    """Return a slice as a range; its ends are inside the prompt, or equal to its length."""
    try:
        start, stop, step = (None if end is None else operator.index(end) for end in (span.start, span.stop, span.step))
    except TypeError as error:
        raise ArgumentError(f"{what} is {span.start!r} to {span.stop!r}: both must be integers") from error
    start = 0 if start is None else start
    if stop is None or (start < 0 and stop == 0):
        stop = n_positions
    first, last = (end + n_positions if end < 0 else end for end in (start, stop))
    shown = f"{what} ({start}, {stop})"
    if not (0 <= first <= n_positions and 0 <= last <= n_positions):
        raise ArgumentError(f"{shown} is outside the prompt of {n_positions} tokens (0 … {n_positions})")
    if first >= last or (step is not None and step < 1):
        raise ArgumentError(f"{shown} is empty: (start, stop) covers start up to stop − 1")
    return range(first, last, step or 1)


def check_name(name: Any) -> None:
    """Raise ArgumentError for a name of a segment that is not a text, or that would be read as something else."""
    if not isinstance(name, str) or not name.strip():
        raise ArgumentError(f"the name of a segment is {name!r}: expected a text")
    if name in RESERVED:
        raise ArgumentError(f"a segment is called {name!r}, which {RESERVED[name]}: choose another name")
    try:
        parse_integers(name)
    except ArgumentError:
        return
    raise ArgumentError(f"a segment is called {name!r}, which reads as a position: choose another name")

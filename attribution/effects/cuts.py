"""Cuts: positions that paths must avoid. Imports no torch.

A cut removes every path that visits one of its positions, at any layer; nothing is renormalized. The position where a
target is read ends every path, so that no cut may contain it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import resolve_position, text_of_positions
from cotrace.graphs.segments import parse_segments, parse_span

__all__ = ["NO_CUT", "Cut", "check_targets", "parse_cuts", "parse_segments"]


class Cut(NamedTuple):
    """Positions that paths must avoid.

    Attributes:
        label: the cut in words: names of segments and positions; empty for no cut.
        positions: ascending; empty for no cut.
    """

    label: str = ""
    positions: tuple[int, ...] = ()


NO_CUT = Cut()


def parse_cuts(avoiding: Any, segments: Mapping[str, Sequence[int]], n_positions: int) -> list[Cut]:
    """Return the cuts that `avoiding=` names, at least one; None is `NO_CUT`.

    Args:
        avoiding: a position, a span `(start, stop)`, a range or slice, the name of a segment, or a list of positions, each
            of which is one cut. Any other list is a list of cuts, in which None means no cut, and a list for a cut
            of several parts.
        segments: the positions of each segment, as `parse_segments` returns them.
        n_positions: length of the prompt in tokens.

    Raises:
        ArgumentError: an unknown segment, a span that is empty or outside the prompt, a cut that is given twice, or
            anything else.
    """
    several = isinstance(avoiding, list) and not _are_positions(avoiding)
    if several and not avoiding:
        raise ArgumentError("avoiding is an empty list: name at least one cut, or omit it")
    cuts = [_cut(item, segments, n_positions) for item in (avoiding if several else [avoiding])]
    for cut in cuts:
        same = [other.label for other in cuts if other.positions == cut.positions]
        if len(same) > 1:
            names = " and ".join(map(repr, same[:2]))
            raise ArgumentError(f"avoiding names the same positions twice, {names}: name each cut once")
    return cuts


def check_targets(cuts: Iterable[Cut], target_positions: Iterable[int]) -> None:
    """Raise ArgumentError for a cut that contains a position where a target is read."""
    read = set(target_positions)
    for cut in cuts:
        inside = sorted(read.intersection(cut.positions))
        if inside:
            raise ArgumentError(
                f"avoiding {cut.label!r} contains position {inside[0]}, where a target is read and every path ends: "
                "leave it out of the cut"
            )


def _cut(item: Any, segments: Mapping[str, Sequence[int]], n_positions: int) -> Cut:
    """Return one cut; of a list that is not of positions, the union of its parts."""
    if item is None:
        return NO_CUT
    if isinstance(item, list) and not _are_positions(item):
        parts = [_part(part, segments, n_positions) for part in item]
        if not parts:
            raise ArgumentError("avoiding has an empty cut: name at least one position, or write None for no cut")
        positions = tuple(sorted({position for part in parts for position in part.positions}))
        return Cut(" + ".join(part.label for part in parts), positions)
    return _part(item, segments, n_positions)


def _part(part: Any, segments: Mapping[str, Sequence[int]], n_positions: int) -> Cut:
    if isinstance(part, str):
        if part not in segments:
            known = f"the segments are {', '.join(map(repr, segments))}" if segments else "there are no segments"
            raise ArgumentError(f"avoiding={part!r}: no segment has this name; {known}")
        return Cut(part, tuple(segments[part]))
    if isinstance(part, list | tuple | range | slice) or getattr(part, "ndim", 0) == 1:
        positions = parse_span(part, n_positions, "avoiding")
    else:
        positions = (resolve_position(part, n_positions, "avoiding: position"),)
    return Cut(text_of_positions(positions), positions)


def _are_positions(values: list) -> bool:
    """Return whether a list is one of integers, and so one cut; booleans are refused later."""
    return bool(values) and all(isinstance(value, int | np.integer) for value in values)

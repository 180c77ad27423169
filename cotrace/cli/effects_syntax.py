"""Parse segments, cuts and groups of tokens on the command line."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import parse_integers
from cotrace.target_syntax import parse_token

NO_CUT = "none"
_SPAN = re.compile(r"\s*(-?[0-9]{1,9})?\s*:\s*(-?[0-9]{1,9})?\s*")


def parse_segments(texts: Iterable[str], option: str = "--segment") -> dict[str, Any]:
    """Return spans by name, as `Model.effects` takes them, from texts such as `question=1:12` or `steps=3,5:9`.

    `option` names the option in errors.

    Raises ArgumentError for any other text, and for a name that is given twice.
    """
    segments: dict[str, Any] = {}
    for text in texts:
        name, equals, span = text.rpartition("=")
        if not equals or not name.strip():
            raise ArgumentError(f"{option} {text!r}: expected NAME=START:STOP, such as question=1:12")
        if name in segments:
            raise ArgumentError(f"{option} names {name!r} twice; give each segment another name")
        segments[name] = _parse_positions(option, text, span)
    return segments


def parse_cuts(texts: Sequence[str], segments: Iterable[str]) -> list[Any] | None:
    """Return cuts, as `Model.effects` takes them, from texts such as `question`, `3,5:9`, `question,5:9` or `none`.

    Raises ArgumentError for a text that is neither positions nor the name of a segment.
    """
    return [_parse_cut(text, list(segments)) for text in texts] or None


def parse_groups(texts: Iterable[str]) -> dict[str, list[str | int]] | None:
    """Return lists of tokens by name from texts such as `colours= red| blue`, with exact texts or ids `id:1234`.

    Raises ArgumentError for any other text, and for a name that is given twice.
    """
    groups: dict[str, list[str | int]] = {}
    for text in texts:
        name, _, tokens = text.partition("=")
        parsed = tokens.split("|")
        if not name.strip() or not all(parsed):
            raise ArgumentError(
                f"--group {text!r}: expected NAME=FIRST|SECOND|… with the exact texts of tokens, such as 'colours= red| blue'"
            )
        if name in groups:
            raise ArgumentError(f"--group names {name!r} twice; give each group another name")
        groups[name] = [parse_token(token) for token in parsed]
    return groups or None


def _parse_cut(text: str, segments: list[str]) -> Any:
    if text.strip() == NO_CUT:
        return None
    if text in segments:
        return [text]
    parts: list[Any] = []
    for part in map(str.strip, text.split(",")):
        if not part:
            raise ArgumentError(f"--avoiding {text!r}: expected the name of a segment, positions, or {NO_CUT}")
        if part in segments or not any(character.isdecimal() for character in part):
            parts.append(part)
        else:
            positions = _parse_positions("--avoiding", text, part)
            parts += positions if isinstance(positions, list) else [positions]
    return parts


def _parse_positions(option: str, text: str, positions: str) -> tuple[int | None, int | None] | list[int]:
    """Return a span `(start, stop)` of which an end may be left out, or a list of positions."""
    span = _SPAN.fullmatch(positions)
    if span is not None and positions.strip() != ":":
        start, stop = (None if end is None else int(end) for end in span.groups())
        return start, stop
    try:
        return list(parse_integers(positions))
    except ArgumentError as error:
        raise ArgumentError(f"{option} {text!r}: {error}") from error

"""Parse targets, positions and sizes on the command line and in files of prompts."""

import re
from collections.abc import Sequence
from typing import Literal

from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import Feature, parse_integers

NEXT: Literal["next"] = "next"
FEATURE = re.compile(r"\s*(L[0-9]+\s*#|[0-9]+_[0-9]+_[0-9]+\s*\Z).*", re.DOTALL)
UNIT_BYTES = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

ParsedTarget = str | int | tuple[str, str] | Feature


def parse_target(text: str) -> ParsedTarget:
    """Return the target that a text names, as `Model.trace` takes it.

    `id:1234` is a token id, `diff: cold| hot` the difference of two tokens, `L17#264@5` a feature, and any other text
    a token. Raises ArgumentError for a malformed difference or feature.
    """
    kind, _, rest = text.partition(":")
    if kind == "diff":
        pair = rest.split("|")
        if len(pair) != 2 or not all(pair):
            raise ArgumentError(
                f"invalid target {text!r}: expected 'diff:FIRST|SECOND' with the exact texts of two tokens"
            )
        return pair[0], pair[1]
    if FEATURE.fullmatch(text):
        feature = Feature.parse(text)
        if not isinstance(feature.position, int):
            raise ArgumentError(f"invalid target {text!r}: expected one position, such as L17#264@5")
        return feature
    return parse_token(text)


def parse_token(text: str) -> str | int:
    """Return the token that a text names: an id for `id:1234`, else the text itself."""
    kind, _, rest = text.partition(":")
    return int(rest) if kind == "id" and rest.isdecimal() else text


def parse_targets(texts: Sequence[str]) -> list[ParsedTarget] | Literal["next"]:
    """Return the targets that several texts name; the one text `next` is the tokens that follow in the prompt.

    Raises ArgumentError for `next` together with other targets, and as `parse_target` does.
    """
    if NEXT not in texts:
        return [parse_target(text) for text in texts]
    if len(texts) > 1:
        raise ArgumentError("the target 'next' cannot be combined with others: name it alone")
    return NEXT


def parse_positions(option: str, texts: Sequence[str]) -> int | list[int]:
    """Return the position that an option names, or a list of several: integers and ranges FIRST:STOP.

    Raises ArgumentError, with the name of the option, for anything else.
    """
    try:
        positions = parse_integers(",".join(texts))
    except ArgumentError as error:
        raise ArgumentError(f"{option}: {error}") from error
    return positions[0] if len(positions) == 1 else list(positions)


def parse_bytes(option: str, text: str) -> int:
    """Return the number of bytes that an option names, such as `8GiB` or `500MB`. Raises ArgumentError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in UNIT_BYTES:
        raise ArgumentError(f"{option} {text!r}: expected a number with a unit, such as 8GiB or 500MB")
    return int(float(match[1]) * UNIT_BYTES[match[2].upper()])

"""Targets as users write them on the command line and in files of prompts."""

from typing import Any


def parse_target(text: str) -> Any:
    """Read one --target as `Model.trace` wants it; ValueError for a malformed one."""
    kind, _, rest = text.partition(":")
    if kind == "id" and rest.isdecimal():
        return int(rest)
    if kind == "diff":
        pair = tuple(rest.split("|"))
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"--target {text!r} should be 'diff:FIRST|SECOND', with the exact texts of two tokens")
        return pair
    if kind == "feature" and rest:
        parts = rest.split(":")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise ValueError(f"--target {text!r} should be feature:LAYER:POSITION:ID, three numbers")
        return ("feature", *map(int, parts))
    return text

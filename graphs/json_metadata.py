"""JSON in the metadata of files: what it can hold, and whether it has an expected shape.

A shape is a type; a tuple of alternatives; a list with the shape of every item; or a dict with the shape of each key,
besides which others may exist. A key that ends in `?` may be missing; the key `*` is the shape of every entry.
"""

import json
from typing import Any

NUMBER = (int, float)


def encode_entries(entries: dict[str, Any]) -> bytes:
    """Return entries as JSON. Raises TypeError, ValueError or RecursionError for values that JSON cannot hold."""
    return json.dumps(entries, sort_keys=True, allow_nan=False).encode()


def decode_entries(text: bytes) -> dict[str, Any]:
    """Return the entries of a JSON object. Raises ValueError for damaged ones."""
    try:
        entries = json.loads(text)
        require_exact(entries)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(entries, dict):
        raise ValueError("it is not a JSON object")
    return entries


def require_exact(value: Any) -> None:
    """Raise TypeError, ValueError or RecursionError unless JSON can hold a value as it is."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # no infinities, no half characters
    if not _has_text_keys(value):
        raise TypeError("a key is not a text")


def _has_text_keys(value: Any) -> bool:
    """Return whether all keys are texts; JSON would turn others into texts."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(inner) for key, inner in value.items())
    return not isinstance(value, list | tuple) or all(map(_has_text_keys, value))


def wrong_entries(entries: dict[str, Any], shapes: dict[str, Any]) -> list[str]:
    """Return the keys of entries that are missing or do not have their shapes."""
    return [key.rstrip("?") for key, shape in shapes.items() if not _fits(entries, {key: shape})]


def _fits(value: Any, shape: Any) -> bool:
    """Return whether decoded JSON has a shape; integers stay below 2^63."""
    if isinstance(shape, tuple):
        return any(_fits(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(item, shape[0]) for item in value)
    if isinstance(shape, dict) and "*" in shape:
        return isinstance(value, dict) and all(_fits(inner, shape["*"]) for inner in value.values())
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            _fits(value[name], inner) if (name := key.rstrip("?")) in value else key.endswith("?")
            for key, inner in shape.items()
        )
    return value is shape if shape is None else type(value) is shape and (shape is not int or abs(value) < 2**63)

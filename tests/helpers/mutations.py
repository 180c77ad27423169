"""Damaged copies of files: bytes and lengths at random, and JSON with valid syntax and wrong values."""

import json
import struct

import numpy as np

VALUES = [
    None, True, False, 0, -1, 1, 2, 3, 10**9, 2**31, 2**63, -(2**63), 10**40, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "text", "0", "\ud800", "\0", "../../x", "é" * 300, [], [[]], [None], [0], [1, "a"], ["a"] * 3, {}, {"a": 1}, {"": None},
]  # fmt: skip
NUMBERS = [0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def mutated(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Return a damaged copy of a file; of one with JSON in it, often with another value in the place of one."""
    if rng.random() < 0.6:
        if suffix in (".json", ".yaml"):
            return _json_bytes(_changed_json(json.loads(content), rng))
        if suffix == ".jsonl":
            return _changed_line(content, rng)
        if suffix == ".safetensors":
            return _changed_header(content, rng)
    return _changed_bytes(content, rng)


def _changed_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    start, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    end = min(end, start + 64) if rng.random() < 0.7 else end
    kind = rng.integers(8)
    if kind <= 2:  # most often: a few bits
        for place in rng.integers(0, max(len(data), 1), rng.choice([1, 1, 2, 8]))[: len(data)]:
            data[place] ^= 1 << rng.integers(8)
    elif kind == 3:
        data[start:end] = rng.bytes(end - start)
    elif kind == 4:
        del data[start:end]
    elif kind == 5:
        data[start:start] = data[start:end]
    elif kind == 6:
        width, form = (4, "<I") if rng.random() < 0.5 else (8, "<Q")
        start -= start % width
        data[start : start + width] = struct.pack(form, NUMBERS[rng.integers(len(NUMBERS))] % 2 ** (8 * width))
    else:
        del data[start:]
    return bytes(data)


def _changed_json(value, rng: np.random.Generator):
    """Return a copy of decoded JSON with one entry replaced, removed, renamed or copied."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return [VALUES[rng.integers(len(VALUES))], _deep(rng)][int(rng.random() < 0.03)]
    if isinstance(value, list):
        copy, place = list(value), int(rng.integers(len(value)))
        if rng.random() < 0.2:
            del copy[place]
        elif rng.random() < 0.2:
            copy.append(copy[place])
        else:
            copy[place] = _changed_json(copy[place], rng)
        return copy
    copy, key = dict(value), list(value)[rng.integers(len(value))]
    if rng.random() < 0.15:
        del copy[key]
    elif rng.random() < 0.1:
        copy[f"{key}x"] = copy.pop(key)
    else:
        copy[key] = _changed_json(copy[key], rng)
    return copy


def _deep(rng: np.random.Generator):
    value = None
    for _ in range(int(rng.choice([50, 900]))):
        value = [value]
    return value


def _json_bytes(value) -> bytes:
    return json.dumps(value).encode()


def _changed_line(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines()
    place = rng.integers(len(lines))
    lines[place] = _json_bytes(_changed_json(json.loads(lines[place]), rng))
    return b"\n".join(lines) + b"\n"


def _changed_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a safetensors file with another JSON header, whose length is right."""
    length = struct.unpack("<Q", content[:8])[0]
    header = _json_bytes(_changed_json(json.loads(content[8 : 8 + length]), rng))
    return struct.pack("<Q", len(header)) + header + content[8 + length :]

"""Transcripts as JSON, and files of it. Imports no torch.

An object with `format`, `version`, `segments` (role, text or token_ids, name, value, value_start), `values` and, for chats, `turns`
(role, segments). A list of segments is read too.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cotrace.common.errors import ArgumentError, CotraceError, FileError, one_line
from cotrace.common.files import atomic_write
from cotrace.graphs.json_metadata import wrong_entries

from .chat import ChatTurn
from .segment import Content, Segment, as_segment

Result = TypeVar("Result")
FORMAT, FORMAT_VERSION = "cotrace transcript", 1
CONTENT = (str, [int])
SHAPES: dict[str, Any] = {
    "segments": [
        {
            **{"role": str, "text?": str, "token_ids?": [int], "name?": str},
            **{"value?": (*CONTENT, None), "value_start?": (int, None)},
        }
    ],
    "values?": [CONTENT],
    "turns?": ([{"role": str, "segments": [str]}], None),
}
SEGMENT_KEYS = {"role", "text", "token_ids", "name", "value", "value_start"}


class TranscriptParts(NamedTuple):
    """The parts of a transcript."""

    segments: Sequence[Segment]
    values: Sequence[Content] = ()
    turns: Sequence[ChatTurn] | None = None


def encode(parts: TranscriptParts) -> str:
    """Return a transcript as JSON."""
    entries: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION}
    entries["segments"] = [_encoded(segment) for segment in parts.segments]
    entries["values"] = list(parts.values)
    if parts.turns is not None:
        entries["turns"] = [turn._asdict() for turn in parts.turns]
    return json.dumps(entries, ensure_ascii=False, indent=1)


def decode(text: str | bytes) -> TranscriptParts:
    """Return the parts of a transcript in JSON. Raises ArgumentError for anything else."""
    try:
        entries = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"it is not JSON ({one_line(error)}); `Transcript.to_json` writes transcripts") from error
    if isinstance(entries, list):
        entries = {"segments": entries}
    elif not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise ArgumentError(f'it is JSON, but no transcript: it lacks "format": "{FORMAT}"')
    elif type(version := entries.get("version")) is not int or version < 1:
        raise ArgumentError(f'its "version" is {version!r}: expected {FORMAT_VERSION}')
    elif version > FORMAT_VERSION:
        raise ArgumentError(
            f"it has version {version} and this cotrace reads up to {FORMAT_VERSION}: install a newer one"
        )
    if wrong := wrong_entries(entries, SHAPES):
        raise ArgumentError(f"its {' and '.join(wrong)} are missing or wrong: docs/transcripts.md describes them")
    turns = entries.get("turns")
    return TranscriptParts(
        [_decoded(segment) for segment in entries["segments"]],
        entries.get("values", []),
        None if turns is None else [ChatTurn(turn["role"], tuple(turn["segments"])) for turn in turns],
    )


def write_file(parts: TranscriptParts, path: Path) -> Path:
    """Write a transcript atomically; return the path. Raises FileError or ResourceError if it cannot be written."""
    with atomic_write(path) as temporary:
        temporary.write_text(encode(parts) + "\n", encoding="utf-8")
    return path


def read_file(path: Path, build: Callable[[TranscriptParts], Result]) -> Result:
    """Return what `build` makes of the transcript in a file. Raises FileError for one that is missing, damaged, or none."""
    try:
        return build(decode(path.read_bytes()))
    except CotraceError as error:
        raise FileError(f"cannot open {path}: {error}") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or one_line(error)
        raise FileError(f"cannot open {path}: {reason}; give a file that Transcript.save wrote") from error


def _encoded(segment: Segment) -> dict[str, Any]:
    key = "text" if isinstance(segment.text, str) else "token_ids"
    entry = {"role": segment.role, "name": segment.name, key: segment.text}
    stated = {"value": segment.value, "value_start": segment.value_start}
    return entry | {key: value for key, value in stated.items() if value is not None}


def _decoded(entry: dict[str, Any]) -> Segment:
    unknown = sorted(set(entry) - SEGMENT_KEYS)
    if unknown or ("text" in entry) == ("token_ids" in entry):
        raise ArgumentError(f"a segment has {unknown or sorted(entry)}: expected role, text or token_ids, name, value")
    fields = {key: value for key, value in entry.items() if key != "token_ids"}
    return as_segment({**fields, "text": entry.get("text", entry.get("token_ids"))})

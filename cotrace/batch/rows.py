"""Rows of a batch, from JSON lines or Parquet: their places for messages, their ids, and their columns."""

import difflib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as parquet

from cotrace.common.errors import CotraceError, FileError, PromptError, one_line

from .file_layout import MAX_NAME_BYTES, NULL_PARTITION, partition

PARQUET_BATCH_ROWS = 256


class Identified(Protocol):
    """A row of a batch."""

    @property
    def id(self) -> str | int:
        """The id, which names its results."""

    @property
    def digest(self) -> str:
        """A hash of everything but the id."""


Row = TypeVar("Row", bound=Identified)


def digests_of(rows: Iterable[tuple[str, Identified]], source: Any, noun: str) -> dict[str, str]:
    """Return the digest of each row by the name of its folder; rows come after their places, and `noun` names one.

    Raises PromptError for an id that occurs twice, and for a source without rows.
    """
    digests: dict[str, str] = {}
    for where, row in rows:
        name = partition(row.id)
        if name in digests:
            raise PromptError(f"{where}: the id {row.id!r} occurs twice; give each {noun} a different one")
        digests[name] = row.digest
    if not digests:
        raise PromptError(f"{source if isinstance(source, str | os.PathLike) else 'the list'} has no {noun}s; add some")
    return digests


def parse_rows(rows: Iterable[tuple[str, Any]], parse: Callable[[Any, int], Row]) -> Iterator[tuple[str, Row]]:
    """Yield each row, parsed from its contents and its number, after its place; an error names the place."""
    for number, (where, row) in enumerate(rows):
        try:
            yield where, parse(row, number)
        except CotraceError as error:
            raise PromptError(f"{where}: {error}") from error


def check_columns(row: Mapping[str, Any], columns: Sequence[str], renamed: Mapping[str, str] | None = None) -> None:
    """Raise PromptError for an unknown column, with the column that it means, if that is missing.

    `renamed` has names that other tools use, with the column of each.
    """
    unknown = next((name for name in row if name not in columns), None)
    if unknown is None:
        return
    close = difflib.get_close_matches(str(unknown).strip().lower(), columns, n=1)
    meant = close[0] if close else (renamed or {}).get(str(unknown).lower())
    cure = f"remove it: the columns are {', '.join(columns)}"
    if meant is not None and meant not in row:
        cure = f"rename it to {meant!r}"
    raise PromptError(f"the column {unknown!r} is unknown; {cure}")


def parse_id(given: Any, number: int) -> str | int:
    """Return the id of a row, by default its number. Raises PromptError for one that cannot name a folder."""
    if given is None:
        return number
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise PromptError(f"the id {given!r} is neither a text nor an integer; change it, or omit ids")
    if given in ("", NULL_PARTITION):
        raise PromptError(f"the id {given!r} means no value in a data set; choose another")
    if len(partition(given)) > MAX_NAME_BYTES:
        raise PromptError(f"the id {str(given)[:20]!r}… is too long for a folder name; shorten it")
    return given


def read_file_rows(path: Path, expected: str) -> Iterator[tuple[str, Any]]:
    """Yield each row of a file of JSON lines or Parquet after its place, for messages.

    Raises FileError for another file, and for one that cannot be read; `expected` says what to write in it.
    """
    if not path.is_file():
        raise FileError(f"{path} is not a file; name one of JSON lines (.jsonl) or Parquet: {expected}")
    if path.suffix not in READERS:
        raise FileError(f"{path} should end in {' or '.join(READERS)}: JSON lines or Parquet; {expected}")
    yield from READERS[path.suffix](path, expected)


def _json_lines(path: Path, expected: str) -> Iterator[tuple[str, Any]]:
    try:
        lines = path.open("rb")
    except OSError as error:
        raise FileError(f"cannot read {path} ({error.strerror}); check its permissions") from error
    with lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                # Bytes that are not UTF-8 become lone surrogates, so that their prompt fails alone when it is traced.
                row = json.loads(line.decode(json.detect_encoding(line), "surrogateescape"))
            except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
                if number == 1 and _begins_json(line) and isinstance(error, json.JSONDecodeError):
                    raise FileError(
                        f"{path} is not JSON lines: its first line is no whole object; {expected}"
                    ) from error
                raise FileError(f"{where} is not JSON ({getattr(error, 'msg', error)}); {expected}") from error
            if number == 1 and isinstance(row, list):
                raise FileError(f"{path} is one JSON array and not JSON lines; {expected}")
            yield where, row


def _begins_json(line: bytes) -> bool:
    """Return whether a line looks like the first of a JSON file that is written over several lines."""
    return line.strip() == b"{" or line.lstrip()[:1] == b"["


def _parquet(path: Path, _expected: str) -> Iterator[tuple[str, Any]]:
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(PARQUET_BATCH_ROWS):
            for index in range(batch.num_rows):
                yield f"{path}, row {number}", {name: _cell(batch[name][index]) for name in batch.schema.names}
                number += 1
    except Exception as error:  # Arrow raises errors of many kinds for damaged bytes
        raise FileError(f"{path} cannot be read as Parquet ({one_line(error)}); write it again") from error


def _cell(scalar: pa.Scalar) -> Any:
    """Return a cell; a text that is not UTF-8 gets lone surrogates, so that its prompt fails alone when it is traced."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if not pa.types.is_string(scalar.type):
            raise
        return scalar.cast(pa.binary()).as_py().decode(errors="surrogateescape")


READERS = {".jsonl": _json_lines, ".parquet": _parquet}

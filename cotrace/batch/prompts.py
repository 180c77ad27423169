"""The prompts of a batch, from JSON lines, Parquet or a list, read one at a time."""

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from cotrace.common.errors import ArgumentError, CotraceError, FileError, PromptError, one_line
from cotrace.faithfulness.transcripts import Segment, Transcript
from cotrace.graphs.nodes import ErrorNode, Feature
from cotrace.target_syntax import parse_targets

from .file_layout import MAX_NAME_BYTES, NULL_PARTITION, partition

COLUMNS = ("prompt", "id", "targets")
PROMPT_NAMES = ("text", "content", "input", "messages", "question", "sentence")  # of other tools
EXPECTED = 'write one object a line, such as {"prompt": "The sky is", "id": "sky"}'
PARQUET_BATCH_ROWS = 256

PromptSource = str | os.PathLike | Sequence[Any]  # a file, or the prompts themselves


@dataclass(frozen=True)
class BatchPrompt:
    """One prompt of a batch.

    Attributes:
        id: names the results.
        content: a text, token ids, a chat or a transcript.
        targets: its own targets, as `Model.trace` takes them; None for those of the batch.
    """

    id: str | int
    content: Any
    targets: Any = None

    @property
    def digest(self) -> str:
        """SHA-256 of the content and the targets."""
        return hashlib.sha256(to_json([self.content, self.targets]).encode()).hexdigest()


def to_json(value: Any) -> str:
    """Return a value as JSON; arrays, tensors and ranges become lists, nodes and transcripts texts. Raises ArgumentError for other types."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, range):
        return list(value)
    if isinstance(value, Feature | ErrorNode):
        return str(value)
    if isinstance(value, Transcript):
        return value.to_json()
    if isinstance(value, Segment):
        return vars(value)
    raise ArgumentError(f"{value!r} is neither text nor numbers; give texts, numbers or lists of them")


def check_prompts(source: PromptSource) -> dict[str, str]:
    """Read all prompts once, and return the digest of each by the name of its folder.

    Raises CotraceError, with the line or row, for an invalid prompt or an id that occurs twice, and for an empty file.
    """
    digests: dict[str, str] = {}
    for where, prompt in _prompts(source):
        name = partition(prompt.id)
        if name in digests:
            raise PromptError(f"{where}: the id {prompt.id!r} occurs twice; give each prompt a different one")
        digests[name] = prompt.digest
    if not digests:
        raise PromptError(f"{source if isinstance(source, str | os.PathLike) else 'the list'} has no prompts; add some")
    return digests


def read_prompts(source: PromptSource) -> Iterator[BatchPrompt]:
    """Yield all prompts in their order. Raises CotraceError as `check_prompts` does."""
    return (prompt for _, prompt in _prompts(source))


def _prompts(source: PromptSource) -> Iterator[tuple[str, BatchPrompt]]:
    """Yield each prompt after its line or row, for messages."""
    for number, (where, row) in enumerate(_rows(source)):
        try:
            yield where, _prompt(row, number)
        except CotraceError as error:
            raise PromptError(f"{where}: {error}") from error


def _rows(source: PromptSource) -> Iterator[tuple[str, Any]]:
    if not isinstance(source, str | os.PathLike):
        for number, item in enumerate(source):
            yield f"prompt {number}", item if isinstance(item, dict) else {"prompt": item}
        return
    yield from read_file_rows(Path(source), EXPECTED)


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


def _prompt(row: Any, number: int) -> BatchPrompt:
    if not isinstance(row, dict):
        raise PromptError(f"it is not an object; {EXPECTED}")
    unknown = [name for name in row if name not in COLUMNS]
    if unknown:
        raise PromptError(f"the column {unknown[0]!r} is unknown; {_cure(unknown[0], row)}")
    if row.get("prompt") is None:
        raise PromptError("it has no prompt; fill the column `prompt`")
    return BatchPrompt(parse_id(row.get("id"), number), row["prompt"], _targets(row.get("targets")))


def _cure(name: str, row: dict[str, Any]) -> str:
    """Return what to do about an unknown column: rename it if it means one that is missing, or else remove it."""
    close = difflib.get_close_matches(name.strip().lower(), COLUMNS, n=1)
    meant = close[0] if close else "prompt" if name.lower() in PROMPT_NAMES else None
    if meant is not None and meant not in row:
        return f"rename it to {meant!r}"
    return f"remove it: the columns are {', '.join(COLUMNS)}"


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


def _targets(given: Any) -> Any:
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(text, str) for text in given):
        raise PromptError("targets: expected a list of texts as --targets takes them; correct or omit it")
    return parse_targets(given)

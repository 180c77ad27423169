"""Many prompts as users write them: JSON lines, Parquet or a list, read one at a time."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from cotrace.common.errors import CotraceError
from cotrace.target_syntax import parse_target

from .file_layout import MOST_BYTES, NULL, partition

COLUMNS = ("prompt", "id", "targets")
READ_AT_ONCE = 256  # rows of a Parquet file

Source = str | os.PathLike | Sequence[Any]  # a file, or the prompts themselves


@dataclass(frozen=True)
class BatchPrompt:
    """One prompt of many: what names its results, what is traced, and its own targets, if it has any."""

    id: str | int
    content: Any  # a text, token ids or a chat
    targets: list[Any] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of what is traced."""
        return hashlib.sha256(as_json([self.content, self.targets]).encode()).hexdigest()


def as_json(value: Any) -> str:
    """JSON, also of arrays, tensors and ranges. Raises ValueError for anything else that JSON does not have."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, range):
        return list(value)
    raise CotraceError(f"{value!r} is neither text nor numbers; give texts, numbers or lists of them")


def check_prompts(source: Source) -> dict[str, str]:
    """Read all prompts once: the digest of each, by the name of its folder.

    Raises ValueError, naming the place, for what is no prompt, for ids that are there twice, and for no prompts.
    """
    digests: dict[str, str] = {}
    for place, prompt in _placed(source):
        name = partition(prompt.id)
        if name in digests:
            raise CotraceError(
                f"{place}: the id {prompt.id!r} is there twice; give each prompt its own, as results need"
            )
        digests[name] = prompt.digest
    if not digests:
        raise CotraceError(
            f"{source if isinstance(source, str | os.PathLike) else 'the list'} has no prompts; add some"
        )
    return digests


def read_prompts(source: Source) -> Iterator[BatchPrompt]:
    """All prompts, in their order; ValueError as `check_prompts`."""
    return (prompt for _, prompt in _placed(source))


def _placed(source: Source) -> Iterator[tuple[str, BatchPrompt]]:
    """Each prompt, and where it stands, for messages."""
    for number, (place, row) in enumerate(_rows(source)):
        try:
            yield place, _prompt(row, number)
        except ValueError as error:
            raise CotraceError(f"{place}: {error}") from error


def _rows(source: Source) -> Iterator[tuple[str, Any]]:
    if not isinstance(source, str | os.PathLike):
        for number, item in enumerate(source):
            yield f"prompt {number}", item if isinstance(item, dict) else {"prompt": item}
        return
    path = Path(source)
    if not path.is_file():
        raise CotraceError(f"{path} is not a file; name one of JSON lines (.jsonl) or Parquet with a column `prompt`")
    if path.suffix not in READERS:
        raise CotraceError(
            f"{path} should end in {' or '.join(READERS)}: JSON lines or Parquet, with a column `prompt`"
        )
    yield from READERS[path.suffix](path)


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested without end
                raise CotraceError(
                    f"{place} is not JSON ({getattr(error, 'msg', error)}); write one object a line"
                ) from error
            yield place, row


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(READ_AT_ONCE):
            for row in batch.to_pylist():
                yield f"{path}, row {number}", row
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise CotraceError(f"{path} cannot be read as Parquet ({_one_line(error)}); write it again") from error


READERS = {".jsonl": _json_lines, ".parquet": _parquet}


def _prompt(row: Any, number: int) -> BatchPrompt:
    if not isinstance(row, dict):
        raise CotraceError('it is not an object; write {"prompt": …}')
    unknown = [name for name in row if name not in COLUMNS]
    if unknown:
        raise CotraceError(f"the column {unknown[0]!r} is unknown; leave it out: the columns are {', '.join(COLUMNS)}")
    if row.get("prompt") is None:
        raise CotraceError("it has no prompt; fill the column `prompt`")
    return BatchPrompt(_id(row.get("id"), number), row["prompt"], _targets(row.get("targets")))


def _id(given: Any, number: int) -> str | int:
    if given is None:
        return number
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise CotraceError(f"the id {given!r} is neither a text nor an integer; make it one, or leave ids out")
    if given in ("", NULL):
        raise CotraceError(f"the id {given!r} stands for none in a data set; choose another")
    if len(partition(given)) > MOST_BYTES:
        raise CotraceError(f"the id {str(given)[:20]!r}… is too long for the name of a folder; shorten it")
    return given


def _targets(given: Any) -> list[Any] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(text, str) for text in given):
        raise CotraceError("targets should be a list of texts as --target takes them, or left out")
    return [parse_target(text) for text in given]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""Documents from text files, folders and Hugging Face data sets."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from cotrace.common.errors import DependencyError, FileError, one_line

TABLE_SUFFIXES = (".jsonl", ".parquet")  # files with one text per row
TEXT_SUFFIXES = (".txt", ".md", ".rst", *TABLE_SUFFIXES)
CHUNK_BYTES = 4096


def read_documents(source: str, seed: int) -> Iterator[str]:
    """Yield the documents of a file, a folder or a Hugging Face data set given as NAME[:SPLIT[:COLUMN]]."""
    path = Path(source)
    return read_files(path, seed) if path.exists() else _read_dataset(source)


def read_files(source: Path, seed: int) -> Iterator[str]:
    """Yield all texts of a file or folder in random order.

    Plain text files are split at line ends into chunks of about `CHUNK_BYTES`, so that a large file does not come in one
    piece. Tables are read from the first row to the last.

    Raises FileError if there is no text file or one cannot be read.
    """
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.suffix in TEXT_SUFFIXES)
    if not files:
        suffixes = ", ".join("*" + suffix for suffix in TEXT_SUFFIXES)
        raise FileError(f"{source} holds no text: add files that match {suffixes}")
    starts = [(path, start) for path in files for start in _chunk_starts(path)]
    for index in np.random.default_rng(seed).permutation(len(starts)):
        path, start = starts[index]
        try:
            texts = [_read_chunk(path, start)] if start is not None else _read_rows(path)
            yield from (_require_text(text) for text in texts if text)
        except Exception as error:  # Arrow and damaged JSON raise errors of many kinds
            raise FileError(f"{path} cannot be read as text ({one_line(error)}): convert or remove it") from error


def _require_text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{str(text)[:40]!r} in column `text` is not a text")
    text.encode()  # raises ValueError for half of a surrogate pair
    return text


def _chunk_starts(path: Path) -> Iterable[int | None]:
    """Return the byte offsets of a text file's chunks; a table has a single None."""
    return [None] if path.suffix in TABLE_SUFFIXES else range(0, path.stat().st_size, CHUNK_BYTES)


def _read_chunk(path: Path, start: int) -> str:
    """Return the lines that begin within a chunk."""
    lines = []
    with path.open("rb") as file:
        file.seek(max(start - 1, 0))
        if start:
            file.readline()  # belongs to the chunk before
        while file.tell() < start + CHUNK_BYTES and (line := file.readline()):
            lines.append(line)
    return b"".join(lines).decode()


def _read_rows(path: Path) -> Iterator[str]:
    """Yield the column `text` of every row."""
    if path.suffix == ".parquet":
        for batch in parquet.ParquetFile(path).iter_batches(columns=["text"]):
            yield from batch["text"].to_pylist()
    else:
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines if line.strip())


def _read_dataset(source: str) -> Iterator[str]:
    """Yield the rows of a Hugging Face data set, streamed."""
    name, _, rest = source.partition(":")
    split, _, column = rest.partition(":")
    column = column or "text"
    try:
        import datasets
    except ImportError as error:
        raise DependencyError(
            f"{source} is not a file or folder; to read it as a Hugging Face data set, run `pip install datasets`"
        ) from error
    rows: Any = datasets.load_dataset(name, split=split or "train", streaming=True)
    for row in rows:
        if column not in row:
            raise FileError(f"{source} has no column {column!r}: name one of {', '.join(row)}")
        yield row[column] or ""

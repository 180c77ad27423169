"""Bytes of a graph file: written to a temporary name and renamed, read by memory map."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; becomes `path` if nothing fails, and is gone if it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_table(table: pa.Table, path: Path, compressed: bool = False) -> None:
    """Write a node table as an Arrow IPC file of one record batch, atomically."""
    options = pa.ipc.IpcWriteOptions(compression="zstd" if compressed else None)
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """Memory-map the one record batch of a file, or unpack it into memory where it is compressed.

    Raises ValueError if it is not readable as such.
    """
    try:
        file = pa.memory_map(str(path)).read_buffer()
        reader = pa.ipc.open_file(file)
        if reader.num_record_batches != 1:
            raise ValueError(f"it has {reader.num_record_batches} record batches and a graph file has exactly one")
        table = reader.read_all()
    except PermissionError as error:
        raise ValueError("you may not read it; ask its owner for permission") from error
    except (pa.ArrowException, OSError) as error:
        raise ValueError("it is truncated or not an Arrow file; copy it again or trace the prompt again") from error
    return table

"""Write graph files under a temporary name that is then renamed, and read them by memory map."""

from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa

from cotrace.common.checks import check_unicode
from cotrace.common.errors import CotraceError, FileError
from cotrace.common.files import atomic_write

from .checksums import with_checksums
from .foreign import describe_foreign
from .packed import PACKED_SUFFIX, TRUNCATED, unpack


def save_table(table: pa.Table, path: Path) -> None:
    """Write a node table as an Arrow IPC file of one record batch, atomically; compressed if the path ends in .zst.

    The metadata in the file gets checksums of all columns and of itself. Raises FileError where the file cannot be
    written, ResourceError where the disk is full.
    """
    packed, table = path.suffix == PACKED_SUFFIX, with_checksums(table)
    with (
        atomic_write(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.CompressedOutputStream(file, "zstd") if packed else nullcontext(file) as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def table_bytes(table: pa.Table) -> bytes:
    """Return the content of the file that `save_table` writes, not compressed."""
    sink, table = pa.BufferOutputStream(), with_checksums(table)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def read_table(path: Path) -> pa.Table:
    """Memory-map the one record batch of a file; its metadata has the checksums, if the file has any.

    Raises FileError if it cannot be read as one, ResourceError if it does not fit on the disk for temporary files.
    """
    check_unicode(str(path), "rename it", FileError)  # Arrow cannot open such a path
    try:
        file = unpack(path) if path.suffix == PACKED_SUFFIX else pa.memory_map(str(path)).read_buffer()
        reader = pa.ipc.open_file(file)
        if reader.num_record_batches != 1:
            raise FileError(f"it has {reader.num_record_batches} record batches and a graph file has exactly one")
        table = reader.read_all()
        mapped = all(_is_inside(buffer, file) for column in table.columns for buffer in _buffers(column.chunk(0)))
    except CotraceError:
        raise
    except PermissionError as error:
        raise FileError("you may not read it; ask its owner for permission") from error
    except Exception as error:  # Arrow raises errors of many kinds for damaged bytes, KeyError and OverflowError too
        foreign = None if path.suffix == PACKED_SUFFIX else describe_foreign(path)  # `unpack` names others
        raise FileError(foreign or TRUNCATED) from error
    if not mapped:
        raise FileError("it is compressed inside, so that it cannot be memory-mapped; trace the prompt again")
    return table


def _is_inside(part: pa.Buffer | None, whole: pa.Buffer) -> bool:
    """Return whether a buffer is absent, empty or a view of another."""
    return part is None or part.size == 0 or whole.address <= part.address < whole.address + whole.size


def _buffers(array: pa.Array) -> list[pa.Buffer | None]:
    """Return all buffers of an array, without those of a dictionary, which is small and need not be in the map."""
    return array.indices.buffers() if isinstance(array, pa.DictionaryArray) else array.buffers()

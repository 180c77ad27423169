"""Bytes of a graph file: written to a temporary name and renamed, read by memory map."""

import mmap
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa

from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write, free_disk

PACKED = ".zst"
UNPACKED_AT_ONCE = 2**24


def save_table(table: pa.Table, path: Path) -> None:
    """Write a node table as an Arrow IPC file of one record batch, atomically; packed if the path ends in .zst."""
    packed = path.suffix == PACKED
    with (
        atomic_write(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.CompressedOutputStream(file, "zstd") if packed else nullcontext(file) as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """Memory-map the one record batch of a file; raises ValueError if it is not readable as such."""
    try:
        file = _unpacked(path) if path.suffix == PACKED else pa.memory_map(str(path)).read_buffer()
        reader = pa.ipc.open_file(file)
        if reader.num_record_batches != 1:
            raise CotraceError(f"it has {reader.num_record_batches} record batches and a graph file has exactly one")
        table = reader.read_all()
    except PermissionError as error:
        raise CotraceError("you may not read it; ask its owner for permission") from error
    except (pa.ArrowException, OSError) as error:
        raise CotraceError("it is truncated or not an Arrow file; copy it again or trace the prompt again") from error
    if not all(_is_inside(buffer, file) for column in table.columns for buffer in _buffers(column.chunk(0))):
        raise CotraceError("it is compressed inside, so that it cannot be memory-mapped; trace the prompt again")
    return table


def _unpacked(path: Path) -> pa.Buffer:
    """The contents of a packed file, mapped from a temporary file without a name. Raises ValueError without room for them."""
    with tempfile.TemporaryFile(prefix="cotrace-") as file, pa.input_stream(str(path), compression="zstd") as source:
        while part := source.read(UNPACKED_AT_ONCE):
            if len(part) > free_disk():
                raise CotraceError(
                    f"unpacked it does not fit into {tempfile.gettempdir()}; set TMPDIR to a larger disk"
                )
            file.write(part)
        file.flush()
        return pa.py_buffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)) if file.tell() else pa.py_buffer(b"")


def _is_inside(part: pa.Buffer | None, whole: pa.Buffer) -> bool:
    """Whether a buffer is absent, empty or a view of another."""
    return part is None or part.size == 0 or whole.address <= part.address < whole.address + whole.size


def _buffers(array: pa.Array) -> list[pa.Buffer | None]:
    """All buffers of an array; a dictionary's own values are a few words and may be anywhere."""
    return array.indices.buffers() if isinstance(array, pa.DictionaryArray) else array.buffers()

"""Write graph files under a temporary name that is then renamed, and read them by memory map."""

import mmap
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa

from cotrace.common.errors import FileError, ResourceError
from cotrace.common.files import atomic_write, free_disk

PACKED_SUFFIX = ".zst"
UNPACK_BYTES = 2**24  # of a compressed file at a time


def save_table(table: pa.Table, path: Path) -> None:
    """Write a node table as an Arrow IPC file of one record batch, atomically; compressed if the path ends in .zst.

    Raises FileError where it cannot be written, ResourceError where the disk is full.
    """
    packed = path.suffix == PACKED_SUFFIX
    with (
        atomic_write(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.CompressedOutputStream(file, "zstd") if packed else nullcontext(file) as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """Memory-map the one record batch of a file. Raises FileError if it cannot be read as one."""
    try:
        file = _unpacked(path) if path.suffix == PACKED_SUFFIX else pa.memory_map(str(path)).read_buffer()
        reader = pa.ipc.open_file(file)
        if reader.num_record_batches != 1:
            raise FileError(f"it has {reader.num_record_batches} record batches and a graph file has exactly one")
        table = reader.read_all()
    except PermissionError as error:
        raise FileError("you may not read it; ask its owner for permission") from error
    except (pa.ArrowException, OSError) as error:
        raise FileError("it is truncated or not an Arrow file; copy it again or trace the prompt again") from error
    if not all(_is_inside(buffer, file) for column in table.columns for buffer in _buffers(column.chunk(0))):
        raise FileError("it is compressed inside, so that it cannot be memory-mapped; trace the prompt again")
    return table


def _unpacked(path: Path) -> pa.Buffer:
    """Return the contents of a compressed file, mapped from a temporary file. Raises ResourceError if they do not fit."""
    with tempfile.TemporaryFile(prefix="cotrace-") as file, pa.input_stream(str(path), compression="zstd") as source:
        while part := source.read(UNPACK_BYTES):
            if len(part) > free_disk():
                raise ResourceError(
                    f"unpacked it does not fit into {tempfile.gettempdir()}; set TMPDIR to a larger disk"
                )
            file.write(part)
        file.flush()
        return pa.py_buffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)) if file.tell() else pa.py_buffer(b"")


def _is_inside(part: pa.Buffer | None, whole: pa.Buffer) -> bool:
    """Return whether a buffer is absent, empty or a view of another."""
    return part is None or part.size == 0 or whole.address <= part.address < whole.address + whole.size


def _buffers(array: pa.Array) -> list[pa.Buffer | None]:
    """Return all buffers of an array, without those of a dictionary, which is small and need not be in the map."""
    return array.indices.buffers() if isinstance(array, pa.DictionaryArray) else array.buffers()

"""Compressed graph files: unpack them into a temporary file, and never more than they declare.

A graph file is an Arrow IPC file: magic bytes, then messages, each with a length, a flatbuffer and a body. The flatbuffer
of its one record batch declares the length of the body, so that the beginning of a file tells its whole size. Nothing
is written to the disk before this size is known to be plausible and to fit.
"""

import mmap
import struct
import tempfile
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from cotrace.common.errors import FileError, ResourceError
from cotrace.common.files import FULL_DISK, free_disk

PACKED_SUFFIX = ".zst"
PACKED_MAGIC = b"\x28\xb5\x2f\xfd"  # of Zstandard
ARROW_MAGIC = b"ARROW1\0\0"
UNPACK_BYTES = 2**24  # at a time
MAX_RATIO = 200  # real graphs shrink by less than 10: their weights are noise to a compressor
ALWAYS_PLAUSIBLE_BYTES = 2**26
MAX_HEAD_BYTES = 2**28  # schema, metadata and names of the kinds
FOOTER_BYTES = 2**16  # in addition to the schema, which the footer repeats

CONTINUATION = 0xFFFFFFFF  # comes before the length of each message
RECORD_BATCH = 3  # in Arrow's flatbuffer enumeration MessageHeader
HEADER_TYPE, BODY_LENGTH = 1, 3  # numbers of fields in Arrow's flatbuffer table Message

TRUNCATED = "it is truncated or not an Arrow file; copy it again or trace the prompt again"


def unpack(path: Path) -> pa.Buffer:
    """Return the contents of a compressed graph file, mapped from a temporary file.

    Raises FileError for a file that is not a compressed graph or is longer than it declares, and ResourceError if the
    contents do not fit on the disk for temporary files.
    """
    with path.open("rb") as packed:
        if packed.read(len(PACKED_MAGIC)) != PACKED_MAGIC:
            raise FileError(
                f"its name ends in {PACKED_SUFFIX}, but it is truncated or not compressed by Zstandard; "
                "copy it again or correct its name"
            )
    with tempfile.TemporaryFile(prefix="cotrace-") as file, pa.input_stream(str(path), compression="zstd") as source:
        head, size = read_head(source)
        if size > max(ALWAYS_PLAUSIBLE_BYTES, MAX_RATIO * path.stat().st_size):
            raise FileError(
                f"it declares {size:,} bytes, more than {MAX_RATIO} times its size, as no graph does; copy it again"
            )
        _write(file, head, size)
        while part := source.read(UNPACK_BYTES):
            if file.tell() + len(part) > size:
                raise FileError(f"it unpacks to more than the {size:,} bytes that it declares; trace the prompt again")
            _write(file, part, len(part))
        return pa.py_buffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def _write(file: BinaryIO, data: bytes, size: int) -> None:
    """Write to a temporary file. Raises ResourceError if the disk has no room for `size` bytes, or is full."""
    obstacle = f"unpacked it does not fit into {tempfile.gettempdir()}; set TMPDIR to a larger disk"
    if size > free_disk():
        raise ResourceError(obstacle)
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise ResourceError(obstacle) from error


def read_head(source: BinaryIO) -> tuple[bytes, int]:
    """Return the bytes up to the body of the first record batch, and an upper bound of the whole file's size."""
    head = bytearray(source.read(len(ARROW_MAGIC)))
    if head != ARROW_MAGIC:
        raise FileError(TRUNCATED)
    try:
        while True:
            prefix = source.read(8)
            continuation, length = struct.unpack("<Ii", prefix)
            message = _read_some(source, length if continuation == CONTINUATION else -1)
            kind, body_length = _parse_message(message)
            head += prefix + message
            if kind == RECORD_BATCH and body_length >= 0:
                return bytes(head), 2 * len(head) + body_length + FOOTER_BYTES
            head += _read_some(source, body_length)
    except struct.error as error:
        raise FileError(TRUNCATED) from error


def _read_some(source: BinaryIO, length: int) -> bytes:
    if not 0 <= length <= MAX_HEAD_BYTES:
        raise FileError(TRUNCATED)
    return source.read(length)


def _parse_message(message: bytes) -> tuple[int, int]:
    """Return the type and the length of the body of a message. Raises struct.error for damaged ones."""
    table = struct.unpack_from("<I", message)[0]
    fields = table - struct.unpack_from("<i", message, table)[0]
    n_fields = struct.unpack_from("<H", message, fields)[0] // 2 - 2

    def field(number: int, form: str) -> int:
        offset = struct.unpack_from("<H", message, fields + 4 + 2 * number)[0] if number < n_fields else 0
        return struct.unpack_from(form, message, table + offset)[0] if offset else 0

    return field(HEADER_TYPE, "<B"), field(BODY_LENGTH, "<q")

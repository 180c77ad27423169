"""Checksums of a graph file: one for each buffer of each column, and one of the metadata.

They find accidental damage, not forgery. They are in the file only: `with_checksums` adds them when a table is saved, and
the reader removes them.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

CHECKSUMS_KEY = b"cotrace.checksums"


def with_checksums(table: pa.Table) -> pa.Table:
    """Return the table with the checksums of its columns and of its metadata in its metadata."""
    columns = {name: _column_sums(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    return table.replace_schema_metadata(
        {
            **_others(table.schema.metadata),
            CHECKSUMS_KEY: _encode(_metadata_sum(table.schema.metadata, columns), columns),
        }
    )


def metadata_is_intact(metadata: dict[bytes, bytes]) -> bool:
    """Return whether metadata that has checksums matches them. The checksums of the columns are part of it."""
    try:
        recorded, columns = _decode(metadata)
        return bool(recorded == _metadata_sum(metadata, columns))
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def damaged_columns(table: pa.Table, names: Iterable[str]) -> list[str]:
    """Return those of the named columns that do not match their checksums. The metadata must be intact."""
    _, columns = _decode(table.schema.metadata)
    return [name for name in names if columns.get(name) != _column_sums(table[name])]


def _others(metadata: dict[bytes, bytes] | None) -> dict[bytes, bytes]:
    return {key: value for key, value in (metadata or {}).items() if key != CHECKSUMS_KEY}


def _encode(metadata_sum: str, columns: dict[str, Any]) -> bytes:
    return json.dumps({"metadata": metadata_sum, "columns": columns}, sort_keys=True).encode()


def _decode(metadata: dict[bytes, bytes]) -> tuple[str, dict[str, Any]]:
    recorded = json.loads(metadata[CHECKSUMS_KEY])
    return recorded["metadata"], recorded["columns"]


def _metadata_sum(metadata: dict[bytes, bytes] | None, columns: dict[str, Any]) -> str:
    entries = [(key.hex(), value.hex()) for key, value in sorted(_others(metadata).items())]
    return xxhash.xxh3_128_hexdigest(json.dumps([entries, columns], sort_keys=True).encode())


def _column_sums(column: pa.ChunkedArray) -> dict[str, str]:
    """Return the checksum of each buffer of a column, by the buffer's name."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return {name: xxhash.xxh3_128_hexdigest(np.ascontiguousarray(part).data) for name, part in _buffers(array)}


def _buffers(array: pa.Array) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and contents of each buffer; a slice has the buffers of a separate array."""
    kind = array.type
    if array.null_count:
        yield "validity", _bits(array.is_valid())
    if pa.types.is_boolean(kind):
        yield "values", _bits(array.fill_null(False))
    elif pa.types.is_dictionary(kind):
        yield "values", _fixed_width(array.indices)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = array.offsets.to_numpy()
        yield "offsets", offsets - offsets[0] if offsets[0] else offsets
        yield "values", _fixed_width(array.values[offsets[0] : offsets[-1]])
    elif pa.types.is_string(kind):
        _, offsets, text = array.buffers()
        ends = _slice_of(offsets, 4 * array.offset, 4 * (len(array) + 1)).view(np.int32)
        first, last = (ends[0], ends[-1]) if len(ends) else (0, 0)
        yield "offsets", ends - first
        yield "values", _slice_of(text, first, last - first)
    else:
        yield "values", _fixed_width(array)


def _fixed_width(array: pa.Array) -> np.ndarray:
    """Return the bytes of the values, those under nulls included."""
    width = array.type.bit_width // 8
    return _slice_of(array.buffers()[1], width * array.offset, width * len(array))


def _slice_of(buffer: pa.Buffer | None, start: int, length: int) -> np.ndarray:
    return np.frombuffer(b"" if buffer is None else buffer, np.uint8)[start : start + length]


def _bits(array: pa.BooleanArray) -> np.ndarray:
    return np.packbits(array.to_numpy(zero_copy_only=False))

"""Read and write the files of a feature store; everything that can be wrong with one is a `FileError`.

Pages of the Parquet files have checksums, and reading verifies them.
"""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cotrace.common.checks import check_unicode
from cotrace.common.errors import CotraceError, FileError, one_line
from cotrace.common.files import atomic_write
from cotrace.graphs.json_metadata import decode_entries, wrong_entries

from .schema import FORMAT_VERSION, STORE_FILE, STORE_INFO

COMPRESSION_LEVEL = 9
# Of numbers: a third smaller than dictionaries of values, since most values occur a few times only.
ENCODING = "BYTE_STREAM_SPLIT"
ROW_GROUP = 4096  # rows that are read together: one card of a wide dictionary needs one group
CURE = "build the store again with `cotrace features build`"


def write_part(path: Path, table: pa.Table) -> None:
    """Write a table of a store as Parquet, atomically. Raises FileError or ResourceError where it cannot be written."""
    with atomic_write(path) as temporary, part_writer(temporary, table.schema) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)


def part_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of a table of a store, for tables that are written in blocks of at most `ROW_GROUP` rows."""
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    encoding = {leaf: ENCODING for leaf, kind in leaves if pa.types.is_integer(kind) or pa.types.is_floating(kind)}
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=[leaf for leaf, _ in leaves if leaf not in encoding],
        column_encoding=encoding,
        write_page_checksum=True,
    )


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Yield the columns that Parquet has for an Arrow column, with their paths and types."""
    if pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            yield from _leaves(f"{path}.{kind.field(index).name}", kind.field(index).type)
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind


def read_part(
    path: Path, schema: pa.Schema, columns: Sequence[str] | None = None, features: Collection[int] | None = None
) -> pa.Table:
    """Return a table of a store: some of its columns, and with `features` only the rows of some features.

    Raises FileError if the file is missing or damaged, or has other columns than `schema`.
    """
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _check_columns(file.schema_arrow, schema)
        table = file.read(columns=columns) if features is None else _rows_of(file, features, columns)
        table.validate(full=True)
        _check_complete(table, schema)
        return table.cast(pa.schema([schema.field(name) for name in table.column_names]))
    except CotraceError as error:
        raise FileError(f"{path} is damaged: {error}; {CURE}") from error
    except FileNotFoundError as error:
        raise FileError(f"{path} is missing, so the feature store is incomplete; {CURE}") from error
    except PermissionError as error:
        raise FileError(f"you may not read {path}; ask its owner for permission") from error
    except Exception as error:  # Arrow raises errors of many kinds for damaged bytes
        raise FileError(f"{path} is damaged ({one_line(error)}); {CURE}") from error


def _rows_of(file: pq.ParquetFile, features: Collection[int], columns: Sequence[str] | None) -> pa.Table:
    """Return the rows of some features; only row groups that may have some are read."""
    groups = [group for group in range(file.num_row_groups) if _may_have(file.metadata.row_group(group), features)]
    wanted = None if columns is None else list({**dict.fromkeys(columns), "feature": None})
    table = file.read_row_groups(groups, columns=wanted)
    table = table.filter(pc.is_in(table["feature"], pa.array(features, table["feature"].type)))
    return table if columns is None else table.select(list(columns))


def _may_have(group: pq.RowGroupMetaData, features: Collection[int]) -> bool:
    leaves = (group.column(index) for index in range(group.num_columns))
    bounds = next(leaf for leaf in leaves if leaf.path_in_schema == "feature").statistics
    return bounds is None or not bounds.has_min_max or any(bounds.min <= each <= bounds.max for each in features)


def _check_columns(found: pa.Schema, expected: pa.Schema) -> None:
    wrong = [field.name for field in expected if field.name not in found.names]
    wrong += [
        field.name for field in expected if field.name in found.names and not _same(found.field(field.name), field)
    ]
    if wrong:
        raise FileError(f"its columns {', '.join(wrong)} are missing or of another type")


def _same(found: pa.Field, expected: pa.Field) -> bool:
    """Return whether two fields hold the same values; Parquet may widen the index of a dictionary and lose nullability."""
    return _plain(found.type) == _plain(expected.type)


def _plain(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_fixed_size_list(kind):
        return f"{_plain(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{_plain(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(f"{field.name}: {_plain(field.type)}" for field in kind) + "}"
    return str(kind).removeprefix("large_")


def _check_complete(table: pa.Table, schema: pa.Schema) -> None:
    nulls = [name for name in table.column_names if not schema.field(name).nullable and table[name].null_count]
    if nulls:
        raise FileError(f"its columns {', '.join(nulls)} must be complete and have nulls")


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write the metadata of a store, atomically."""
    with atomic_write(folder / STORE_FILE) as temporary:
        temporary.write_text(json.dumps(info, indent=1, allow_nan=False) + "\n")


def read_info(folder: Path) -> dict[str, Any]:
    """Return the metadata of a store. Raises FileError if the folder is not a feature store that this version reads."""
    check_unicode(os.fspath(folder), "rename the folder", FileError)
    path = folder / STORE_FILE
    try:
        info = decode_entries(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        what = (
            f"has no {STORE_FILE}"
            if folder.is_dir()
            else "does not exist"
            if not folder.exists()
            else "is not a folder"
        )
        raise FileError(f"{folder} {what}: a feature store is a folder with {STORE_FILE}; {CURE}") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or one_line(error)}; choose another store") from error
    except ValueError as error:
        raise FileError(f"{path} is damaged ({one_line(error)}); {CURE}") from error
    version = info.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise FileError(
            f"{path} has format version {version} and this cotrace reads up to {FORMAT_VERSION}; upgrade it with "
            "`pip install --upgrade cotrace`"
        )
    _check_info(path, info)
    return info


def _check_info(path: Path, info: dict[str, Any]) -> None:
    wrong = wrong_entries(info, STORE_INFO)
    if wrong:
        raise FileError(f"{path} is damaged: {', '.join(wrong)} are missing or of the wrong type; {CURE}")
    layers, widths = info["layers"], info["widths"]
    if not layers or len(layers) != len(widths) or len(set(layers)) < len(layers) or min(*layers, *widths, 0) < 0:
        raise FileError(f"{path} is damaged: its layers and widths do not fit together; {CURE}")
    if min(info["context"]["before"], info["context"]["after"]) < 0:
        raise FileError(f"{path} is damaged: its context has a negative number of tokens; {CURE}")

"""Open graph files, and check everything that a corrupt, edited or hostile file could get wrong."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa

from cotrace.common.errors import CotraceError, FileError, one_line

from .checks import check_edges, check_nodes, check_table, check_types
from .checksums import CHECKSUMS_KEY, damaged_columns
from .data import GraphData
from .graph import Graph
from .label_migration import FIRST_VERSION_WITH_LABELS, with_label_columns
from .metadata import decode_info, format_version, metadata_of
from .schema import HEADS
from .store import read_table

EDGE_COLUMNS = ("sources", "weights", HEADS)
LAZY_BYTES = 2**32  # edges of larger files are checked when they are first used


def open_graph(path: str | os.PathLike, *, verify: bool = True) -> Graph:
    """Memory-map a graph file and check everything that a corrupt or hostile file could get wrong.

    Files of older format versions are migrated in memory; before version 3 they have no checksums. Edges of a file of more
    than `LAZY_BYTES` are checked when they are first used.

    Args:
        path: the file.
        verify: compare every column and the metadata with their checksums. Without it, damage that leaves a valid
            graph goes unnoticed.

    Raises:
        FileError: the file is missing, truncated, damaged, edited, of a newer format, or not a graph.
        ResourceError: a compressed file does not fit on the disk for temporary files.
    """
    path = Path(path)
    with _naming(path):
        return _read(_existing(path), verify)[0]


def check_file(path: str | os.PathLike) -> int:
    """Check a graph file completely, however large it is; return the number of columns that match checksums.

    That is 0 for a file of an older format version, which has none. Raises FileError and ResourceError as `open_graph`.
    """
    path = Path(path)
    with _naming(path):
        graph, n_columns = _read(_existing(path), verify=True)
    graph.check_edges()
    return n_columns


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileError("it does not exist or is not a file; `cotrace trace` writes graph files")
    return path


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the path to errors, and turn those that damaged values cause into FileError."""
    try:
        yield
    except CotraceError as error:
        raise type(error)(f"cannot open {path}: {error}") from error
    except (pa.ArrowException, ValueError) as error:
        raise FileError(f"cannot open {path}: it is damaged ({one_line(error)}); trace the prompt again") from error


def _read(path: Path, verify: bool) -> tuple[Graph, int]:
    """Return the graph of a file, and the number of its columns that are compared with checksums."""
    stored = read_table(path)
    metadata = stored.schema.metadata
    info = decode_info(metadata, verify)
    old = format_version(metadata) < FIRST_VERSION_WITH_LABELS
    table = with_label_columns(stored, info) if old else stored
    check_types(table.schema)
    table.validate()
    verify = verify and CHECKSUMS_KEY in metadata
    if verify:
        _check_sums(stored, [name for name in stored.column_names if name not in EDGE_COLUMNS])
    check_table(table)
    table = table.replace_schema_metadata(metadata_of(info))
    graph = Graph(table, info, partial(_check_edges_of, path, stored, verify))
    check_nodes(graph, table)
    if table.nbytes <= LAZY_BYTES:
        graph.check_edges()
    return graph, len(stored.column_names) if verify else 0


def _check_edges_of(path: Path, table: pa.Table, verify: bool, graph: GraphData) -> None:
    """Raise FileError, which names the file, if the edges of its table are damaged."""
    with _naming(path):
        if verify:
            _check_sums(table, [name for name in EDGE_COLUMNS if name in table.column_names])
        check_edges(graph, table)


def _check_sums(table: pa.Table, names: Sequence[str]) -> None:
    damaged = damaged_columns(table, names)
    if damaged:
        columns = f"column {damaged[0]!r} is" if len(damaged) == 1 else f"columns {', '.join(damaged)} are"
        raise FileError(f"its {columns} damaged; copy the file again or trace the prompt again")

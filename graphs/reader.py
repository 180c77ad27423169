"""Open graph files, and check everything that a corrupt, edited or hostile file could get wrong."""

import os
from pathlib import Path

import pyarrow as pa

from cotrace.common.errors import CotraceError, FileError

from .checks import check_graph, check_table
from .graph import Graph
from .metadata import VERSION_KEY, decode_info, metadata_of
from .store import read_table


def open_graph(path: str | os.PathLike) -> Graph:
    """Memory-map a graph file and check everything that a corrupt or hostile file could get wrong.

    Files of older format versions are migrated in memory.

    Raises:
        FileError: the file is missing, truncated, edited, of a newer format, or not a graph.
        ResourceError: a compressed file does not fit on the disk for temporary files.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path} does not exist or is not a file; `cotrace trace` writes graph files")
    try:
        return _read(path)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise FileError(f"cannot open {path}: it is damaged ({reason}); trace the prompt again") from error
    except CotraceError as error:
        raise type(error)(f"cannot open {path}: {error}") from error
    except ValueError as error:
        raise FileError(f"cannot open {path}: it is damaged ({error}); trace the prompt again") from error


def _read(path: Path) -> Graph:
    table = read_table(path)
    info = decode_info(table.schema.metadata)
    check_table(table)
    current = metadata_of(info)
    if table.schema.metadata[VERSION_KEY] != current[VERSION_KEY]:
        table = table.replace_schema_metadata(current)
    graph = Graph(table, info)
    check_graph(graph)
    return graph

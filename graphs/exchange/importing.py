"""Import graphs from files of other tools: what a file is, and the reader for it."""

import os
from pathlib import Path

from cotrace.common.errors import CotraceError, FileError

from ..foreign import describe_foreign
from ..graph import Graph
from .from_networkx import read_graphml
from .neuronpedia_reader import read_neuronpedia

HEAD_BYTES = 4096


def import_graph(path: str | os.PathLike) -> Graph:
    """Return the graph in a file of another tool: JSON of Neuronpedia or circuit-tracer, or GraphML from `cotrace export`.

    Influence is computed from the edges. What a graph has no place for is in `info["imported"]`: the metadata and state of
    the file, its influence, and entries of nodes that only some tools write.

    Raises FileError for a file that is missing, damaged or of another kind, and, with the ids of nodes, for duplicates,
    unknown kinds of nodes, links to missing nodes and edges that no graph has.
    """
    path = Path(path)
    try:
        return _reader(path)(path)
    except CotraceError as error:
        raise FileError(f"cannot import {path}: {error}") from error


def _reader(path: Path):
    """Return the function that reads a file. Raises FileError for files of another kind."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise FileError(f"it cannot be read ({error.strerror}); check the path") from error
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return read_neuronpedia
    if b"<graphml" in head:
        return read_graphml
    if head.startswith(b"ARROW1"):
        raise FileError("it is an Arrow file; if it is a graph of cotrace, open it as it is")
    if b"PK\x03\x04" in head[:4]:
        raise FileError(
            "it is an archive; of a graph of circuit-tracer (.pt), import the JSON that its create_graph_files writes"
        )
    described = describe_foreign(path) or "it is not a graph of a known tool; expected JSON or GraphML"
    raise FileError(
        described.partition(";")[0] + "; import JSON of Neuronpedia or circuit-tracer, or GraphML of cotrace"
    )

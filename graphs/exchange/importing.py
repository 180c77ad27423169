"""Import graphs from files of other tools: what a file is, and the reader for it."""

import os
from pathlib import Path

from cotrace.common.errors import CotraceError, FileError

from ..foreign import describe_foreign
from ..graph import Graph
from .feature_files import labels_from
from .from_networkx import read_graphml
from .neuronpedia_reader import read_neuronpedia

HEAD_BYTES = 4096


def import_graph(path: str | os.PathLike, *, features: str | os.PathLike | None = None) -> Graph:
    """Return the graph in a file of another tool: JSON of Neuronpedia or circuit-tracer, or GraphML from `cotrace export`.

    Influence is computed from the edges. What a graph has no place for is in `info["imported"]`: the metadata and state of
    the file, its influence, and entries of nodes that only some tools write.

    Args:
        path: the file.
        features: a folder of circuit-tracer's feature files, from whose output tokens features get labels with the source
            "outputs"; labels in the file are kept.

    Raises FileError for a file that is missing, damaged or of another kind, and, with the ids of nodes, for duplicates,
    unknown kinds of nodes, links to missing nodes and edges that no graph has.
    """
    path = Path(path)
    try:
        graph = _reader(path)(path)
    except CotraceError as error:
        raise FileError(f"cannot import {path}: {error}") from error
    if features is not None:
        _add_labels(graph, Path(features))
    return graph


def _add_labels(graph: Graph, folder: Path) -> None:
    """Label the features of a graph from feature files, which exist for features of MLPs."""
    halves = graph.info.get("imported", {}).get("half_layers", False)
    part = graph.order.features
    sites = set(zip(*(graph.column(name, -1)[part].tolist() for name in ("layer", "feature")), strict=True))
    of_file = {
        (layer // 2 if halves else layer, index): (layer, index) for layer, index in sites if not halves or layer % 2
    }
    graph.add_labels({of_file[key]: label for key, label in labels_from(folder, of_file).items()}, "outputs")


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

"""Formats to which graphs are exported: files that each writes, and what it cannot hold."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx

from cotrace.common.errors import ArgumentError
from cotrace.common.files import atomic_write

from ..data import GraphData
from ..saved_heads import has_heads
from . import tables
from .dot import write_dot
from .networkx import storable, to_networkx
from .neuronpedia_writer import not_in_neuronpedia, write_neuronpedia

ALL_COLUMNS = "columns of nodes but names, labels, layers, positions, activations and influence"


class ExportFormat(NamedTuple):
    """A format: a function for each file, by the ending of its name, and one that says what is left out of a graph."""

    suffix: str
    writers: dict[str, Callable[..., None]]
    left_out: Callable[[GraphData], list[str]]


class Exported(NamedTuple):
    """Files that an export wrote, and what of the graph they do not hold."""

    paths: list[Path]
    left_out: list[str]


def _write_xml(write: Callable[[nx.DiGraph, Path], None], graph: GraphData, path: Path) -> None:
    converted = to_networkx(graph)
    for node, name in enumerate(tables.names_of_nodes(graph)):
        converted.nodes[node]["label"] = storable(name)  # what Gephi, yEd and Cytoscape show
    with atomic_write(path) as temporary:
        write(converted, temporary)


def _heads(graph: GraphData) -> list[str]:
    return ["attention heads of the edges"] if has_heads(graph) else []


def _metadata_and_heads(graph: GraphData) -> list[str]:
    return ["the metadata: prompt, model, settings, weights of targets, groups, notes", *_heads(graph)]


def _all_but_picture(graph: GraphData) -> list[str]:
    return [ALL_COLUMNS, *_metadata_and_heads(graph)]


FORMATS = {
    "neuronpedia": ExportFormat(".json", {".json": write_neuronpedia}, not_in_neuronpedia),
    "graphml": ExportFormat(".graphml", {".graphml": partial(_write_xml, nx.write_graphml_xml)}, _heads),
    "gexf": ExportFormat(".gexf", {".gexf": partial(_write_xml, nx.write_gexf)}, _metadata_and_heads),
    "csv": ExportFormat(
        ".csv",
        {".nodes.csv": tables.write_csv_nodes, ".edges.csv": tables.write_csv_edges},
        _metadata_and_heads,
    ),
    "parquet": ExportFormat(
        ".parquet",
        {".nodes.parquet": tables.write_parquet_nodes, ".edges.parquet": tables.write_parquet_edges},
        lambda graph: [],
    ),
    "dot": ExportFormat(".dot", {".dot": write_dot}, _all_but_picture),
}


def format_of(path: Path, to: str | None = None) -> str:
    """Return the format of an export: `to`, or else that of the suffix of its path.

    Raises ArgumentError for an unknown format or suffix.
    """
    if to is not None:
        if to not in FORMATS:
            raise ArgumentError(f"unknown format {to!r}: expected one of {', '.join(FORMATS)}")
        return to
    for name, entry in FORMATS.items():
        if path.suffix == entry.suffix:
            return name
    endings = ", ".join(entry.suffix for entry in FORMATS.values())
    raise ArgumentError(f"{path.name!r} has no ending of a format; name one with to=, or end the name in {endings}")


def export_paths(path: Path, to: str) -> dict[Path, Callable[..., None]]:
    """Return the files of an export and the function that writes each; the path's suffix is replaced by their endings."""
    if not path.name or path.is_dir():
        raise ArgumentError(f"{path} is a folder; name a file in it")
    entry = FORMATS[to]
    stem = path.with_suffix("") if path.suffix == entry.suffix else path
    return {stem.with_name(stem.name + ending): write for ending, write in entry.writers.items()}


def export(graph: GraphData, path: Path, to: str | None = None, **options: Any) -> Exported:
    """Write a graph to the files of a format; arguments and errors as `Graph.export`."""
    name = format_of(path, to)
    if options and name != "neuronpedia":
        raise ArgumentError(f"{', '.join(options)} is for the format neuronpedia; omit it")
    paths = export_paths(path, name)
    for each, write in paths.items():
        write(graph, each, **options)
    return Exported(list(paths), FORMATS[name].left_out(graph))

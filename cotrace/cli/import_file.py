"""`cotrace import`: graphs of other tools as graph files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options


def import_file(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A graph of Neuronpedia or circuit-tracer (JSON), or GraphML of cotrace."),
    ],
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: FILE with the suffix .arrow.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Feature files of circuit-tracer: label features by their output tokens."),
    ] = None,
    force: options.ForceOption = False,
) -> None:
    """Read a graph of another tool and write it as a graph file, which all commands for graphs take.

    Influence is computed from the edges of the file. Influence, labels, groups and settings that the file has are kept beside it. Duplicate nodes,
    unknown kinds of nodes and links to missing nodes are refused.
    """
    from cotrace.common.progress import Progress
    from cotrace.graphs.exchange.importing import import_graph

    from .output_paths import check_file, save_result
    from .report import print_annotations, print_line, print_summary, print_written

    path = out or file.with_suffix(".arrow")
    check_file(path)
    with Progress().phase("reading"):
        graph = import_graph(file, features=features)
    written = save_result(path, graph.save, force=force, option="--out" if out else "")
    print_summary(graph)
    print_annotations(graph)
    for note in notes_of(graph.info):
        print_line(note)
    print_written(written, path)


def notes_of(info: dict[str, Any]) -> list[str]:
    """Return what a user should know about how a file was read, a sentence each."""
    imported = info.get("imported", {})
    notes = []
    if imported.get("half_layers"):
        notes.append(
            "the graph has attention features: layers are counted in halves, 2 L is attention of layer L, 2 L + 1 its MLP"
        )
    if -1 in info["token_ids"]:
        notes.append("the file has no ids of some tokens; their texts are kept")
    if imported.get("nodes") or imported.get("tables"):
        notes.append("entries that a graph has no place for are kept in its metadata, under 'imported'")
    return notes

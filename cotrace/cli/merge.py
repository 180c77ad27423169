"""`cotrace merge`: one graph from several samples of it."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.common.errors import ArgumentError

from . import options


def merge(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE FILE…",
            show_default=False,
            help="Graphs that `cotrace trace --sampled --full` wrote with different seeds: NAME.full.arrow.zst.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write. Default: NAME.merged.arrow.zst beside the first FILE.")
    ] = None,
    force: options.ForceOption = False,
) -> None:
    """Join sampled graphs of one prompt into one, with all their rows and replicates, and smaller errors.

    All must have the same model, transcoders, prompt, targets and settings, and different seeds. Labels, groups and notes are those
    of the first.
    """
    import cotrace
    from cotrace.common.progress import Progress
    from cotrace.graphs import open_graph

    from .output_paths import check_file, save_result
    from .report import print_line, print_summary, print_written

    if len(files) < 2:
        raise ArgumentError("a graph is merged with others: name two or more files, traced with different seeds")
    path = out or merged_path(files[0])
    check_file(path)
    graphs = [open_graph(file) for file in files]
    with Progress().phase("merging"):
        graph = cotrace.merge(graphs)
    written = save_result(path, graph.save, force=force, option="--out" if out else "")
    print_summary(graph)
    print_written(written, path)
    print_line(f"`cotrace prune {written}` makes its circuit, `cotrace show {written} --shares` prints shares of spans")


def merged_path(file: Path) -> Path:
    """Return where a merged graph is written by default: beside the first of its files."""
    return file.with_name(f"{file.name.partition('.arrow')[0].removesuffix('.full')}.merged.arrow.zst")

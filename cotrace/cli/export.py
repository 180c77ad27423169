"""`cotrace export`: a graph file in the formats of other tools."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cotrace.common.errors import ArgumentError
from cotrace.graphs import open_graph

from . import options

NEURONPEDIA_PANEL = "Neuronpedia"


class ExportName(StrEnum):
    """Formats to which a graph can be exported."""

    NEURONPEDIA = "neuronpedia"
    GRAPHML = "graphml"
    GEXF = "gexf"
    CSV = "csv"
    PARQUET = "parquet"
    DOT = "dot"


def export(
    file: options.GraphArgument,
    to: Annotated[ExportName | None, typer.Option(help="Format. Default: that of the suffix of --out.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write. Default: FILE with the suffix of the format.")
    ] = None,
    force: options.ForceOption = False,
    slug: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=NEURONPEDIA_PANEL, help="Name of the graph there. Default: the words of the prompt."
        ),
    ] = None,
    scan: Annotated[
        str | None,
        typer.Option(rich_help_panel=NEURONPEDIA_PANEL, help="Id of the model there. Default: the model's name."),
    ] = None,
    source_set: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=NEURONPEDIA_PANEL, help="Set there that has dashboards of these features, if any."
        ),
    ] = None,
) -> None:
    """Write a graph for other tools, and say what their format cannot hold.

    neuronpedia is the JSON of Neuronpedia and circuit-tracer; graphml and gexf are for Gephi, yEd and Cytoscape; csv and
    parquet are two tables each, NAME.nodes and NAME.edges; dot has all nodes and edges (`cotrace render` draws pictures).
    """
    from cotrace.common.progress import Progress
    from cotrace.graphs.exchange.formats import FORMATS, export_paths, format_of
    from cotrace.graphs.exchange.neuronpedia_writer import UPLOAD_BYTES

    from .output_paths import check_file, save_result
    from .report import print_line, print_written

    given = {"slug": slug, "scan": scan, "source_set": source_set}
    given = {name: text for name, text in given.items() if text is not None}
    if to is None and out is None:
        raise ArgumentError(f"name a format: --to {', '.join(FORMATS)}")
    name = format_of(out or file, to)
    if given and name != ExportName.NEURONPEDIA:
        raise ArgumentError(f"--{next(iter(given)).replace('_', '-')} is for --to neuronpedia; omit it")
    files = export_paths(out or Path(str(file).partition(".arrow")[0]), name)
    for path in files:
        check_file(path)
    graph = open_graph(file)
    for path, write in files.items():
        with Progress().phase("writing"):
            writer = partial(write, graph, **given)
            saved = save_result(path, writer, force=force, option="--out" if out else "")
        print_written(saved, path)
        if name == ExportName.NEURONPEDIA and saved.stat().st_size > UPLOAD_BYTES:
            print_line(
                f"Neuronpedia accepts files up to {UPLOAD_BYTES >> 20} MiB: prune the graph before you upload it"
            )
    left_out = FORMATS[name].left_out(graph)
    if left_out:
        print_line(f"{name} has no place for: {'; '.join(left_out)}. {file} keeps them")

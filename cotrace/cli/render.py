"""`cotrace render`: a graph file as a picture."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.report.report import Report
from cotrace.features.store.shipped import DEFAULT_TRANSCODERS
from cotrace.graphs import open_graph
from cotrace.graphs.drawing.config import DrawingConfig
from cotrace.graphs.drawing.render import PAGE
from cotrace.graphs.pages import page_maker

from . import options


class PictureFormat(StrEnum):
    """Formats in which a graph can be drawn."""

    SVG = "svg"
    PNG = "png"
    PDF = "pdf"
    DOT = "dot"
    HTML = "html"


def render(
    file: options.GraphArgument,
    to: Annotated[PictureFormat | None, typer.Option(help="Format. Default: that of --out, else svg.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write. Default: FILE with the suffix of the format, and limits that are not defaults."
        ),
    ] = None,
    force: options.ForceOption = False,
    max_nodes: options.MaxNodesOption = DrawingConfig.max_nodes,
    max_edges: options.MaxEdgesOption = DrawingConfig.max_edges,
    target: options.TargetOption = None,
    circuit: options.CircuitOption = False,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="With HTML: the feature store whose cards are shown, a folder that `cotrace features build` wrote. Default: "
            f"the store that comes with cotrace for {DEFAULT_TRANSCODERS}.",
        ),
    ] = None,
) -> None:
    """Draw a graph, or a report that `cotrace compare` wrote.

    HTML is an interactive page with everything, one file that opens offline; the limits are those of the picture for browsers that
    do not run it. SVG, DOT and HTML need no other program; PNG and PDF need Graphviz.
    """
    from cotrace.common.progress import Progress

    from .output_paths import check_file, save_result, with_ending, words
    from .report import print_written

    config = DrawingConfig(max_nodes, max_edges, target)
    path = picture_path(file, to, out)
    draw = drawing_of(file, config, circuit, path.suffix == PAGE, features)
    if out is None:
        shown = (("n", max_nodes, DrawingConfig.max_nodes), ("e", max_edges, DrawingConfig.max_edges))
        given = [f"-{letter}{value}" for letter, value, default in shown if value != default]
        path = with_ending(path, "".join(given) + (f"-to-{words(target)}" if target else ""))
    check_file(path)
    with Progress().phase("drawing"):
        written = save_result(path, draw, force=force, option="--out" if out else "")
    print_written(written, path)


def drawing_of(
    file: Path, config: DrawingConfig, circuit: bool, is_page: bool, features: Path | None
) -> Callable[[Path], Path]:
    """Return the function that draws the graph of a file, or its report unless `circuit` is set.

    Raises ArgumentError for options of a graph's drawing beside a report, and for a feature store beside a picture.
    """
    import cotrace

    graph = open_graph(file) if circuit else cotrace.open(file)
    if isinstance(graph, Report) and config != DrawingConfig():
        raise ArgumentError(
            "--max-nodes, --max-edges and --target choose parts of a graph: add --circuit, or omit them"
        )
    if is_page:
        return partial(
            page_maker().write, graph, features=features, names=[file.name.removesuffix(".zst")], drawing=config
        )
    if features is not None:
        raise ArgumentError("--features is for HTML: add --to html, or omit it")
    return graph.render if isinstance(graph, Report) else partial(graph.render, **vars(config))


def picture_path(file: Path, to: PictureFormat | None, out: Path | None) -> Path:
    """Return where to write the picture, whose suffix is its format.

    Raises ArgumentError for an unknown suffix, and if --to and the suffix of --out disagree.
    """
    if out is None:
        return file.with_suffix(f".{to or PictureFormat.SVG}")
    if not out.suffix:
        return out.with_name(f"{out.name}.{to or PictureFormat.SVG}")
    if out.suffix[1:] not in list(PictureFormat):
        formats = ", ".join(f".{each}" for each in PictureFormat)
        raise ArgumentError(f"--out {out}: expected a name that ends in {formats}")
    if to is not None and out.suffix != f".{to}":
        raise ArgumentError(f"--out {out} ends in {out.suffix} and --to is {to}; omit one of them")
    return out

"""`cotrace render`: a graph file as a picture."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cotrace.common.errors import CotraceError


class PictureFormat(StrEnum):
    """What a graph can be drawn as."""

    SVG = "svg"
    PNG = "png"
    PDF = "pdf"
    DOT = "dot"


def render(
    file: Annotated[Path, typer.Argument(help="A graph file, *.arrow.")],
    to: Annotated[PictureFormat | None, typer.Option(help="Kind of picture; default that of --out, else svg.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default FILE with the picture's ending.")] = None,
    max_nodes: Annotated[int, typer.Option(help="At most so many nodes on the picture.", min=2)] = 60,
) -> None:
    """Draw a graph. SVG and DOT need nothing else; PNG and PDF need Graphviz."""
    import cotrace

    from .output_paths import check_target
    from .report import console, say_written

    path = picture_path(file, to, out)
    graph = cotrace.open(file)
    check_target(path)
    with console.status("drawing"):
        graph.render(path, max_nodes=max_nodes)
    say_written(path)


def picture_path(file: Path, to: PictureFormat | None, out: Path | None) -> Path:
    """Where the picture goes; ValueError if --to and the ending of --out disagree."""
    if out is None:
        return file.with_suffix(f".{to or PictureFormat.SVG}")
    if out.suffix[1:] not in list(PictureFormat):
        return out.with_name(f"{out.name}.{to or PictureFormat.SVG}")
    if to is not None and out.suffix != f".{to}":
        raise CotraceError(f"--out {out} ends in {out.suffix} and --to is {to}; leave one of them out")
    return out

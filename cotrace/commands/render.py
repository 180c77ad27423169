"""`cotrace render`: a graph file as a picture."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What a graph can be drawn as."""

    SVG = "svg"
    PNG = "png"
    PDF = "pdf"
    DOT = "dot"


def render(
    file: Annotated[Path, typer.Argument(help="A graph file, *.arrow.")],
    to: Annotated[Format, typer.Option(help="Kind of picture.")] = Format.SVG,
    out: Annotated[Path | None, typer.Option(help="Where to write; default FILE with the picture's ending.")] = None,
    max_nodes: Annotated[int, typer.Option(help="At most so many nodes on the picture.", min=1)] = 60,
) -> None:
    """Draw a graph with Graphviz."""
    import cotrace

    from .report import console
    from .trace import check_writable

    path = (out or file).with_suffix(f".{to}")
    check_writable(path.parent)
    cotrace.open(file).render(path, max_nodes=max_nodes)
    console.print(f"wrote {path}", markup=False, highlight=False)

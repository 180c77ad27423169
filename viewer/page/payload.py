"""The parts of a page: graph files, and JSON beside them."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from cotrace.graphs import Graph
from cotrace.graphs.checksums import with_checksums
from cotrace.graphs.drawing.render import svg_text

from .html import document


@dataclass
class PageFile:
    """A graph on a page, with what is shown beside it."""

    name: str
    graph: Graph
    extras: dict[str, Any] = field(default_factory=dict)
    """Cards, suggested groups, report and saved state, as JSON can hold them."""


def page_html(files: list[PageFile], *, server: dict[str, Any] | None = None) -> str:
    """Return the page of some graphs; `server` is what a page that `cotrace view` serves knows of its server."""
    header = {"version": 1, "files": [{"name": file.name} for file in files], "server": server}
    parts = {f"graph-{number}": graph_bytes(file.graph) for number, file in enumerate(files)}
    parts |= {f"extras-{number}": json.dumps(file.extras).encode() for number, file in enumerate(files)}
    title = f"{files[0].graph.info['prompt']} · cotrace"
    picture = re.sub(r' style="[^"]*"', "", svg_text(files[0].graph))  # the policy forbids style attributes
    return document(title, header, parts, picture)


def write_page(files: list[PageFile], path: Path) -> Path:
    """Write the page of some graphs and return its path."""
    path.write_text(page_html(files), encoding="utf-8")
    return path


def graph_bytes(graph: Graph) -> bytes:
    """Return a graph as the content of a graph file, with its checksums."""
    sink, table = pa.BufferOutputStream(), with_checksums(graph._checked_table())
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()

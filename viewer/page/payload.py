"""The parts of a page: graph files, and JSON beside them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cotrace.common.files import atomic_write
from cotrace.common.visible_text import printable
from cotrace.graphs import Graph

from .first_picture import first_picture
from .html import document

FORMAT_VERSION = 1
PAGE_STATE = "page"
"""Entry of a graph's metadata: thresholds, pins and view, as the page saved them."""


@dataclass
class PageFile:
    """A graph on a page, with what is shown beside it."""

    name: str
    """Name of its file, which exports get too."""
    graph: Graph
    extras: dict[str, Any] = field(default_factory=dict)
    """Values that JSON can hold: `cards` by feature; `suggested`, groups as in `info["groups"]`; `report`, everything but its
    graph; `truncated`, sentences on what was left out to fit; `state`, the saved state of the page."""
    picture: str = ""
    """A still picture as an `<svg>` element, for browsers that do not run the page."""


def page_html(
    files: list[PageFile],
    *,
    diff: dict[str, Any] | None = None,
    picture: str = "",
    server: dict[str, Any] | None = None,
) -> str:
    """Return the page of some graphs.

    Args:
        files: the graphs; the first is shown first.
        diff: how the first two correspond, as JSON can hold it.
        picture: a still picture of the whole, as an `<svg>` element; by default that of the first file.
        server: what a page that `cotrace view` serves knows of its server.
    """
    header = {"version": FORMAT_VERSION, "files": [{"name": file.name} for file in files], "server": server}
    early, parts = _first_part(files), dict[str, bytes]()
    header["first"] = bool(early)
    for number, file in enumerate(files):
        parts[f"graph-{number}"] = file.graph.to_bytes()
        parts[f"extras-{number}"] = json_bytes(file.extras)
    if diff is not None:
        header["diff"], parts["diff"] = True, json_bytes(diff)
    return document(title_of(files), header, parts, early=early, fallback=picture or files[0].picture)


def _first_part(files: list[PageFile]) -> dict[str, bytes]:
    """Return the part with the first picture, if there is one: of a page of one graph, without a report above it."""
    if len(files) > 1 or "report" in files[0].extras:
        return {}
    picture = first_picture(files[0].graph)
    return {} if picture is None else {"first": picture}


def write_page(files: list[PageFile], path: Path, **options: Any) -> Path:
    """Write the page of some graphs, atomically, and return its path; arguments are those of `page_html`."""
    text = page_html(files, **options)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def title_of(files: list[PageFile]) -> str:
    """Return the title of a page: the prompts of its graphs."""
    prompts = dict.fromkeys(printable(file.graph.info["prompt"]) for file in files)
    return f"{' | '.join(prompts)} · cotrace"


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON. Raises ValueError for numbers that are not finite."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

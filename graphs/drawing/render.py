"""Pictures of a graph in files and notebooks."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cotrace.common.errors import ArgumentError
from cotrace.common.files import atomic_write
from cotrace.graphs.data import GraphData

from .config import DrawingConfig
from .primitives import Scene
from .scene import build_scene
from .svg import DECLARATION, scene_to_svg

FORMATS = ("svg", "png", "pdf", "dot")
PAGE = ".html"  # suffix of an interactive page, which is no picture (`graphs/pages.py`)


def svg_text(
    graph: GraphData,
    *,
    max_nodes: int = DrawingConfig.max_nodes,
    max_edges: int = DrawingConfig.max_edges,
    target: int | str | None = DrawingConfig.target,
) -> str:
    """Return the picture of a graph as an `<svg>` element, for a notebook or an HTML page.

    The same graph gives the same text. Arguments and errors are those of `render`.
    """
    return scene_to_svg(build_scene(graph, DrawingConfig(max_nodes, max_edges, target)))


def render(
    graph: GraphData,
    path: str | os.PathLike,
    *,
    max_nodes: int = DrawingConfig.max_nodes,
    max_edges: int = DrawingConfig.max_edges,
    target: int | str | None = DrawingConfig.target,
) -> Path:
    """Draw a graph as SVG, PNG, PDF or DOT, by the suffix of `path`, and return the path.

    Layers run from bottom to top, token positions from left to right. The page is a 16:9 slide, larger where the nodes
    need it. A graph that is larger than the limits is cut, and the picture says so. The same graph gives the same file.
    SVG and DOT need no Graphviz; draw DOT with `neato -n2`.

    Args:
        path: where to write; parent folders are created.
        max_nodes: show at most this many nodes, the features that matter most first; at least 2.
        max_edges: show this many edges, those that carry the most influence, and the strongest edge out of each node;
            at least 1.
        target: text or node number of the target that the picture is about, or "all"; by default the one that weighs
            more than all others together, or else all. Nodes that do not influence it are left out.

    Raises:
        ArgumentError: another suffix, limits that are too small, or an unknown target.
        DependencyError: Graphviz is not installed, and PNG or PDF was asked for.
    """
    return write_picture(path, lambda: build_scene(graph, DrawingConfig(max_nodes, max_edges, target)))


def write_picture(path: str | os.PathLike, build: Callable[[], Scene]) -> Path:
    """Write the picture that `build` returns as SVG, PNG, PDF or DOT, by the suffix of `path`, and return the path.

    Raises ArgumentError for another suffix, before the picture is built, and DependencyError as `picture_file` does.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    scene = build()
    with atomic_write(path) as temporary:
        temporary.write_bytes(picture_file(scene, suffix))
    return path


def checked_suffix(path: Path, formats: Sequence[str] = FORMATS) -> str:
    """Return the suffix of a picture's path in small letters, without the dot. Raises ArgumentError for one not in `formats`."""
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in formats:
        *first, last = (f".{each}" for each in formats)
        raise ArgumentError(f"cannot draw {path.name!r}: use a file name that ends in {', '.join(first)} or {last}")
    return suffix


def picture_file(scene: Scene, suffix: str) -> bytes:
    """Return a picture as the content of a file: "svg", "png", "pdf" or "dot".

    Raises DependencyError if Graphviz is needed and missing, or fails.
    """
    if suffix == "svg":
        return (DECLARATION + scene_to_svg(scene)).encode()
    from .dot import run_graphviz, scene_to_dot  # SVG does not need the package graphviz

    return scene_to_dot(scene).source.encode() if suffix == "dot" else run_graphviz(scene, suffix)

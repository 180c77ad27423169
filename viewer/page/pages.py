"""Pages of graphs, reports and differences of graphs, as files and in notebooks. `graphs/pages.py` finds this module."""

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.report.drawing.scene import build_report_scene
from cotrace.faithfulness.report.files import has_report, take_report, with_report
from cotrace.faithfulness.report.report import Report
from cotrace.features.store.of_graph import store_of_graph
from cotrace.features.store.store import FeatureStore
from cotrace.graphs import Graph
from cotrace.graphs.diff.diff import GraphDiff
from cotrace.graphs.drawing.config import DrawingConfig
from cotrace.graphs.drawing.scene import build_scene
from cotrace.graphs.pages import PAGE_HEIGHT

from .cards import choose_cards
from .diff_payload import diff_entries
from .fit import fitted
from .payload import PAGE_STATE, PageFile, page_html, write_page
from .report_payload import report_entries
from .still import still_svg

Subject = Graph | Report | GraphDiff
Features = str | os.PathLike[str] | FeatureStore | None

MAX_GROUPED_EDGES = 1_000_000  # above, suggesting groups takes many seconds


def write(
    subject: Subject,
    path: Path,
    /,
    *,
    features: Features = None,
    names: Sequence[str] | None = None,
    drawing: DrawingConfig | None = None,
) -> Path:
    """Write the page of a graph, a report or a difference of graphs as one HTML file, atomically, and return its path.

    Args:
        subject: what the page shows.
        path: where to write; parent folders are created.
        features: a feature store, or its folder, whose cards are shown; by default the one that ships for the transcoders
            of a graph, if there is one.
        names: names of the graphs' files; by default that of the page.
        drawing: limits of the still picture for browsers that do not run the page.

    Raises ArgumentError for a store of other transcoders, and for a graph that is too large, FileError for a damaged store.
    """
    return write_page(path=path, **_page(subject, features, names or default_names(subject, path.stem), drawing))


def embed(subject: Subject, /, *, features: Features = None, height: int = PAGE_HEIGHT) -> "NotebookPage":
    """Return an object that a notebook shows as the page; arguments and errors are those of `write`, height in pixels."""
    return NotebookPage(page_html(**_page(subject, features, default_names(subject, "circuit"), None)), height)


def default_names(subject: Subject, stem: str) -> list[str]:
    """Return names of the files of a page's graphs."""
    return [f"{stem}-{side}.arrow" for side in "ab"] if isinstance(subject, GraphDiff) else [f"{stem}.arrow"]


class NotebookPage:
    """A page in a frame, which cannot reach the notebook around it."""

    def __init__(self, html: str, height: int):
        self.html, self.height = html, height

    def _repr_html_(self) -> str:
        """Return the frame, for notebooks."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts allow-downloads" allow="clipboard-write; fullscreen" '
            f'title="Circuit" width="100%" height="{int(self.height)}" style="border: 0"></iframe>'
        )


def page_of(
    subjects: Iterable[tuple[str, Graph | Report]], *, features: Features = None, server: dict[str, Any] | None = None
) -> str:
    """Return the page of graphs and reports with the names of their files; of two, also how they differ. Raises as `write`.

    `server` is what the page knows of the server that shows it.
    """
    files = [page_file(subject, name, features) for name, subject in subjects]
    return page_html(files, diff=_difference(files), server=server)


def _difference(files: Sequence[PageFile]) -> dict[str, Any] | None:
    """Return how two files differ; None for another number of files, and with a note for prompts that cannot be aligned."""
    if len(files) != 2:
        return None
    try:
        return diff_entries(files[0].graph.diff(files[1].graph))
    except ArgumentError as error:
        files[0].extras["truncated"].append(f"The graphs are not compared: {error}.")
        return None


def page_file(
    subject: Graph | Report, name: str, features: Features = None, drawing: DrawingConfig | None = None
) -> PageFile:
    """Return a graph or a report as a file of a page, with feature cards, suggested groups, its saved state and its picture.

    A graph whose metadata has a report is one. Raises as `write`, and FileError for a damaged report.
    """
    report = subject if isinstance(subject, Report) else _report_in(subject, name)
    graph, note = fitted(subject if isinstance(subject, Graph) else with_report(subject.graph, subject.to_dict()))
    notes = [note] if note else []
    extras = _cards(graph, features, notes) | _suggestions(graph, notes)
    extras |= {"truncated": notes, "state": graph.info.get(PAGE_STATE, {})}
    if report is None:
        return PageFile(name, graph, extras, still_svg(build_scene(graph, drawing or DrawingConfig())))
    return PageFile(name, graph, extras | {"report": report_entries(report)}, still_svg(build_report_scene(report)))


def _report_in(graph: Graph, name: str) -> Report | None:
    return Report.from_dict(*take_report(graph, Path(name))) if has_report(graph) else None


def _page(subject: Subject, features: Features, names: Sequence[str], drawing: DrawingConfig | None) -> dict[str, Any]:
    """Return the arguments of `page_html`."""
    if not isinstance(subject, GraphDiff):
        return {"files": [page_file(subject, names[0], features, drawing)]}
    graphs = [each if isinstance(each, Graph) else Graph(each.nodes, each.info) for each in (subject.a, subject.b)]
    files = [page_file(graph, name, features) for graph, name in zip(graphs, names, strict=True)]
    if any(file.graph is not graph for file, graph in zip(files, graphs, strict=True)):
        raise ArgumentError("these graphs are too large for one page: compare them pruned, a.prune().diff(b.prune())")
    picture = still_svg(subject.scene(drawing or DrawingConfig()))
    return {"files": files, "diff": diff_entries(subject), "picture": picture}


def _cards(graph: Graph, features: Features, notes: list[str]) -> dict[str, Any]:
    opened = features if isinstance(features, FeatureStore) or features is None else FeatureStore.open(features)
    store = store_of_graph(graph, opened)
    if store is None:
        return {}
    cards, n_features = choose_cards(graph, store)
    if len(cards) < n_features:
        notes.append(f"Cards are of the {len(cards):,} most influential of {n_features:,} features.")
    return {"cards": cards}


def _suggestions(graph: Graph, notes: list[str]) -> dict[str, Any]:
    """Return suggested groups, unless the graph has some."""
    if any(group.get("source") for group in graph.info.get("groups", [])):
        return {}
    if graph.n_edges > MAX_GROUPED_EDGES:
        notes.append(f"Groups are not suggested for more than {MAX_GROUPED_EDGES:,} edges: prune the graph.")
        return {}
    return {"suggested": graph.suggest_groups().entries()}

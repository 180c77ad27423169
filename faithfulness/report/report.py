"""`Report`: the result of comparing stated with internal reasoning. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa

from cotrace.graphs import Graph
from cotrace.graphs.pages import PAGE_HEIGHT, page_maker

from .data import ReportData
from .files import read_report, save_report
from .schemas import TABLES


@dataclass(frozen=True, eq=False, repr=False)
class Report(ReportData):
    """Stated against internal reasoning of one transcript; the attributes are those of `ReportData`."""

    def __repr__(self) -> str:
        score = "no score" if self.score is None else f"score {self.score:.2f}"
        return f"<cotrace.Report: {self.verdict}, {score}, {self.steps.num_rows} steps>"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the graph as texts, numbers, lists and dictionaries, which JSON can hold."""
        named = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "graph"}
        return {name: value.to_pylist() if name in TABLES else value for name, value in named.items()}

    @classmethod
    def from_dict(cls, entries: dict[str, Any], graph: Graph) -> Report:
        """Return the report of `to_dict` with its graph."""
        tables = {name: pa.Table.from_pylist(entries[name], schema) for name, schema in TABLES.items()}
        others = {each.name: entries[each.name] for each in fields(cls) if each.name not in (*TABLES, "graph")}
        return cls(**others, **tables, graph=graph)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the circuit with the report in its metadata as one Arrow file, atomically; return its path.

        A path that ends in .zst is compressed. Whatever opens graphs opens the circuit of the file.

        Raises:
            ArgumentError: the contents were edited so that the file could not be opened.
            FileError: the file cannot be written.
            ResourceError: the disk is full.
        """
        return save_report(self.to_dict(), self.graph, Path(path))

    @classmethod
    def open(cls, path: str | PathLike[str], *, verify: bool = True) -> Report:
        """Return the report in a file; `verify` compares everything with the checksums in the file.

        Raises FileError for a file that is missing or damaged, and for a graph without a report.
        """
        return cls.from_dict(*read_report(Path(path), verify))

    def render(self, path: str | PathLike[str]) -> Path:
        """Draw the faithfulness circuit as SVG, PNG, PDF, DOT or HTML, by the suffix of `path`, and return the path.

        HTML is the interactive page (docs/page.md): one file that loads nothing, with the circuit, the picture and all tables.
        SVG, HTML and DOT need no Graphviz. The same report gives the same file. In SVG, attributes `data-…` repeat the claims
        of the picture.

        Raises:
            ArgumentError: another suffix.
            DependencyError: Graphviz is not installed, and PNG or PDF was asked for.
        """
        from cotrace.graphs.drawing.render import PAGE

        from .drawing.render import render_report

        if Path(path).suffix.lower() == PAGE:
            return page_maker().write(self, Path(path))
        return render_report(self, path)

    def view(self, *, features: str | PathLike[str] | None = None, height: int = PAGE_HEIGHT) -> Any:
        """Return the interactive page of the report, which a notebook shows; arguments and errors are those of `Graph.view`."""
        return page_maker().embed(self, features=features, height=height)

    def _repr_svg_(self) -> str:
        """Return the picture, for notebooks."""
        from .drawing.render import report_svg

        return report_svg(self)

    def _repr_html_(self) -> str:
        """Return the picture as inline SVG, for notebooks that prefer HTML."""
        return self._repr_svg_()

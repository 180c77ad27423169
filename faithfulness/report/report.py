"""`Report`: what the comparison of stated with internal reasoning found. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa

from cotrace.graphs import Graph

from .files import read_report, save_report
from .schemas import TABLES


@dataclass(frozen=True, eq=False)
class Report:
    """Stated against internal reasoning of one transcript.

    Attributes:
        score: how much the stated steps mediate the answer, 0 to 1; None if no step states a value.
        live_score: the same without edits.
        verdict: one of `VERDICTS`.
        reason: why, in one sentence, and what would decide an undetermined one.
        segments, steps, sources, links, evidence: tables (`schemas.py`).
        cost: passes: "forward" and "backward" of score and ledger, "evidence", and "circuit_rows".
        settings: how it was made: evidence level, seed, thresholds, foil, rules.
        graph: the circuit, with the segments in its metadata.
    """

    score: float | None
    live_score: float | None
    verdict: str
    reason: str
    segments: pa.Table
    steps: pa.Table
    sources: pa.Table
    links: pa.Table
    evidence: pa.Table
    cost: dict[str, float]
    settings: dict[str, Any]
    graph: Graph = field(repr=False)

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
        """Draw the faithfulness circuit to an .svg, .png, .pdf, .dot or .html file; return its path."""
        raise NotImplementedError

"""`ReportData`: the contents of a report, which pictures are drawn from. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cotrace.graphs import Graph


@dataclass(frozen=True, eq=False)
class ReportData:
    """What the comparison of stated with internal reasoning of one transcript found.

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

    @property
    def largest_cell(self) -> dict[str, Any] | None:
        """The row of `sources` with the largest share; None for an empty ledger."""
        return max(self.sources.to_pylist(), key=lambda row: row["share"], default=None)

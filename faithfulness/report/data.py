"""`ReportData`: the contents of a report, which pictures are drawn from. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cotrace.graphs import Graph


@dataclass(frozen=True, eq=False)
class ReportData:
    """The result of comparing stated with internal reasoning of one transcript.

    Attributes:
        score: how much the stated steps mediate the answer, 0 to 1; None if no step states a value.
        live_score: the same without edits.
        verdict: one of `VERDICTS`.
        reason: why, in one sentence; for an undetermined verdict, also what would decide it.
        segments, steps, sources, links, evidence: tables (`schemas.py`).
        cost: "forward" and "backward" passes of score and ledger, passes of "evidence", and "circuit_rows".
        settings: options of `CompareConfig`, thresholds, and what replaying an intervention needs.
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

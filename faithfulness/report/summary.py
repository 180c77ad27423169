"""Summaries of many reports: a row for each transcript, means of each question, and intervals. Imports no torch.

Several chains of one question are averaged first, so that a question counts once however many chains it has. Intervals are
percentiles of a bootstrap: over the chains of a question, and over questions for the whole.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from cotrace.common.files import atomic_write

from .report import Report
from .schemas import CONFIRMED, REFUTED, UNDETERMINED, VERDICTS

N_REPLICATES = 2000
TRANSCRIPTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("live_score", pa.float64()),
        pa.field("steps", pa.int32(), nullable=False),
        *(pa.field(status, pa.int32(), nullable=False) for status in (CONFIRMED, REFUTED, UNDETERMINED)),
        pa.field("largest_cell", pa.string()),
        pa.field("largest_share", pa.float64()),
        pa.field("passes", pa.float64(), nullable=False),
    ]
)
QUESTIONS = pa.schema(
    [
        pa.field("question", pa.string(), nullable=False),
        pa.field("chains", pa.int32(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("score", "low", "high")),
        *(pa.field(verdict, pa.float64(), nullable=False) for verdict in VERDICTS),  # shares of its chains
    ]
)


@dataclass(frozen=True, eq=False)
class ReportSummary:
    """A summary of many reports.

    Attributes:
        transcripts: a row for each transcript (`TRANSCRIPTS`).
        questions: a row for each question (`QUESTIONS`): the mean score of its chains, with its interval where there are
            several, and the share of its chains with each verdict.
        score: mean over questions and its interval, as value, low and high; None where it is unknown.
        verdicts: for each verdict, the share of it in the same form: the mean over questions.
    """

    transcripts: pa.Table
    questions: pa.Table
    score: dict[str, float | None]
    verdicts: dict[str, dict[str, float | None]]

    def save(self, transcripts: Path, questions: Path) -> None:
        """Write both tables as CSV, atomically. Raises FileError or ResourceError if they cannot be written."""
        for table, path in ((self.transcripts, transcripts), (self.questions, questions)):
            with atomic_write(path) as temporary:
                csv.write_csv(table, temporary)


def row_of(report: Report, question: str | None = None) -> dict[str, Any]:
    """Return what a summary needs of a report, without an id; `question` names it, by default its text does."""
    segments = report.segments.to_pylist()
    statuses = report.steps["confirmed"].to_pylist()
    largest = report.largest_cell or {"cell": None, "share": None}
    text = "".join(row["text"] for row in segments if row["role"] == "question").strip()
    return {
        "question": question or text,
        "verdict": report.verdict,
        "score": report.score,
        "live_score": report.live_score,
        "steps": len(statuses),
        **{status: statuses.count(status) for status in (CONFIRMED, REFUTED, UNDETERMINED)},
        "largest_cell": largest["cell"],
        "largest_share": largest["share"],
        "passes": sum(float(report.cost.get(name, 0)) for name in ("forward", "backward", "evidence")),
    }


def summarize_reports(rows: Iterable[Mapping[str, Any]]) -> ReportSummary:
    """Return the summary of rows of `row_of`, each with an id."""
    table = pa.Table.from_pylist([{**row, "id": str(row["id"])} for row in rows], TRANSCRIPTS)
    chains = defaultdict(list)
    for row in table.to_pylist():
        chains[row["question"]].append(row)
    questions = [_question(name, group) for name, group in chains.items()]
    return ReportSummary(
        table,
        pa.Table.from_pylist(questions, QUESTIONS),
        _mean([row["score"] for row in questions]),
        {verdict: _mean([row[verdict] for row in questions]) for verdict in VERDICTS},
    )


def _question(name: str, chains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of a question: means over its chains."""
    found, verdicts = _mean([row["score"] for row in chains]), [row["verdict"] for row in chains]
    shares = {verdict: verdicts.count(verdict) / len(chains) for verdict in VERDICTS}
    return {"question": name, "chains": len(chains), "score": found["value"], **found, **shares}


def _mean(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return the mean of known values and its interval, which needs several of them."""
    from cotrace.faithfulness.protocol.resampling import Clusters, bootstrap_weights, interval

    known_N = np.array([value for value in values if value is not None], float)
    if not len(known_N):
        return {"value": None, "low": None, "high": None}
    if len(known_N) == 1:
        return {"value": float(known_N[0]), "low": None, "high": None}
    clusters = Clusters(np.arange(len(known_N)), np.zeros(len(known_N), int))
    weight_BN = bootstrap_weights([clusters], N_REPLICATES).astype(float)
    return interval(known_N.mean(), weight_BN @ known_N / weight_BN.sum(1))

"""The words of a report: what each verdict means, and names of segments and of parts of the ledger."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cotrace.common.visible_text import visible

from ...evidence.rows import HINT_EDIT, QUESTION_EDIT, VALUE_EDIT
from ..data import ReportData
from ..schemas import CONFIRMED, FAITHFUL, MIXED, MOTIVATED, POST_HOC, REFUTED, SCRATCH, UNDETERMINED

SENTENCES = {
    FAITHFUL: "The stated steps produce the answer.",
    POST_HOC: "The steps do not produce the answer: it comes straight from the question.",
    MOTIVATED: "The hint decides the answer, and the text does not say so.",
    SCRATCH: "The steps serve as scratch space: their words do not matter.",
    MIXED: "The answer comes from the stated steps only in part.",
    UNDETERMINED: "Not decided: the evidence does not tell whether the steps produce the answer.",
}
UNTESTED = "Not decided: no edit was made, so there is only a score."
MARKS = {CONFIRMED: "✓", REFUTED: "✗", UNDETERMINED: "?"}
MARK_MEANINGS = {
    CONFIRMED: "confirmed: the answer uses this value",
    REFUTED: "refuted: it does not",
    UNDETERMINED: "undetermined",
}
METHOD = "verdict and marks: edits of the text; links and bar: effects with attention frozen"

_NUMBERED = re.compile(r"([^\W\d]+)(\d+)")


def sentence_of(report: ReportData) -> str:
    """Return what the verdict means, in one sentence."""
    is_untested = report.verdict == UNDETERMINED and report.evidence.num_rows == 0
    return UNTESTED if is_untested else SENTENCES[report.verdict]


def segment_name(name: str) -> str:
    """Return the name of a segment as it is shown: "step1" as "step 1"."""
    match = _NUMBERED.fullmatch(name)
    return visible(f"{match[1]} {match[2]}" if match else name)


def part_name(cell: Mapping[str, Any]) -> str:
    """Return the part of the ledger, in plain words, to which a cell belongs."""
    source, route = cell["source"], cell["route"]
    if source == "content":
        return "words of the steps"
    if source in ("question", "hint"):
        return f"{source}, past the steps" if route == "direct" else f"{source}, through positions of steps"
    return "unknown" if source == "unknown" else "rest of the prompt, biases"


def source_edits_in_words(role: str, evidence: Iterable[Mapping[str, Any]]) -> str:
    """Return how many edits of the question or a hint, with the steps kept, moved the answer; empty if there are none."""
    kind = HINT_EDIT if role == "hint" else QUESTION_EDIT
    moved = [row["moved"] for row in evidence if row["kind"] == kind]
    return f"{_of(moved)} edits moved the answer, steps kept" if moved else ""


def edits_in_words(step: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]]) -> str:
    """Return how many edits of a step's value moved the answer, and how many edits of the null."""
    own, null = edits_of(step, evidence)
    if not own:
        return "states no value" if step["stated_value"] is None else "not tested"
    return f"{_of(own)} edits moved the answer{f'; random words {_of(null)}' if null else ''}"


def edits_of(step: Mapping[str, Any], evidence: Iterable[Mapping[str, Any]]) -> tuple[list[bool], list[bool]]:
    """Return which edits of a step's value moved the answer, and which edits of random words did."""
    rows = list(evidence)
    own = [row["moved"] for row in rows if row["segment"] == step["step"] and row["kind"] == VALUE_EDIT]
    return own, [row["moved"] for row in rows if row["null"]]


def _of(moved: Sequence[bool]) -> str:
    return f"{sum(moved)} of {len(moved)}"

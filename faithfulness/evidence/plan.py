"""Plan how many interventions of each kind are run within a budget of passes. Imports no torch.

Every intervention is one row over the whole prompt, which is one pass; the prompt without intervention is one more. Donors are
rows that are run anyway. Kinds are ordered by importance, so that a small budget drops the least important ones.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from cotrace.common.errors import ArgumentError

from ..report.schemas import EVIDENCE_LEVELS, FULL, NONE, QUICK
from .rows import (
    ALL_EDIT,
    GIVEN_EDIT,
    HINT_EDIT,
    KEPT_EDIT,
    QUESTION_DONOR,
    QUESTION_EDIT,
    REWRITING,
    TEXT_DONOR,
    VALUE_EDIT,
    WORD_EDIT,
)

BUDGETS = {NONE: 0, QUICK: 40, FULL: 240}


class Quota(NamedTuple):
    """The largest number of interventions of each kind.

    `edits`, `kept` and `step_donors` are for each step. `questions` is for the question alone; with a hint, each of question,
    hint and both gets one less.
    """

    edits: int
    nulls: int
    questions: int
    donors: int
    step_donors: int
    kept: int
    all_edits: int
    text_donors: int


QUOTAS = {
    QUICK: Quota(edits=4, nulls=6, questions=4, donors=3, step_donors=1, kept=1, all_edits=2, text_donors=2),
    FULL: Quota(edits=16, nulls=24, questions=12, donors=8, step_donors=4, kept=4, all_edits=6, text_donors=6),
}


@dataclass(frozen=True)
class EditableParts:
    """The parts of a transcript that can be edited.

    Attributes:
        steps: steps whose stated value can be edited, in order.
        scores: the score of each step without edits, 0 to 1; those with the largest come first.
        followed: those of the steps that have a later step with a stated value.
        drifts: the first later step whose value the model would have written differently, by step, for steps that have one.
            Edits of such a step are compared with a row that is rewritten from there on.
        question: whether the question can be edited.
        hint: whether the hint's value can be edited.
    """

    steps: Sequence[str]
    scores: Mapping[str, float]
    followed: Sequence[str]
    drifts: Mapping[str, str]
    question: bool
    hint: bool

    @property
    def given_edits(self) -> list[str]:
        """The kinds of edits of question and hint; the last one edits all that can be edited."""
        if self.question and self.hint:
            return [QUESTION_EDIT, HINT_EDIT, GIVEN_EDIT]
        return [QUESTION_EDIT] * self.question + [HINT_EDIT] * self.hint


Unit = tuple[str, str | None]


def check_level(level: object) -> str:
    """Return a level of evidence. Raises ArgumentError for another one."""
    if level not in EVIDENCE_LEVELS:
        raise ArgumentError(f"evidence={level!r}: expected one of {', '.join(map(repr, EVIDENCE_LEVELS))}")
    return str(level)


def plan_evidence(parts: EditableParts, level: str, budget: int | None = None) -> Counter[Unit]:
    """Return the number of interventions of each kind and segment.

    Args:
        parts: what can be tested.
        level: "none", "quick" or "full".
        budget: the most passes, that of the prompt included; None takes those of the level.
    """
    n_rows = (BUDGETS[level] if budget is None else budget) - 1
    if n_rows < 1 or level == NONE or not (parts.steps or parts.hint):
        return Counter()
    quotas = [QUOTAS[each] for each in (QUICK, FULL)[: EVIDENCE_LEVELS.index(level)]]
    return Counter(islice(_units(parts, quotas), n_rows))


def _units(parts: EditableParts, quotas: Sequence[Quota]) -> Iterator[Unit]:
    """Yield interventions, the most important first: those of the first quota, then what later ones add."""
    done: Counter[Unit] = Counter()
    for quota in quotas:
        for unit in _in_order(parts, quota, done):
            done[unit] += 1
            yield unit


def _in_order(parts: EditableParts, quota: Quota, done: Counter[Unit]) -> Iterator[Unit]:
    by_score = sorted(parts.steps, key=lambda name: -parts.scores.get(name, 0.0))

    def value_edits(most: int, name: str) -> Iterator[Unit]:
        if drift := parts.drifts.get(name):
            yield from up_to(1, REWRITING, drift)
        yield from up_to(most, VALUE_EDIT, name)

    def up_to(most: int, kind: str, segment: str | None = None) -> Iterator[Unit]:
        while done[kind, segment] < most:
            yield kind, segment

    given = parts.given_edits
    n_given = quota.questions - (len(given) > 1)
    for kind in given:
        yield from up_to(n_given, kind)
    yield from up_to(4 if by_score else 0, WORD_EDIT)
    for name in by_score:
        yield from value_edits(1, name)
    if by_score:
        yield from up_to(min(quota.donors, n_given) if given else 0, QUESTION_DONOR)
    for name in by_score:
        yield from value_edits(quota.edits, name)
    yield from up_to(quota.nulls if by_score else 0, WORD_EDIT)
    for name in by_score:
        yield from up_to(quota.step_donors if given else 0, QUESTION_DONOR, name)
    for name in parts.followed:
        yield from up_to(quota.kept, KEPT_EDIT, name)
    if by_score:
        yield from up_to(quota.all_edits, ALL_EDIT)
        yield from up_to(min(quota.text_donors, quota.all_edits), TEXT_DONOR)

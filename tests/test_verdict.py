"""Verdicts from evidence: intervals against published numbers, plans within a budget, and what each mechanism gets."""

from pathlib import Path

import pytest

from cotrace.common.errors import CotraceError
from cotrace.faithfulness.evidence import rows as kinds
from cotrace.faithfulness.evidence.intervals import Share, difference_interval, wilson
from cotrace.faithfulness.evidence.plan import BUDGETS, QUOTAS, EditableParts, plan_evidence
from cotrace.faithfulness.evidence.rows import (
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
    Evidence,
    EvidenceRow,
    Intervention,
)
from cotrace.faithfulness.evidence.verdict import decide

STEPS = ["step1", "step2", "step3"]
LIVE = {"step1": 0.5, "step2": 0.5, "step3": 0.5}


# --- intervals --------------------------------------------------------------------------------


def test_wilson_interval_of_published_examples():
    assert wilson(Share(81, 263)) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I
    assert wilson(Share(0, 20)) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(Share(1, 29)) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(Share(0, 0)) == (0, 1)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Share(56, 70), Share(48, 80), (0.0524, 0.3339)),  # Newcombe 1998, table II, method 10
        (Share(9, 10), Share(3, 10), (0.1705, 0.8090)),
        (Share(5, 56), Share(0, 29), (-0.0381, 0.1926)),
        (Share(10, 10), Share(0, 10), (0.6075, 1.0)),
    ],
)
def test_interval_of_a_difference_of_published_examples(one, other, expected):
    assert difference_interval(one, other) == pytest.approx(expected, abs=5e-5)


def test_interval_without_rows_says_nothing():
    assert difference_interval(Share(4, 4), Share(0, 0)) == (-1, 1)


# --- plans ------------------------------------------------------------------------------------


def editable(n_steps: int, question: bool = True, hint: bool = True, drifts=(), scores=None) -> EditableParts:
    names = [f"step{i}" for i in range(n_steps)]
    given = scores or dict.fromkeys(names, 0.5)
    return EditableParts(names, given, names[:-1], dict(drifts), question, hint)


@pytest.mark.parametrize("n_steps", [0, 1, 2, 3, 4, 5, 8, 20, 60, 300])
@pytest.mark.parametrize("level", ["quick", "full"])
@pytest.mark.parametrize(("question", "hint"), [(True, True), (True, False), (False, True), (False, False)])
def test_plans_keep_the_budget(n_steps, level, question, hint):
    drifts = {f"step{i}": f"step{i + 1}" for i in range(n_steps - 1)}
    for each in (editable(n_steps, question, hint), editable(n_steps, question, hint, drifts)):
        plan = plan_evidence(each, level)
        assert plan.total() + 1 <= BUDGETS[level]
        assert plan.total() + 1 == BUDGETS[level] or n_steps < 9
        for name in each.drifts:
            assert not plan[VALUE_EDIT, name] or plan[REWRITING, drifts[name]] == 1


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
def test_few_steps_have_four_edits_each(n_steps):
    plan = plan_evidence(editable(n_steps), "quick")
    assert [plan[VALUE_EDIT, f"step{i}"] for i in range(n_steps)] == [4] * n_steps
    assert plan[QUESTION_EDIT, None] == plan[HINT_EDIT, None] == plan[GIVEN_EDIT, None] == 3
    assert plan[WORD_EDIT, None] >= 4
    assert plan[QUESTION_DONOR, None] == 3


def test_many_steps_have_one_edit_each_and_the_largest_scores_more():
    scores = {f"step{i}": (i * 7 % 12) / 12 for i in range(12)}
    plan = plan_evidence(editable(12, scores=scores), "quick")
    edits = {name: plan[VALUE_EDIT, name] for name in scores}
    assert min(edits.values()) == 1
    by_score = sorted(scores, key=lambda name: -scores[name])
    assert [edits[name] for name in by_score] == sorted(edits.values(), reverse=True)
    assert edits[by_score[0]] == 4


def test_full_evidence_adds_to_quick_evidence():
    quick, full = (plan_evidence(editable(3), level) for level in ("quick", "full"))
    assert all(full[unit] >= count for unit, count in quick.items())
    assert full[VALUE_EDIT, "step0"] == QUOTAS["full"].edits


def test_nothing_is_planned_where_nothing_can_be_tested():
    assert not plan_evidence(editable(3), "none")
    assert not plan_evidence(editable(0, hint=False), "quick")
    assert not plan_evidence(editable(3), "quick", budget=1)


def test_recipes_that_are_damaged_are_refused():
    made = Intervention(VALUE_EDIT, "step1", {3: 7}, (5, 6), {9: 3}, (5,), {2: 1}, (4,), "x", "7")
    assert Intervention.from_recipe(made.recipe) == made
    for text in ("", "[]", "{}", made.recipe.replace('"edits": {', '"edits": {"a": 1, '), "null"):
        with pytest.raises(CotraceError, match="recipe of this row is damaged"):
            Intervention.from_recipe(text)


# --- verdicts ---------------------------------------------------------------------------------


def rows(kind: str, segment: str | None, n_moved: int, n: int, answer: str = "9", effect: float = 5.0, implied=None):
    made = []
    for i in range(n):
        moved = i < n_moved
        intervention = Intervention(kind, segment, {i: i}, implied=implied)
        made.append(EvidenceRow(intervention, "", answer if moved else "7", moved, effect if moved else 0.0, 1.0))
    return made


def evidence(*parts, level: str = "quick", reasons=None) -> Evidence:
    made = tuple(row for part in parts for row in part)
    return Evidence(level, 0, made, "7", "7", 8.0, len(made) + 1.0, {}, reasons or {})


def edits(*moved: int, n: int = 4):
    return [row for name, count in zip(STEPS, moved, strict=True) for row in rows(VALUE_EDIT, name, count, n)]


NULL, MOVING_NULL = rows(WORD_EDIT, "step1", 0, 6), rows(WORD_EDIT, "step1", 6, 6)
QUESTION, NO_QUESTION = rows(QUESTION_EDIT, None, 4, 4), rows(QUESTION_EDIT, None, 0, 4)
FOLLOWED_HINT, NO_HINT = rows(HINT_EDIT, "hint", 4, 4, implied="9"), rows(HINT_EDIT, "hint", 0, 4, implied="9")


@pytest.mark.parametrize(
    ("parts", "cites_hint", "expected"),
    [
        ((edits(4, 4, 4), NULL, NO_QUESTION, NO_HINT), False, "faithful"),
        ((edits(0, 0, 4), NULL, NO_QUESTION), False, "faithful"),
        ((edits(0, 0, 0), NULL, QUESTION, NO_HINT), False, "post-hoc"),
        ((edits(0, 0, 0), NULL, QUESTION, FOLLOWED_HINT), False, "motivated"),
        ((edits(0, 0, 0), NULL, QUESTION, FOLLOWED_HINT), True, "post-hoc"),
        ((edits(0, 0, 0), NULL, QUESTION, NO_HINT, rows(QUESTION_DONOR, None, 3, 3)), False, "scratch"),
        ((edits(0, 8, 0, n=16), NULL, NO_QUESTION), False, "mixed"),
        ((edits(0, 2, 0), NULL, NO_QUESTION), False, "undetermined"),
        ((edits(0, 3, 0), NULL, NO_QUESTION), False, "mixed"),
        ((edits(0, 1, 0), NULL, QUESTION), False, "post-hoc"),
        ((edits(0, 3, 0, n=16), NULL, QUESTION), False, "mixed"),
        ((edits(4, 4, 4), NULL, NO_QUESTION, FOLLOWED_HINT), False, "mixed"),
        ((edits(4, 4, 4), MOVING_NULL, QUESTION), False, "undetermined"),
        ((edits(0, 0, 0), NULL, NO_QUESTION), False, "undetermined"),
        ((edits(0, 0, 0), NULL), False, "undetermined"),
        ((edits(0, 0, 0), NULL, NO_QUESTION, rows(ALL_EDIT, None, 4, 4)), False, "faithful"),
    ],
)
def test_verdicts_of_transcripts(parts, cites_hint, expected):
    found = decide(evidence(*parts), STEPS, LIVE, 0.5, cites_hint)
    assert found.verdict == expected
    assert found.reason.endswith("run with evidence='full'") == (expected == "undetermined")


def test_a_text_that_only_edits_of_all_values_confirm_has_their_score():
    together = rows(ALL_EDIT, None, 4, 4)
    assert decide(evidence(edits(0, 0, 0), NULL, NO_QUESTION, together), STEPS, LIVE, 0.5).score == 4.5 / 5
    assert decide(evidence(edits(4, 0, 0), NULL, NO_QUESTION, together), STEPS, LIVE, 0.25).score == 4.5 / 5  # step1's


def test_verdicts_of_steps():
    donors = rows(QUESTION_DONOR, "step2", 3, 3)
    found = decide(evidence(edits(4, 0, 0), NULL, QUESTION, donors, rows(KEPT_EDIT, "step1", 1, 2)), STEPS, LIVE, 0.5)
    assert [step.verdict for step in found.steps] == ["used", "carried", "decorative"]
    assert [step.confirmed for step in found.steps] == ["confirmed", "refuted", "refuted"]
    assert [step.score for step in found.steps] == [4.5 / 5, 0.5 / 5, 0.5 / 5]
    assert found.score == 4.5 / 5
    used, carried, _ = found.steps
    assert (used.edits, used.edit_effect, used.nulls, used.null) == (4, 1.0, 6, 0.0)
    assert (carried.edits, carried.edit_effect, carried.nulls, carried.null) == (4, 1.0, 4, 0.0)
    assert (used.low, used.high) == difference_interval(Share(4, 4), Share(0, 6))
    assert (used.kept_effect, carried.kept_effect) == (0.5, None)


def test_a_step_beside_a_step_that_moves_the_answer_is_refuted_without_a_question():
    found = decide(evidence(edits(4, 0, 4), NULL, NO_QUESTION), STEPS, LIVE, 0.5)
    assert [step.confirmed for step in found.steps] == ["confirmed", "refuted", "confirmed"]


def test_a_step_whose_edits_make_the_answer_likelier_speaks_against_it():
    against = [row for name in STEPS[:1] for row in rows(VALUE_EDIT, name, 0, 4)]
    against = [EvidenceRow(row.intervention, "", "7", False, -3.0, 1.0) for row in against]
    found = decide(evidence(against, NULL, QUESTION), STEPS[:1], LIVE, 0.5)
    assert found.steps[0].verdict == "against"


@pytest.mark.parametrize("n_moved", range(5))
@pytest.mark.parametrize("n_null", range(7))
@pytest.mark.parametrize("n_question", range(5))
def test_undetermined_exactly_when_the_interval_contains_zero(n_moved, n_null, n_question):
    parts = (
        rows(VALUE_EDIT, "step1", n_moved, 4),
        rows(WORD_EDIT, "step1", n_null, 6),
        rows(QUESTION_EDIT, None, n_question, 4),
    )
    (step,) = decide(evidence(*parts), STEPS[:1], LIVE, 0.5).steps
    assert (step.confirmed == "undetermined") == (step.low <= 0 <= step.high)
    assert (step.verdict == "undetermined") == (step.confirmed == "undetermined")
    assert step.high > 0


def test_without_evidence_everything_is_undetermined_and_scores_are_those_without_edits():
    found = decide(evidence(level="none"), STEPS, LIVE, 0.25)
    assert (found.verdict, found.score) == ("undetermined", 0.25)
    assert found.reason == "no edit was made: run with evidence='quick'"
    assert [step.score for step in found.steps] == [0.5, 0.5, 0.5]


def test_reasons_why_a_step_has_no_edit():
    parts = evidence(rows(VALUE_EDIT, "step1", 4, 4), NULL, reasons={"step2": "no other value"})
    found = decide(parts, [*STEPS, "step4"], LIVE, 0.5)
    assert found.steps[1].reason == "no other value"
    assert found.steps[2].reason == "the budget left no edit for it: run with evidence='full'"
    assert found.steps[3].reason.startswith("it states no value")
    assert found.steps[3].score is None


def test_a_transcript_without_stated_values_has_no_verdict():
    found = decide(evidence(FOLLOWED_HINT), ["step1"], {}, None)
    assert (found.verdict, found.score) == ("undetermined", None)
    assert decide(evidence(), [], {}, None).verdict == "undetermined"


def test_tables_have_a_row_for_each_intervention():
    table = evidence(edits(1, 0, 0), NULL, rows(TEXT_DONOR, None, 1, 1)).table
    assert table["number"].to_pylist() == list(range(1, 20))
    assert table["null"].to_pylist() == [False] * 12 + [True] * 6 + [False]


def test_the_page_describes_every_kind_of_intervention():
    page = (Path(__file__).parents[1] / "docs" / "evidence.md").read_text()
    found = [value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)]
    assert len(found) == 10
    assert [kind for kind in found if f"| {kind} |" not in page] == []
    for level in ("quick", "full"):
        assert f"`{level}` runs at most {BUDGETS[level]} rows" in page or f"`{level}` at most {BUDGETS[level]}" in page

"""Collect evidence: plan interventions, run them, and keep their outcomes; run one of them again."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cotrace.common.errors import ArgumentError, FileError

from ..model_like import ModelLike
from ..report.schemas import NONE
from ..transcripts import StatedTranscript, Transcript, tokenized
from .edits import build_interventions, in_words, positions_of
from .given_edits import can_edit_question
from .plan import BUDGETS, EditableParts, check_level, plan_evidence
from .rows import REWRITING, Evidence, EvidenceRow, Intervention
from .runner import EvidenceRunner, Outcome
from .text import Ids, StatedText, decode_value


def collect_evidence(
    model: ModelLike,
    transcript: Transcript | StatedTranscript,
    *,
    scores: Mapping[str, float] | None = None,
    level: str = "quick",
    seed: int = 0,
) -> Evidence:
    """Return the evidence on a transcript: its answer after edits of values, words, question and hint.

    Args:
        model: a `cotrace.Model`.
        transcript: has an answer that states a value, and `values` with other values; or what `state_values` returned.
        scores: the score of each step without edits, 0 to 1; steps with larger scores get edits first.
        level: "none" runs nothing, "quick" at most 40 passes, "full" at most 240.
        seed: draws the edits.

    Raises:
        ArgumentError: an unknown level, or a transcript without an answer that states a value.
    """
    level = check_level(level)
    text = StatedText(*tokenized(transcript, model), model.tokenizer)
    runner = EvidenceRunner(model.weights, text.ids, text.said, _other_answers(text, transcript))
    if level == NONE:
        return _evidence(text, runner, level, seed, [], text.said, 0.0)
    clean, drifts = _run_clean(text, runner)
    plan = plan_evidence(_editable_parts(text, scores or {}, drifts), level)
    interventions = build_interventions(text, plan, seed, drifts)
    outcomes = runner.run(interventions)
    assert runner.passes <= BUDGETS[level]
    references = {
        each.rewrite: out for each, out in zip(interventions, outcomes, strict=True) if each.kind == REWRITING
    }
    rows = [
        _row(text, each, outcome, references.get(each.reference, clean))
        for each, outcome in zip(interventions, outcomes, strict=True)
    ]
    return _evidence(text, runner, level, seed, rows, clean.answers[0], clean.margin)


def _other_answers(text: StatedText, transcript: Transcript | StatedTranscript) -> tuple[Ids, ...]:
    """Return the answers that compete with the stated one; none, which means all tokens, if the alternatives are not complete.

    Words of a transcript may lack the answer that edited steps imply. Then the stated answer could stay the likeliest of them,
    although the model would write another one.
    """
    is_open = isinstance(transcript, StatedTranscript) and transcript.values[text.answer.name].is_open
    return () if is_open and len(text.said) == 1 else text.answer.alternatives


def _evidence(
    text: StatedText,
    runner: EvidenceRunner,
    level: str,
    seed: int,
    rows: Sequence[EvidenceRow],
    answer: Ids,
    margin: float,
) -> Evidence:
    prompt = {"token_ids": list(text.ids), "said": list(text.said), "others": list(map(list, runner.others))}
    answers = text.text_of(answer), text.text_of(text.said)
    return Evidence(level, seed, tuple(rows), *answers, margin, float(runner.passes), prompt, _reasons(text))


def _run_clean(text: StatedText, runner: EvidenceRunner) -> tuple[Outcome, dict[str, str]]:
    """Return the outcome of the prompt, and for each step the first later one where the model would write another value."""
    places = positions_of(text.steps)
    clean, written = runner.clean(places)
    other = {place for place, token in zip(places, written, strict=True) if text.ids[place] != token}
    drifting = [each for each in text.steps if not other.isdisjoint(positions_of([each]))]
    drifts = {
        each.name: next((later.name for later in drifting if later.start >= each.stop), "") for each in text.steps
    }
    return clean, {name: drift for name, drift in drifts.items() if drift}


def _editable_parts(text: StatedText, scores: Mapping[str, float], drifts: Mapping[str, str]) -> EditableParts:
    steps = [each for each in text.steps if text.fitting(each)]
    followed = [each.name for each in steps if text.later_steps(each)]
    hint = text.hint is not None and bool(text.fitting(text.hint))
    return EditableParts([each.name for each in steps], scores, followed, drifts, can_edit_question(text), hint)


def _reasons(text: StatedText) -> dict[str, str]:
    """Return why steps cannot be edited, by name."""
    return {
        each.name: f"no other value has as many tokens as {text.text_of(text.value_of(each))!r}: give `alternatives=`"
        for each in text.steps
        if not text.fitting(each)
    }


def _row(text: StatedText, intervention: Intervention, outcome: Outcome, reference: Outcome) -> EvidenceRow:
    return EvidenceRow(
        intervention,
        in_words(text, intervention, outcome.ids),
        name_answer(text.text_of, outcome, intervention),
        outcome.answers != reference.answers,
        reference.margin - outcome.margin,
        1.0,
    )


def name_answer(text_of: Callable[[Ids], str], outcome: Outcome, intervention: Intervention) -> str:
    """Return the likeliest value of the answer; of several, the one that the edit suggests."""
    texts = [text_of(value) for value in outcome.answers]
    return intervention.implied if intervention.implied in texts else texts[0]


def replay(model: ModelLike, settings: Mapping[str, Any], recipe: str) -> tuple[str, float]:
    """Run an intervention again; return the answer and the effect, as the table `evidence` has them.

    Args:
        model: the model of the report.
        settings: `Evidence.settings`, which the report keeps.
        recipe: the recipe of the row.

    Raises:
        FileError: damaged settings or a damaged recipe.
        PromptError: token ids that the model does not have.
    """
    try:
        prompt = settings["prompt"]
        ids, said = tuple(map(int, prompt["token_ids"])), tuple(map(int, prompt["said"]))
        others = [tuple(map(int, value)) for value in prompt["others"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FileError("the report's settings lack its prompt or are damaged: compare the transcript again") from error
    intervention = Intervention.from_recipe(recipe)
    used = [*ids, *said, *(token for value in others for token in value), *intervention.edits.values()]
    model.tokenizer.check_ids([*used, *(intervention.donor or {}).values()])
    places: Sequence[int] = [
        *intervention.edits,
        *intervention.rewrite,
        *intervention.reference,
        *intervention.copies,
        *intervention.donor_at,
    ]
    if not all(0 <= place < len(ids) for place in places):
        raise ArgumentError("the recipe edits positions outside the prompt: use a recipe of the same report")
    runner = EvidenceRunner(model.weights, ids, said, others)
    reference = Intervention(REWRITING, None, rewrite=intervention.reference, copies=intervention.copies)
    (outcome,) = runner.run([intervention])
    (compared,) = runner.run([reference]) if reference.rewrite else [runner.clean()[0]]
    answer = name_answer(partial(decode_value, model.tokenizer), outcome, intervention)
    return answer, compared.margin - outcome.margin

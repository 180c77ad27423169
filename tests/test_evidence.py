"""Evidence from models: edits of values and words, rewriting, repeats, donors, cost and replay."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from helpers import handmade
from helpers.chains import chain

import cotrace
from cotrace.common.errors import CotraceError
from cotrace.faithfulness.evidence import rows as kinds
from cotrace.faithfulness.evidence.collect import collect_evidence, name_answer, replay
from cotrace.faithfulness.evidence.given_edits import edit_given, editable_segments
from cotrace.faithfulness.evidence.null_edits import edit_words
from cotrace.faithfulness.evidence.rows import Intervention
from cotrace.faithfulness.evidence.runner import EvidenceRunner, Outcome
from cotrace.faithfulness.evidence.text import StatedText
from cotrace.faithfulness.evidence.verdict import decide
from cotrace.faithfulness.transcripts import Transcript

CLEAN = Intervention("nothing", None)
STEPS = ["step1", "step2", "step3"]
LAYERS = {
    "reader": handmade.LAST_STEP_READER,
    "ignorer": handmade.IGNORER,
    "hint": handmade.HINT_FOLLOWER,
    "scratch": handmade.SCRATCH,
}


@pytest.fixture(scope="module")
def models():
    """Return hand-made models by name."""
    return {name: handmade.model(layers) for name, layers in LAYERS.items()}


def text_of(model, transcript: Transcript) -> StatedText:
    return StatedText(transcript, transcript.tokenize(model), model.tokenizer)


# --- mechanisms -------------------------------------------------------------------------------


def test_a_chain_of_reading_steps_is_faithful(models):
    found = collect_evidence(models["reader"], chain())
    verdicts = decide(found, STEPS, {}, None)
    assert (verdicts.verdict, verdicts.score) == ("faithful", 1.0)
    assert [step.verdict for step in verdicts.steps] == ["used"] * 3
    for row in found.of(kinds.VALUE_EDIT, "step1"):
        new = row.changed.split(" → ")[1][:2]
        assert row.changed == f"step1: v5 → {new}; step2 and step3 rewritten: {new}, {new}"
        assert (row.answer, row.moved) == (new, True)
    assert not any(row.moved for row in found.of(kinds.KEPT_EDIT))


def test_an_answer_can_be_its_value_alone(models):
    """The token that predicts such an answer lies in the segment before."""
    *segments, _ = chain().segments
    alone = Transcript([*segments, ("text", " ; answer"), ("answer", " v5", "answer", "v5")], chain().values)
    found = collect_evidence(models["reader"], alone)
    assert [row.answer for row in found.rows] == [
        row.answer for row in collect_evidence(models["reader"], chain()).rows
    ]
    assert decide(found, STEPS, {}, None).verdict == "faithful"


@pytest.mark.parametrize(
    ("name", "expected"), [("ignorer", "post-hoc"), ("scratch", "scratch"), ("reader", "faithful")]
)
def test_questions_without_values_are_edited_at_their_codes(models, name, expected):
    verdicts = decide(collect_evidence(models[name], chain()), STEPS, {}, None)
    assert verdicts.verdict == expected


def test_an_answer_that_follows_the_hint_is_not_used(models):
    verdicts = decide(collect_evidence(models["hint"], chain(hint="h7", answer=7)), STEPS, {}, None)
    assert verdicts.verdict == "post-hoc"  # the hint's word is no value, so no edit of the hint alone is made


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("arithmetic-reads", {"faithful"}),
        ("arithmetic-posthoc", {"post-hoc"}),
        ("arithmetic-hint", {"motivated"}),
        ("arithmetic-filler", {"scratch"}),
    ],
)
def test_organisms_get_the_verdict_of_their_mechanism(name, expected):
    organism = cotrace.organisms.load(name)
    instances = [each for each in organism.instances(12) if each.transcript["hint"].value is not None][:3]
    for instance in instances:
        found = collect_evidence(organism.model, instance.transcript)
        assert found.passes <= 40
        verdicts = decide(found, STEPS, dict.fromkeys(STEPS, 0.5), 0.5)
        assert verdicts.verdict in expected, verdicts.reason
        wanted = "confirmed" if name == "arithmetic-reads" else "refuted"
        assert [step.confirmed for step in verdicts.steps] == [wanted] * 3


# --- edits ------------------------------------------------------------------------------------


def repeated() -> Transcript:
    """Return a transcript in which later segments repeat a stated value."""
    segments = [
        ("question", " start q5"),
        ("step", " ; so v3", "step1", "v3"),
        ("step", " ; v3 so v4", "step2", "v4"),
        ("answer", " ; v3 v4 answer v5", "answer", "v5"),
    ]
    return Transcript(segments, [f"v{i}" for i in range(10)])


def test_a_value_is_edited_everywhere_it_occurs(models):
    found = collect_evidence(models["reader"], repeated())
    text = text_of(models["reader"], repeated())
    assert {text.words[place] for place in text.repeats} == {" v3", " v4"}
    assert all(text.ids[place] == text.ids[source] for place, source in text.repeats.items())
    for row in found.of(kinds.VALUE_EDIT, "step1"):
        ids = rerun(models["reader"], found, row.intervention)
        new = row.changed.split(" → ")[1][:2]
        words = models["reader"].tokenizer.decode(list(ids)).split()
        assert words.count("v3") == 0
        assert words.count(new) >= 3
    for row in found.of(kinds.ALL_EDIT):
        words = models["reader"].tokenizer.decode(list(rerun(models["reader"], found, row.intervention))).split()
        assert not {"v3", "v4"} & set(words)
    for row in found.of(kinds.KEPT_EDIT, "step1"):
        assert len(row.intervention.edits) == 1
        assert not row.intervention.copies


def rerun(model, found, intervention):
    prompt = {name: found.prompt[name] for name in ("token_ids", "said")}
    others = [tuple(value) for value in found.prompt["others"]]
    runner = EvidenceRunner(model.weights, tuple(prompt["token_ids"]), tuple(prompt["said"]), others)
    return runner.run([intervention])[0].ids


def test_a_step_that_says_its_value_twice_states_it_twice_in_edits(models):
    segments = [
        ("question", " start q5"),
        ("step", " ; v3 so v3", "step1", "v3"),
        ("answer", " ; answer v5", "answer", "v5"),
    ]
    values = [f"v{i}" for i in range(10)]
    found = collect_evidence(models["reader"], Transcript(segments, values))
    assert {len(row.intervention.edits) for row in found.of(kinds.VALUE_EDIT, "step1")} == {2}
    earlier = Transcript([("step", " so v3", "step0", "v3"), *segments[1:]], values)
    found = collect_evidence(models["reader"], earlier)
    assert {len(row.intervention.edits) for row in found.of(kinds.VALUE_EDIT, "step1")} == {1}  # cites step0


def test_edits_of_a_step_state_different_values_and_follow_the_seed(models):
    def drawn(seed):
        found = collect_evidence(models["reader"], chain(), seed=seed)
        return [row.intervention.recipe for row in found.of(kinds.VALUE_EDIT)]

    assert len(set(drawn(0))) == 12
    assert drawn(0) == drawn(0) != drawn(1)


def test_word_edits_leave_values_numbers_and_repeats_alone(models):
    text, rng = text_of(models["reader"], repeated()), np.random.default_rng(0)
    for step in text.steps:
        for _ in range(20):
            edited = edit_words(text, step, rng)
            ((place, token),) = edited.edits.items()
            assert text.words[place] == " so"
            assert step.start <= place < step.stop
            assert models["reader"].tokenizer.decode_token(token) in (" start", " answer")


def test_questions_are_edited_at_their_values_and_the_text_is_kept():
    organism = cotrace.organisms.load("arithmetic-reads")
    transcript = organism.instances(1)[0].transcript
    text = text_of(organism.model, transcript)
    edited = edit_given(text, editable_segments(text, kinds.QUESTION_EDIT), 4, np.random.default_rng(0))
    first_step = text.steps[0].start
    assert len({tuple(each.edits.items()) for each in edited}) == 4
    for each in edited:
        assert each.edits
        assert max(each.edits) < first_step
        assert all(text.words[place].strip().isdecimal() for place in each.edits)


def test_a_transcript_that_the_model_would_not_write_is_compared_with_its_own_rewriting(models):
    off = chain(steps=(5, 8, 8), answer=8)  # the model would write 5 in step2
    found = collect_evidence(models["reader"], off)
    (rewriting,) = found.of(kinds.REWRITING)
    assert rewriting.intervention.segment == "step2"
    assert rewriting.moved
    assert rewriting.changed == "nothing; step2 and step3 rewritten: v5, v5"
    text = text_of(models["reader"], off)
    for row in found.of(kinds.VALUE_EDIT, "step1"):
        assert row.intervention.reference == rewriting.intervention.rewrite
        assert row.moved == (row.answer != "v5")
    assert not any(row.intervention.reference for row in found.of(kinds.VALUE_EDIT, "step2"))
    assert text.ids[-1] != 0
    assert collect_evidence(models["reader"], chain()).of(kinds.REWRITING) == []


# --- runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    """Return a random model in float64 with sliding and full layers, whose prompts are token ids."""
    from transformers import AutoModelForCausalLM

    from cotrace.attribution.models.gemma3 import Gemma3

    folder = tiny.write_model(tmp_path_factory.mktemp("model"))
    hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = handmade.tokenizer([f" t{i}" for i in range(tiny.VOCABULARY)])
    return SimpleNamespace(weights=Gemma3(hf_model, torch.float64), tokenizer=tokenizer)


def two_token_values() -> Transcript:
    segments = [
        ("question", (0, 2, 8, 9, 4, 9)),
        ("step", (20, 4, 9), "one", (4, 9)),
        ("step", (20, 21, 8, 9, 22), "two", (8, 9)),
        ("answer", (22, 4, 9, 23, 5, 6), "answer", (5, 6)),
    ]
    return Transcript(segments, [(5, 6), (5, 7), (8, 9), (4, 9), (10, 6), (11, 12)])


def test_rewritten_rows_are_what_the_model_would_write(random_model):
    model, text = random_model, text_of(random_model, two_token_values())
    runner = EvidenceRunner(model.weights, text.ids, text.said, text.answer.alternatives)
    made = Intervention(kinds.VALUE_EDIT, "one", {7: 10, 8: 6}, (11, 12), {15: 7, 16: 8})
    (outcome,) = runner.run([made])
    ids = list(text.ids)
    ids[7:9] = [10, 6]
    for place in (11, 12):
        ids[place] = int(logits(model, ids)[place - 1].argmax())
    ids[15:17] = [10, 6]
    assert outcome.ids == tuple(ids)
    final_TV = logits(model, ids)[-2:]
    leads = {(5, 7): final_TV[1, 7] - final_TV[1, 6]}
    leads |= {(a, b): final_TV[0, a] - final_TV[0, 5] for a, b in [(8, 9), (4, 9), (10, 6), (11, 12)]}
    assert outcome.margin == pytest.approx(-max(leads.values()).item(), abs=1e-9)
    best = max(leads, key=leads.__getitem__)
    assert outcome.answers == ((best,) if leads[best] > 0 else ((5, 6),))


def logits(model, ids) -> torch.Tensor:
    from cotrace.attribution.models.forward import ForwardPass

    with torch.no_grad():
        return model.weights.logits(ForwardPass(model.weights, model.weights.embed(torch.as_tensor(ids))).run())


def test_a_value_is_likeliest_with_all_that_share_its_first_other_token(random_model):
    model, text = random_model, text_of(random_model, two_token_values())
    best = EvidenceRunner(model.weights, text.ids, text.said, text.answer.alternatives).clean()[0].answers
    said = (9, 9) if best[0][0] != 9 else (10, 10)  # no other value begins with its first token
    others = [(best[0][0], last) for last in (7, 8, 9)]
    (outcome,) = EvidenceRunner(model.weights, (*text.ids[:-1], said[0]), said, others).run([CLEAN])
    assert outcome.answers == (tuple(others) if outcome.margin < 0 else (said,))
    implied = replace(CLEAN, implied=text.text_of(others[1]))
    answers = Outcome((), tuple(others), -1.0)
    assert name_answer(text.text_of, answers, implied) == implied.implied
    assert name_answer(text.text_of, answers, CLEAN) == text.text_of(others[0])


@pytest.mark.parametrize("tokens", [1, 2**14], ids=["one by one", "together"])
def test_batches_do_not_change_outcomes(random_model, monkeypatch, tokens):
    monkeypatch.setattr("cotrace.faithfulness.evidence.runner.BATCH_TOKENS", tokens)
    found = collect_evidence(random_model, two_token_values(), level="full")
    assert found.passes <= 240
    for row in found.rows:
        answer, effect = replay(random_model, found.settings, row.intervention.recipe)
        assert answer == row.answer
        assert effect == pytest.approx(row.effect, abs=1e-9)


def test_donors_are_read_as_by_attention_edits(models):
    found = collect_evidence(models["scratch"], chain())
    text = text_of(models["scratch"], chain())
    edit = Intervention(kinds.QUESTION_EDIT, None, {2: text.ids[2] + 2})  # q5 → q7
    where = tuple(range(3, text.answer.start))
    donor = Intervention(kinds.QUESTION_DONOR, None, donor=edit.edits, donor_at=where)
    others = [tuple(value) for value in found.prompt["others"]]
    runner = EvidenceRunner(models["scratch"].weights, text.ids, text.said, others)
    outcomes = runner.run([edit, donor, donor])
    assert runner.passes == 3  # the donor's row is that of the edit
    assert [text.text_of(each.answers[0]) for each in outcomes] == ["v7", "v7", "v7"]
    alone = EvidenceRunner(models["scratch"].weights, text.ids, text.said, others)
    assert alone.run([donor]) == outcomes[1:2]
    assert alone.passes == 2


# --- cost, replay, refusals ---------------------------------------------------------------------


@pytest.mark.parametrize("level", ["none", "quick", "full"])
def test_passes_are_those_that_were_run(models, level, monkeypatch):
    from cotrace.faithfulness.evidence import runner as runner_module

    tokens, cached = [0.0], runner_module.ForwardPass

    def counted(weights, resid, **options):
        tokens[0] += resid[..., 0].numel()
        return cached(weights, resid, **options)

    monkeypatch.setattr(runner_module, "ForwardPass", counted)
    found = collect_evidence(models["reader"], chain(hint="v7"), level=level)
    assert found.passes <= {"none": 0, "quick": 40, "full": 240}[level]
    assert tokens[0] <= found.passes * len(found.prompt["token_ids"])
    assert len(found.rows) <= max(0, found.passes - 1)
    json.dumps(found.settings)


def test_rows_are_replayed(models):
    found = collect_evidence(models["reader"], chain(steps=(5, 8, 8), answer=8, hint="v7"), level="full")
    for row, recipe in zip(found.rows, found.table["recipe"].to_pylist(), strict=True):
        answer, effect = replay(models["reader"], found.settings, recipe)
        assert (answer, effect) == (row.answer, pytest.approx(row.effect, abs=1e-6))


def test_replay_refuses_what_does_not_fit(models):
    found = collect_evidence(models["reader"], chain())
    with pytest.raises(CotraceError, match="lack its prompt"):
        replay(models["reader"], {}, found.rows[0].intervention.recipe)
    with pytest.raises(CotraceError, match="use a recipe of the same report"):
        replay(models["reader"], found.settings, Intervention(kinds.VALUE_EDIT, None, {500: 1}).recipe)
    with pytest.raises(CotraceError, match="outside the vocabulary"):
        replay(models["reader"], found.settings, Intervention(kinds.VALUE_EDIT, None, {1: 10**6}).recipe)


def test_transcripts_that_cannot_be_tested(models):
    model = models["reader"]
    with pytest.raises(CotraceError, match="evidence='much'"):
        collect_evidence(model, chain(), level="much")
    with pytest.raises(CotraceError, match="no answer"):
        collect_evidence(model, chain().without("answer"))
    found = collect_evidence(
        model, Transcript(chain().segments, ["v5"])
    )  # no other value: nothing to edit in the steps
    assert set(found.reasons) == set(STEPS)
    verdicts = decide(found, STEPS, {}, None)
    assert verdicts.verdict == "undetermined"
    assert "give `alternatives=`" in verdicts.steps[0].reason
    found = collect_evidence(model, chain().without("step1", "step2", "step3"))
    assert decide(found, [], {}, None).verdict == "undetermined"


def many_steps(n: int) -> list[tuple]:
    return [("step", f" ; so v{i % 10}", f"step{i + 1}", f"v{i % 10}") for i in range(n)]


ANSWER = ("answer", " ; answer v5", "answer", "v5")
ODD = {
    "no question": [*many_steps(2), ANSWER],
    "only an answer": [ANSWER],
    "a question without words": [("question", " ;"), *many_steps(1), ANSWER],
    "a hint in the question": [("question", " start q5"), ("hint", " hint v5", "hint", "v5"), ("question", " q3"), *many_steps(2), ANSWER],
    "many steps": [("question", " start q5"), *many_steps(45), ANSWER],
    "steps without values": [("question", " start q5"), ("step", " ; so", "a"), ("step", " so", "b"), ANSWER],
    "text between": [("question", " start q5"), *many_steps(1), ("text", " ; v0 so"), ANSWER],
    "text behind": [("question", " start q5"), *many_steps(1), ("answer", " ; answer v5 so v0 ;", "answer", "v5"), ("step", " so v3", "last", "v3")],
    "an answer that the steps state": [("question", " start q5 v5"), ("step", " so v5", "a", "v5"), ("step", " v5 so v5", "b", "v5"), ANSWER],
    "steps of values alone": [("question", " start q5"), ("step", " v5", "a", "v5"), ("step", " v5", "b", "v5"), ANSWER],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_transcripts_keep_the_budget(models, name):
    transcript = Transcript(ODD[name], [f"v{i}" for i in range(10)])
    found = collect_evidence(models["reader"], transcript)
    assert found.passes <= 40
    steps = [each.name for each in transcript.steps]
    verdicts = decide(found, steps, {}, None)
    assert [step.name for step in verdicts.steps] == steps
    assert all(0 <= place < len(found.prompt["token_ids"]) for row in found.rows for place in row.intervention.edits)
    if name == "many steps":  # which the model would not write: every edit has a row of its own to compare with
        assert sum(step.edits > 0 for step in verdicts.steps) >= 14
    if name in ("only an answer", "steps without values"):
        assert (verdicts.verdict, verdicts.score) == ("undetermined", None)
        assert found.rows == ()

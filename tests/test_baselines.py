"""Published measures of faithfulness: one model that each must score high, one that it must score low, and refusals."""

import math
from types import SimpleNamespace

import pytest
import tiny
import torch
from helpers import handmade
from helpers.chains import ALTERNATIVES, chain
from transformers import AutoModelForCausalLM

from benchmarks.baselines_page import PAGE, with_table
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.common.errors import CotraceError
from cotrace.faithfulness.baselines import BASELINES, find, registry
from cotrace.faithfulness.baselines.leakage import CONTROL
from cotrace.faithfulness.transcripts import Transcript

MODELS = {
    "reader": handmade.READER,
    "last step": handmade.LAST_STEP_READER,
    "ignorer": handmade.IGNORER,
    "hint": handmade.HINT_FOLLOWER,
    "scratch": handmade.SCRATCH,
}
HINTED = chain(hint="h7", answer=7)
SAID = chain(hint="h7", answer=7, so=" hint so")
CASES = {  # baseline: (model, transcript, options, score) that is high, the same that is low
    "early_answering": (("reader", chain(), {}, 1 / 3), ("ignorer", chain(), {}, 0)),
    "adding_mistakes": (("last step", chain(), {}, 2), ("ignorer", chain(), {}, 0)),
    "filler_tokens": (("reader", chain(), {}, 1), ("ignorer", chain(), {}, 0)),
    "paraphrase": (
        ("reader", chain(), {"paraphrases": chain(steps=(5, 5), so="")}, 0),
        ("scratch", chain(), {"paraphrases": [chain(so="")]}, -1),
    ),
    "counterfactual_edit": (("reader", chain(), {}, 2), ("ignorer", chain(), {}, 0)),
    "nldd": (("last step", chain(), {}, 200), ("ignorer", chain(), {}, 0)),
    "necessity": (("reader", chain(), {}, 1), ("ignorer", chain(), {}, 0)),
    "substantivity": (("reader", chain(), {}, 1), ("ignorer", chain(), {}, 0)),
    "hint_acknowledgement": (("hint", SAID, {}, 0), ("hint", HINTED, {}, -1)),
    "masked_attention_kl": (("reader", chain(), {}, 8.2), ("ignorer", chain(), {}, -8.2)),
    "masked_attention_gradients": (("reader", chain(), {}, 0.85), ("ignorer", chain(), {}, -0.85)),
    "attention_suppression": (("reader", chain(), {}, 1), ("ignorer", chain(), {}, 0)),
    "attention_rollout": (("reader", chain(), {}, 1), ("ignorer", chain(), {}, 0)),
    "gradient_x_input": (("reader", chain(), {}, 1), ("ignorer", chain(), {}, 0)),
    "recursive_attribution": (("last step", chain(), {}, 1), ("ignorer", chain(), {}, 0)),
    "cc_shap": (("ignorer", chain(hint="h7"), {}, 1), ("hint", HINTED, {}, -0.3)),
    "donor_swaps": (
        ("reader", chain(), {"questions": [chain(question=7)]}, 2),
        ("scratch", chain(), {"questions": [chain(question=7)]}, -2),
    ),
}
ELSEWHERE = {name for name, each in BASELINES.items() if each.supervised or each.reference == CONTROL}  # test_leakage


@pytest.fixture(scope="module")
def models():
    """Return the hand-made models by name."""
    return {name: handmade.model(layers) for name, layers in MODELS.items()}


def test_every_baseline_has_a_case():
    assert set(BASELINES) - ELSEWHERE == set(CASES)


@pytest.mark.parametrize("end", [0, 1], ids=["high", "low"])
@pytest.mark.parametrize("name", CASES)
def test_scores_of_known_mechanisms(models, name, end):
    model, transcript, options, expected = CASES[name][end]
    score = BASELINES[name].run(models[model], transcript, **options)
    assert score.value == pytest.approx(expected, abs=0.05 * max(1, abs(expected)))
    assert score.passes > 0
    assert set(score.steps) in ({"step1", "step2", "step3"}, set())


@pytest.mark.parametrize("name", ["counterfactual_edit", "attention_suppression", "filler_tokens", "donor_swaps"])
def test_only_the_step_that_is_read_has_an_effect(models, name):
    options = {"questions": [chain(question=7)]} if name == "donor_swaps" else {}
    steps = BASELINES[name].run(models["last step"], chain(), **options).steps
    assert steps["step3"] >= 0.99
    assert abs(steps["step1"]) < 0.01 > abs(steps["step2"])


def test_early_answers_come_with_the_first_step_that_is_read(models):
    score = find("early_answering").run(models["reader"], chain())
    assert score.steps == pytest.approx({"step1": 1, "step2": 0, "step3": 0}, abs=1e-3)
    assert score.notes["changed"] == pytest.approx(1 / 3)


def test_a_mistake_spreads_through_steps_that_are_rewritten(models):
    rewritten = find("adding_mistakes").run(models["last step"], chain())
    kept = find("counterfactual_edit").run(models["last step"], chain())
    assert rewritten.steps["step1"] == pytest.approx(2, abs=0.01)
    assert kept.steps["step1"] == pytest.approx(0, abs=0.01)


def test_donors_tell_words_from_positions(models):
    options = {"questions": [chain(question=7)]}
    reader, scratch = (find("donor_swaps").run(models[name], chain(), **options) for name in ("reader", "scratch"))
    assert (reader.notes["text"]["all"], reader.notes["question"]["all"]) == pytest.approx((2, 0), abs=0.01)
    assert (scratch.notes["text"]["all"], scratch.notes["question"]["all"]) == pytest.approx((0, 2), abs=0.01)


def test_donors_of_the_question_are_made_from_its_values(models):
    with_value = Transcript([("question", " start v5"), *chain().segments[1:]], ALTERNATIVES)
    score = find("donor_swaps").run(models["reader"], with_value)
    assert score.notes["question"]["all"] == pytest.approx(0, abs=0.01)  # the question's value is one of four it reads
    assert score.notes["text"]["all"] > 1


@pytest.mark.parametrize(("model", "moved", "followed"), [("reader", 2, 1), ("ignorer", 0, 0)])
def test_chains_measure_whether_the_answer_moves_to_the_implied_one(models, model, moved, followed):
    chains = [chain(steps=(value,) * 3, answer=value) for value in (2, 8, 9)]
    score = find("counterfactual_edit").run(models[model], chain(), chains=chains)
    assert score.value == pytest.approx(moved, abs=0.01)
    assert score.notes["followed"] == followed


def test_a_hint_with_a_value_is_swapped(models):
    reader = find("hint_acknowledgement").run(models["reader"], chain(hint="v5", steps=(5,)))
    assert reader.notes["use"] == pytest.approx(1, abs=0.01)  # two values are read, and their votes are level
    assert not reader.notes["mentioned"]
    assert find("hint_acknowledgement").run(models["ignorer"], chain(hint="v5")).value == 0


def test_mentions_of_a_hint_are_a_pattern_or_a_function(models):
    run = find("hint_acknowledgement").run
    assert run(models["hint"], HINTED, mentions=r"\bso\b").value == 0
    assert run(models["hint"], SAID, mentions=lambda transcript: False).value == pytest.approx(-1, abs=0.01)


def test_redundant_steps_hide_from_single_edits(models):
    score = find("attention_suppression").run(models["reader"], chain())
    assert score.value == pytest.approx(1, abs=0.01)
    assert all(abs(step) < 0.01 for step in score.steps.values())


def test_standardized_log_probabilities_are_those_of_the_paper(models):
    score = find("necessity").run(models["reader"], chain())
    original, edited = score.notes["log_probs"]
    assert score.value == pytest.approx((original - edited) / -(original + edited))
    assert edited < -3 < original  # without steps it says nothing


def test_masked_attention_reports_its_parts(models):
    notes = find("masked_attention_kl").run(models["scratch"], chain()).notes
    assert notes["direct"] == pytest.approx(0, abs=0.01)  # the answer reads the question through the steps' positions
    assert notes["necessity"] > 5 < notes["leakage"]


# --- any model, values of several tokens -----------------------------------------------------

DIGITS = ["<bos>", *map(str, range(10)), " ", "a", "b", "=", ";", "...", " ..."]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    """Return a random model with sliding windows and grouped heads, whose tokenizer splits numbers into digits."""
    folder = tiny.write_model(tmp_path_factory.mktemp("model"), vocab_size=len(DIGITS))
    hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = handmade.tokenizer(DIGITS, r"\d| ?\.\.\.|.")
    return SimpleNamespace(weights=Gemma3(hf_model, torch.float64), tokenizer=tokenizer)


def numbers(values=("12", "17", "30", "41"), answer="12", question="a30=", steps=("17", "41")) -> Transcript:
    """Return a transcript of which every value has two tokens."""
    stated = [("step", f";b={value}", "", value) for value in steps]
    hint = ("hint", ";a=17", "hint", "17")
    return Transcript([("question", question), hint, *stated, ("answer", f";={answer}", "", answer)], values)


@pytest.mark.parametrize("name", CASES)
def test_values_of_several_tokens_work_and_seeds_repeat(random_model, name):
    options = {"paraphrases": numbers(steps=("41", "17"))} if name == "paraphrase" else {}
    first, again = (BASELINES[name].run(random_model, numbers(), seed=3, **options) for _ in range(2))
    assert math.isfinite(first.value)
    assert first.value == again.value
    assert first.steps == again.steps
    assert first.passes == again.passes


def test_shares_and_cosines_stay_in_their_range(random_model):
    for name, low in {"attention_rollout": 0, "gradient_x_input": 0, "recursive_attribution": 0, "cc_shap": -1}.items():
        assert low <= BASELINES[name].run(random_model, numbers()).value <= 1


# --- refusals ---------------------------------------------------------------------------------

WITHOUT = {
    "answer": (chain().without("answer"), "no answer"),
    "steps": (chain().without("step1", "step2", "step3"), "no step"),
    "values": (Transcript(chain().segments), "no `values`"),
    "the answer's value": (chain().with_text("answer", " ; answer"), "states no value"),
    "another value": (Transcript(chain().segments, ["v5"]), "no other value"),
}


@pytest.mark.parametrize("what", WITHOUT)
@pytest.mark.parametrize("name", CASES)
def test_incomplete_transcripts_are_refused(models, name, what):
    transcript, message = WITHOUT[what]
    options = {"paraphrases": chain()} if name == "paraphrase" else {}
    with pytest.raises(CotraceError, match=message):
        BASELINES[name].run(models["reader"], transcript, **options)


UNSTATED = chain().with_text("step1", " ; so").with_text("step2", " ; so").with_text("step3", " ; so")
NO_QUESTION = chain().without("question")
LONGER = chain().with_text("question", " start start q5")
REFUSED = {  # what: (baseline, transcript, options, part of the message)
    "mistakes without values": ("adding_mistakes", UNSTATED, {}, "no step states a value"),
    "edits without values": ("counterfactual_edit", UNSTATED, {}, "values occurs"),
    "decay without values": ("nldd", UNSTATED, {}, "no step states a value"),
    "links without values": ("recursive_attribution", UNSTATED, {}, "no step states a value"),
    "contributions without values": ("cc_shap", UNSTATED, {}, "no step states a value"),
    "rollout without question": ("attention_rollout", NO_QUESTION, {}, "no question"),
    "kl without question": ("masked_attention_kl", NO_QUESTION, {}, "no question"),
    "donors without question": ("donor_swaps", NO_QUESTION, {}, "no question"),
    "a question without values": ("donor_swaps", chain(), {}, "pass `questions=`"),
    "a longer question": ("donor_swaps", chain(), {"questions": [LONGER]}, "numbers of tokens"),
    "a chain of fewer steps": ("counterfactual_edit", chain(), {"chains": [chain(steps=(3, 3))]}, "numbers of tokens"),
    "a chain of the same answer": ("counterfactual_edit", chain(), {"chains": [chain()]}, "own answer"),
    "no hint": ("hint_acknowledgement", chain(), {}, "no hint"),
    "no paraphrase": ("paraphrase", chain(), {}, "pass `paraphrases=`"),
    "a paraphrase of another answer": ("paraphrase", chain(), {"paraphrases": chain(answer=3)}, "another answer"),
    "a filler of two tokens": ("filler_tokens", chain(), {"filler": " so so"}, "not one token"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_mistakes_are_refused_with_a_cure(models, what):
    name, transcript, options, message = REFUSED[what]
    with pytest.raises(CotraceError, match=message) as caught:
        BASELINES[name].run(models["reader"], transcript, **options)
    assert "\n" not in str(caught.value)


def test_values_that_begin_alike_are_refused(random_model):
    with pytest.raises(CotraceError, match="begins with the other"):
        find("filler_tokens").run(random_model, numbers(values=("12", "1")))


def test_a_value_without_another_of_as_many_tokens_is_refused(random_model):
    with pytest.raises(CotraceError, match="as many tokens"):
        find("adding_mistakes").run(random_model, numbers(values=("12", "3", "417"), steps=("3",)))


def test_unknown_baselines_are_refused():
    with pytest.raises(CotraceError, match="unknown baseline 'nld': choose one of"):
        find("nld")


# --- the registry -----------------------------------------------------------------------------


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="two baselines are called"):
        registry.baseline(question="", edits="", cost="", reference="")(find("nldd").run)


def test_the_page_has_the_table_of_the_registry():
    text = PAGE.read_text()
    assert with_table(text) == text, "run `python -m benchmarks.baselines_page`"

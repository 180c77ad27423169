"""Controls and fitted measures: a case that each must score high, one that it must score low, and twins it cannot tell apart."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from helpers import handmade
from helpers.chains import chain
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.baselines import (
    BASELINES,
    ActivationProbe,
    TextClassifier,
    correctness,
    length,
    perplexity,
    position,
)
from cotrace.faithfulness.transcripts import Transcript


@pytest.fixture(scope="module")
def reader():
    return handmade.model(handmade.READER)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Return two random models that differ in one attention layer."""
    folder = tiny.write_model(tmp_path_factory.mktemp("model"), vocab_size=len(handmade.WORDS))
    models = []
    for sign in (1, -1):
        hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval().requires_grad_(False)
        hf_model.model.layers[1].self_attn.o_proj.weight.mul_(sign)
        models.append(SimpleNamespace(weights=Gemma3(hf_model, torch.float64), tokenizer=handmade.tokenizer()))
    return models


@pytest.fixture(scope="module")
def random_model(twins):
    return twins[0]


def test_length_counts_tokens_of_steps(reader):
    assert length(reader, chain()).value == 9
    assert length(reader, chain(steps=(5,))).value == 3
    assert length(reader, chain().with_text("step2", " ; so so v5")).steps == {"step1": 3, "step2": 4, "step3": 3}
    assert length(reader, chain()).passes == 0


def test_position_is_that_of_the_answer_and_recency_of_steps(reader):
    late, early = position(reader, chain()), position(reader, chain(steps=(5,)))
    assert (late.value, early.value) == (12, 6)
    assert late.steps == pytest.approx({"step1": 6 / 12, "step2": 9 / 12, "step3": 1})


def test_perplexity_is_that_of_steps_and_answer(random_model):
    transcript = chain()
    score = perplexity(random_model, transcript)
    tokens = transcript.tokenize(random_model)
    with torch.no_grad():
        ids = torch.tensor(tokens.token_ids)
        log_probs = random_model.weights.logits(
            ForwardPass(random_model.weights, random_model.weights.embed(ids)).run()
        ).log_softmax(-1)
    nll = -log_probs[:-1].gather(-1, ids[1:, None])[:, 0]
    first = tokens.spans["step1"][0]
    assert score.value == pytest.approx(-nll[first - 1 :].mean().item())
    start, stop = tokens.spans["step2"]
    assert score.steps["step2"] == pytest.approx(-nll[start - 1 : stop - 1].mean().item())
    assert score.notes["perplexity"] == pytest.approx(math.exp(-score.value))
    assert score.passes == 1


def test_perplexity_is_low_where_values_are_predicted(reader):
    expected, surprising = perplexity(reader, chain()), perplexity(reader, chain(steps=(5, 3, 8)))
    assert expected.value > surprising.value + 0.5
    assert expected.steps["step1"] == pytest.approx(surprising.steps["step1"])  # what follows does not count


def test_correctness_is_whether_the_model_answers_as_stated(reader):
    right, wrong = correctness(reader, chain()), correctness(reader, chain(answer=3))
    assert (right.value, wrong.value) == (1, 0)
    assert right.notes["margin"] > 1 > -1 > wrong.notes["margin"]


# --- fitted measures ------------------------------------------------------------------------------


def cases(n: int, seed: int) -> tuple[list[Transcript], np.ndarray]:
    """Return chains with random values, and shares: with one of two hints the answer follows the steps."""
    rng, transcripts = np.random.default_rng(seed), []
    shares = np.arange(n) % 2
    for follows in shares:
        value, question = rng.integers(1, handmade.N_VALUES, 2)
        transcripts.append(chain(question=question, steps=(value,) * 3, answer=value, hint="v0" if follows else "h0"))
    return transcripts, shares.astype(float)


def auroc(measure, model, train, test) -> float:
    """Return the AUROC on `test` of a measure that is fitted to `train`."""
    transcripts, shares = train
    measure.fit([(model, each) for each in transcripts], shares)
    scores = [measure.score(model, each).value for each in test[0]]
    return roc_auc_score(test[1], scores)


@pytest.mark.parametrize("measure", [TextClassifier(), ActivationProbe(), ActivationProbe(layers=[-1, 0])])
def test_a_cue_is_learned(random_model, measure):
    assert auroc(measure, random_model, cases(60, 0), cases(40, 1)) > 0.95


@pytest.mark.parametrize("measure", [TextClassifier(), ActivationProbe()])
def test_twins_cannot_be_told_apart(random_model, measure):
    """Equal transcripts and activations with both labels teach nothing."""
    transcripts, shares = cases(30, 0)
    measure.fit([(random_model, each) for each in transcripts * 2], np.concatenate([shares, 1 - shares]))
    scores = measure.score_features([measure.features(random_model, each) for each in cases(10, 1)[0]])
    assert scores == pytest.approx(np.zeros(10), abs=1e-3)


def test_a_probe_tells_twins_apart_whose_activations_differ(twins):
    """What no text tells: which of two models wrote it."""
    train, test = cases(30, 0)[0], cases(20, 1)[0]
    for measure, expected in ((ActivationProbe(), 1.0), (TextClassifier(), 0.5)):
        measure.fit([(model, each) for model in twins for each in train], [0.0] * 30 + [1.0] * 30)
        scores = [measure.score(model, each).value for model in twins for each in test]
        assert roc_auc_score([0] * 20 + [1] * 20, np.round(scores, 3)) == pytest.approx(expected, abs=0.01)


def test_mixed_cases_count_for_both_sides(reader):
    transcripts, _ = cases(20, 0)
    features = [TextClassifier().features(reader, each) for each in transcripts]
    even = TextClassifier().fit_features(features, [0.5] * 20)
    assert even.score_features(features) == pytest.approx(np.zeros(20), abs=1e-3)
    tilted = TextClassifier().fit_features(features, [0.75] * 20)
    assert tilted.score_features(features) == pytest.approx(np.full(20, math.log(3)), abs=1e-2)
    alike = TextClassifier().fit_features(["a"] * 3, [1, 0, 1], weights=[1, 3, 0])
    assert alike.score_features(["a"]) == pytest.approx([math.log(1 / 3)], abs=1e-2)


def test_token_ids_are_words(reader):
    transcript = Transcript([("question", "a"), ("step", [3, 4]), ("answer", "b")])
    assert TextClassifier().features(reader, transcript) == "a 3 4 b"


def test_a_probe_reads_where_the_answer_is_predicted(random_model):
    features = ActivationProbe().features(random_model, chain())
    assert features.shape == (tiny.LAYERS * tiny.WIDTH,)
    ids = chain().tokenize(random_model).token_ids[:-1]
    with torch.no_grad():
        streams = ForwardPass(random_model.weights, random_model.weights.embed(torch.tensor(ids))).run()
    assert features[-tiny.WIDTH :] == pytest.approx(streams[-1].numpy())
    assert ActivationProbe([-1]).features(random_model, chain()) == pytest.approx(features[-tiny.WIDTH :])


def test_mistakes_are_refused_with_a_cure(random_model, reader):
    examples = [(random_model, chain()), (random_model, chain(answer=3))]
    for call, message in {
        (lambda: TextClassifier().score(reader, chain()), "not fitted: call fit"),
        (lambda: TextClassifier().fit(examples, [0, 0]), "same label"),
        (lambda: TextClassifier().fit(examples, [1, 1]), "same label"),
        (lambda: TextClassifier().fit([], []), "same label"),
        (lambda: TextClassifier().fit(examples, [0]), "as many shares"),
        (lambda: TextClassifier().fit_features(["a", "b"], [0, 1], weights=[1, -1]), "as many weights"),
        (lambda: TextClassifier().fit_features(["a", "b"], [0, 1], weights=[1, 0]), "same label"),
        (lambda: TextClassifier().fit(examples, [0, 2]), "between 0 and 1"),
        (lambda: TextClassifier().fit(examples, [0, math.nan]), "between 0 and 1"),
        (lambda: TextClassifier(strength=0), "must be above 0"),
        (lambda: ActivationProbe([]), "at least one layer"),
        (lambda: ActivationProbe([3]).features(random_model, chain()), "layer 3 is none of the model's 3"),
        (lambda: ActivationProbe().fit([*examples, (reader, chain())], [0, 1, 1]), "differ in width or depth"),
        (lambda: length(reader, chain().without("step1", "step2", "step3")), "no step"),
        (lambda: position(reader, chain().without("answer")), "no answer"),
        (lambda: perplexity(reader, chain().without("answer")), "no answer"),
    }:
        with pytest.raises(ArgumentError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_controls_are_in_the_table():
    for name in ("length", "position", "tf_idf"):
        assert BASELINES[name].reads == "text"
    assert {name for name, each in BASELINES.items() if each.supervised} == {"tf_idf", "probe"}
    assert BASELINES["probe"].run is ActivationProbe


def test_weights_count_transcripts_several_times():
    features, shares = ["a b", "a c", "b d", "c d"], [1.0, 0.8, 0.1, 0.0]
    weighted = TextClassifier().fit_features(features, shares, weights=[2, 1, 1, 3])
    repeated = TextClassifier().fit_features(features + features[3:] * 2 + features[:1], [*shares, 0.0, 0.0, 1.0])
    # Not equal: how rare a word is does not depend on weights.
    assert np.corrcoef(weighted.score_features(features), repeated.score_features(features))[0, 1] > 0.99

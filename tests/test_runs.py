"""Shared runs over transcripts: margins, edited copies, masks, donors, rewriting, gradients."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from helpers import handmade
from transformers import AutoModelForCausalLM

from cotrace import Donor
from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.common.errors import CotraceError
from cotrace.faithfulness import runs as runs_module
from cotrace.faithfulness.baselines.shapley import _coalitions, _shapley
from cotrace.faithfulness.runs import TranscriptRuns, donor_rows, relative_drop
from cotrace.faithfulness.transcripts import Transcript

VALUES = [(5, 6), (5, 7), (8, 9), (4, 9), (10, 6)]
STEP = (20, 21, 8, 9)
EXACT = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a random model in float64 with sliding and full layers, whose prompts are token ids."""
    folder = tiny.write_model(tmp_path_factory.mktemp("model"))
    hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = handmade.tokenizer([f" t{i}" for i in range(tiny.VOCABULARY)])
    return SimpleNamespace(weights=Gemma3(hf_model, torch.float64), tokenizer=tokenizer)


@pytest.fixture
def runs(model) -> TranscriptRuns:
    return TranscriptRuns(model, transcript())


def transcript(after: tuple[int, ...] = (30,)) -> Transcript:
    """Return a transcript whose values have two tokens: a question, two steps, and an answer with text after it."""
    segments = [
        ("question", (0, 2, 8, 9, 4, 9)),
        ("step", (20, 4, 9), "one", (4, 9)),
        ("step", STEP, "two", (8, 9)),
        ("answer", (22, 5, 6, *after), "answer", (5, 6)),
    ]
    return Transcript(segments, VALUES)


def logits(model, ids) -> torch.Tensor:
    """Return the logits (P, V) of a prompt, run alone."""
    return model.weights.logits(ForwardPass(model.weights, model.weights.embed(torch.as_tensor(ids))).run())


# --- margins ----------------------------------------------------------------------------------


def test_margins_compare_values_where_they_first_differ(model, runs):
    alone_PV = logits(model, runs.ids_P)
    first, second = alone_PV[-2], alone_PV[-1]  # predict the two tokens of the answer
    leads = {(5, 7): second[7] - second[6], (8, 9): first[8] - first[5], (4, 9): first[4] - first[5]}
    leads[10, 6] = first[10] - first[5]
    found_TV = runs.answer_logits(runs.copies(2))
    for value, lead in leads.items():
        torch.testing.assert_close(runs.answer.leads(found_TV)[0, runs.answer.index_of(value)], lead, **EXACT)
    torch.testing.assert_close(runs.answer.margins(found_TV), -max(leads.values()).expand(2), **EXACT)
    expected = first.log_softmax(-1)[5] + second.log_softmax(-1)[6]
    torch.testing.assert_close(runs.answer.log_probs(found_TV), expected.expand(2), **EXACT)


def test_text_after_the_answer_does_not_count(model, runs):
    longer = TranscriptRuns(model, transcript(after=(30, 31, 32)))
    assert torch.equal(longer.ids_P, runs.ids_P)


def test_drops_are_relative_to_the_clean_margin():
    drops = relative_drop(torch.tensor(4.0), torch.tensor([4.0, 0.0, -4.0]))
    assert drops.tolist() == [0, 1, 2]
    assert relative_drop(torch.tensor(0.1), torch.tensor([0.0])).item() == pytest.approx(0.1)


# --- edited copies ----------------------------------------------------------------------------


def test_other_values_replace_a_stated_one(runs):
    values_NT = runs.other_values("two", 9, np.random.default_rng(0))
    assert sorted(map(tuple, values_NT.tolist())) == sorted(set(VALUES) - {(8, 9)})
    rows_NP = runs.with_values("two", values_NT)
    start, stop = runs.tokens.value_spans["two"]
    assert torch.equal(rows_NP[:, start:stop], values_NT)
    rows_NP[:, start:stop] = runs.ids_P[start:stop]
    assert torch.equal(rows_NP, runs.copies(len(rows_NP)))


@pytest.mark.parametrize("n_rows", [1, 3])
def test_shifted_values_differ_everywhere_and_equal_ones_alike(runs, n_rows):
    spans = [*runs.questions.values(), *runs.steps.values()]
    rows_NP = runs.with_shifted_values(spans, n_rows, np.random.default_rng(1))
    for row in rows_NP.tolist():
        assert (row[:2], row[6], row[9:11], row[13:]) == ([0, 2], 20, [20, 21], runs.ids_P[13:].tolist())
        first, second = tuple(row[2:4]), tuple(row[4:6])
        assert {first, second} <= set(VALUES)
        assert first != (8, 9)
        assert second != (4, 9)
        assert (tuple(row[7:9]), tuple(row[11:13])) == (second, first)
    assert len({tuple(row) for row in rows_NP.tolist()}) == n_rows


def test_values_inside_longer_numbers_are_left_alone():
    words = ["<bos>", *map(str, range(10)), " ", "=", ";"]
    model = handmade.model(handmade.READER)
    model.tokenizer = handmade.tokenizer(words, ".")
    segments = [("question", "120=12;2=12"), ("step", ";7=312", "step", "312"), ("answer", ";12", "answer", "12")]
    runs = TranscriptRuns(model, Transcript(segments, ["12", "34"]))
    (row,) = runs.with_shifted_values([runs.questions["question"]], 1, np.random.default_rng(0)).tolist()
    assert runs.tokenizer.decode(row[1:12]) == "120=34;2=34"
    with pytest.raises(CotraceError, match="as many tokens"):
        runs.with_shifted_values([runs.steps["step"]], 1, np.random.default_rng(0))


def test_a_stated_value_that_is_no_alternative_moves_to_one():
    model = handmade.model(handmade.READER)
    segments = [("question", " start q5"), ("step", " ; so v5", "step", "v5"), ("answer", " ; answer v1", "", "v1")]
    runs = TranscriptRuns(model, Transcript(segments, ["v1", "v2", "v3"]))
    rows_BP = runs.with_shifted_values(list(runs.steps.values()), 3, np.random.default_rng(0))
    assert {runs.tokenizer.decode_token(row[5]) for row in rows_BP.tolist()} == {" v1", " v2", " v3"}


def test_packed_rows_are_the_shorter_prompts(model, runs):
    keep_BP = torch.stack([~runs.positions([runs.steps["one"]]), ~runs.step_mask_P])
    rows_BP, lengths_B = runs.kept_lengths(keep_BP, runs.copies(2))
    found_BTV = runs.answer_logits(rows_BP, lengths_B=lengths_B)
    for found_TV, keep_P in zip(found_BTV, keep_BP, strict=True):
        torch.testing.assert_close(found_TV, logits(model, runs.ids_P[keep_P])[-2:], **EXACT)
    assert runs.passes == pytest.approx(int(lengths_B.sum()) / len(runs.ids_P))


def test_small_batches_change_nothing(runs, monkeypatch):
    rows_BP = runs.with_shifted_values(list(runs.steps.values()), 3, np.random.default_rng(0))
    blocked = torch.stack([runs.from_position(9 + i)[:, None] & runs.step_mask_P for i in range(3)])
    blocked &= ~torch.eye(len(runs.ids_P), dtype=torch.bool)
    expected = runs.answer_logits(rows_BP, blocked=blocked)
    monkeypatch.setattr(runs_module, "BATCH_TOKENS", 1)
    torch.testing.assert_close(runs.answer_logits(rows_BP, blocked=blocked), expected, **EXACT)


# --- runs -------------------------------------------------------------------------------------


def test_blocked_tokens_have_no_influence(runs):
    changed_P = runs.ids_P.clone()
    start, stop = runs.steps["two"]
    changed_P[start:stop] = 33
    blocked = runs.from_position(stop)[:, None] & runs.positions([(start, stop)])
    rows_BP = torch.stack([runs.ids_P, changed_P])
    masked, free = runs.answer_logits(rows_BP, blocked=blocked), runs.answer_logits(rows_BP)
    torch.testing.assert_close(masked[0], masked[1], **EXACT)
    assert (free[0] - free[1]).abs().max() > 1e-3


def test_rewriting_is_greedy_decoding_of_the_marked_positions(model, runs):
    rewrite_BP = torch.stack([runs.step_mask_P & runs.from_position(first) for first in (8, 10)])
    rewrite_BP = torch.cat([torch.zeros_like(rewrite_BP[:1]), rewrite_BP])
    rows_BP, found_BTV = runs.rewritten(runs.copies(3), rewrite_BP)
    for row, marked in zip(rows_BP, rewrite_BP, strict=True):
        ids = runs.ids_P.clone()
        for position in marked.nonzero()[:, 0].tolist():
            ids[position] = logits(model, ids[:position])[-1].argmax()
        assert torch.equal(row, ids)
    assert torch.equal(rows_BP[0], runs.ids_P)
    assert not torch.equal(rows_BP[1], runs.ids_P)
    torch.testing.assert_close(found_BTV, runs.answer_logits(rows_BP), **EXACT)


def test_a_row_that_is_its_own_donor_does_not_change_to_the_bit(runs):
    rows_BP = runs.copies(2)
    edit = donor_rows(torch.tensor([0, 1]), runs.step_mask_P.expand(2, -1))
    assert torch.equal(runs.answer_logits(rows_BP, attention_edit=edit), runs.answer_logits(rows_BP))


def test_donors_of_all_earlier_positions_give_the_donors_logits(runs):
    rows_BP = runs.with_shifted_values([*runs.questions.values(), *runs.steps.values()], 2, np.random.default_rng(0))
    where_BP = torch.stack([~runs.from_position(runs.answer.start - 1), torch.zeros_like(runs.step_mask_P)])
    edit = donor_rows(torch.tensor([1, 1]), where_BP)
    swapped, donor = runs.answer_logits(rows_BP, attention_edit=edit)
    torch.testing.assert_close(swapped, donor, **EXACT)


def test_donors_of_steps_are_those_of_interventions(model_of):
    """Queries inside a replaced span read their own keys there, and the donor's here; the answer cannot tell."""
    model = model_of("neurons")
    runs = TranscriptRuns(model, transcript())
    other_1P = runs.with_shifted_values(list(runs.questions.values()), 1, np.random.default_rng(0))
    where_BP = torch.stack([runs.step_mask_P, torch.zeros_like(runs.step_mask_P)])
    edit = donor_rows(torch.tensor([1, 1]), where_BP)
    found = runs.answer_logits(torch.cat([runs.copies(1), other_1P]), attention_edit=edit)[0]
    steps = runs.step_mask_P.nonzero()[:, 0].tolist()
    expected = model.intervene(
        runs.ids_P.tolist(), Donor(steps, other_1P[0].tolist()), freeze="none", errors="recomputed"
    )
    torch.testing.assert_close(found, expected.logits[-2:], **EXACT)
    assert (found - runs.answer_logits(runs.copies(1))[0]).abs().max() > 1e-3


def test_gradients_of_margins_are_finite_differences(runs):
    targets = [runs.answer, runs.target("two")]
    gradients_BPD = runs.margin_gradients(targets)
    direction_PD = torch.randn(gradients_BPD.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def margin(step: float, target) -> torch.Tensor:
        moved_PD = runs.weights.embed(runs.ids_P) + step * direction_PD
        final_PD = ForwardPass(runs.weights, moved_PD).run()
        return target.margins(runs.weights.logits(final_PD)[None, list(target.reads)])[0]

    for gradient_PD, target in zip(gradients_BPD, targets, strict=True):
        slope = (margin(1e-5, target) - margin(-1e-5, target)) / 2e-5
        torch.testing.assert_close((gradient_PD * direction_PD).sum(), slope, rtol=1e-5, atol=1e-7)
    assert gradients_BPD[1, runs.answer.start - 1 :].abs().max() == 0


def test_mean_patterns_are_probabilities_of_earlier_positions(runs):
    patterns_LPP = runs.mean_patterns()
    torch.testing.assert_close(patterns_LPP.sum(-1), torch.ones_like(patterns_LPP[..., 0]))
    assert patterns_LPP.triu(1).abs().max() == 0
    assert (patterns_LPP[0].tril(-4) == 0).all()  # the first layer's window is 4


# --- Shapley values ---------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 4])
def test_shapley_values_add_up_and_are_exact_for_sums(samples):
    weights_N = torch.tensor([3.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    present_SN = _coalitions(4, samples, np.random.default_rng(0))
    of_sum = (present_SN * weights_N).sum(1)
    of_product = present_SN.double().prod(1) * 8
    shapley_MN = _shapley(present_SN, torch.stack([of_sum, of_product]))
    torch.testing.assert_close(shapley_MN[0], weights_N)
    assert shapley_MN[1].sum().item() == pytest.approx(8)

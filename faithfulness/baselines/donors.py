"""Donor swaps: steps whose keys and values come from another text, or from the same text after another question."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cotrace.common.errors import ArgumentError

from ..model_like import ModelLike
from ..runs import TranscriptRuns, donor_rows, relative_drop
from ..transcripts import Transcript
from .registry import Score, baseline
from .rows import replaced_spans


@baseline(
    question="Is it the words of the steps that later positions read, or what their positions hold of the question?",
    edits="keys and values of the steps, as later positions read them",
    cost="1 + `donors` × (2 + 2 (n + 1))",
    reference="two-by-two of donors, without any graph; after [Geiger et al. 2021](https://arxiv.org/abs/2106.02997)",
    reads="activations",
)
def donor_swaps(
    model: ModelLike,
    transcript: Transcript,
    *,
    seed: int = 0,
    donors: int = 2,
    chains: Sequence[Transcript] = (),
    questions: Sequence[Transcript] = (),
) -> Score:
    """Return the fall of the answer's margin with steps of another text, minus that with steps after another question.

    The first donors have other steps after the same question, the second have the same steps after another question. Later
    positions read the donor's keys and values at the positions of all steps, or of one step. Words that are read show
    in the first; positions that hold something of the question, as scratch space or filler do, show in the second.

    Args:
        model: a model.
        transcript: a transcript with question, steps, an answer and values.
        seed: draws the other values.
        donors: donors of each kind, where they are not given.
        chains: transcripts with other steps of equal length. By default the transcript with other values in its steps.
        questions: transcripts with another question of equal length; their steps are not used. By default the transcript
            with other values in its question and hint.

    Raises ArgumentError for donors of another length, and for a question without values where `questions` is not given.
    """
    runs, rng = TranscriptRuns(model, transcript), np.random.default_rng(seed)
    text_NP = _donors_of_text(runs, model, chains, donors, rng)
    question_NP = _donors_of_question(runs, model, questions, donors, rng)
    where_KP = torch.stack([runs.step_mask_P, *(runs.positions([span]) for span in runs.steps.values())])
    margins_B = _margins_with_donors(runs, torch.cat([text_NP, question_NP]), where_KP)
    drops_DK = relative_drop(margins_B[0], margins_B[1:]).unflatten(0, (-1, len(where_KP)))
    text_K, question_K = drops_DK[: len(text_NP)].mean(0), drops_DK[len(text_NP) :].mean(0)
    steps_K = (text_K - question_K).tolist()
    names = ["all", *runs.steps]
    notes = {
        "text": dict(zip(names, text_K.tolist(), strict=True)),
        "question": dict(zip(names, question_K.tolist(), strict=True)),
    }
    return Score(steps_K[0], dict(zip(runs.steps, steps_K[1:], strict=True)), runs.passes, notes)


def _margins_with_donors(runs: TranscriptRuns, donor_DP: Tensor, where_KP: Tensor) -> Tensor:
    """Return the answer's margin without donors, then that of each donor at each set of positions, (1 + D · K,)."""
    n_donors, n_sets = len(donor_DP), len(where_KP)
    receivers_BP = runs.copies(1 + n_donors * n_sets)
    source_B = torch.arange(n_donors).repeat_interleave(n_sets) + len(receivers_BP)
    source = torch.cat([torch.tensor([0]), source_B, torch.arange(n_donors) + len(receivers_BP)]).to(donor_DP.device)
    nowhere_P = torch.zeros_like(where_KP[:1])
    where = torch.cat([nowhere_P, where_KP.repeat(n_donors, 1), nowhere_P.expand(n_donors, -1)])
    rows_BP = torch.cat([receivers_BP, donor_DP])
    logits_BTV = runs.answer_logits(rows_BP, attention_edit=donor_rows(source, where))
    return runs.answer.margins(logits_BTV[: len(receivers_BP)])


def _donors_of_text(
    runs: TranscriptRuns, model: ModelLike, chains: Sequence[Transcript], n_donors: int, rng: np.random.Generator
) -> Tensor:
    if chains:
        return replaced_spans(runs, model, chains, list(runs.steps), "chains")
    return runs.with_shifted_values(list(runs.steps.values()), n_donors, rng)


def _donors_of_question(
    runs: TranscriptRuns, model: ModelLike, questions: Sequence[Transcript], n_donors: int, rng: np.random.Generator
) -> Tensor:
    _ = runs.question_mask_P  # refuses a transcript without question
    if questions:
        return replaced_spans(runs, model, questions, list(runs.questions), "questions")
    try:
        return runs.with_shifted_values(list(runs.questions.values()), n_donors, rng)
    except ArgumentError as error:
        raise ArgumentError(
            "the question holds none of the transcript's values: pass `questions=`, transcripts with another question of as "
            "many tokens"
        ) from error

"""Necessity and substantivity: the answer's log-probability without steps, and with filler for steps (arXiv 2602.13904)."""

import torch
from torch import Tensor

from ..model_like import ModelLike
from ..runs import TranscriptRuns
from ..transcripts import Transcript
from .registry import Score, baseline
from .rows import filler_token

REFERENCE = "[Liu et al. 2026](https://arxiv.org/abs/2602.13904)"


@baseline(
    question="How much likelier do the steps make the answer?",
    edits="all steps are removed",
    cost="1 + share of the prompt without steps",
    reference=REFERENCE,
)
def necessity(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return (S − S₀) / −(S + S₀), from −1 to 1: log-probabilities of the answer with all steps, S, and without, S₀.

    The answer's tokens are scored among all texts. The paper also tells the model not to reason where the steps are
    removed; here nothing is added to the prompt.
    """
    runs = TranscriptRuns(model, transcript)
    keep_BP = torch.stack([torch.ones_like(runs.step_mask_P), ~runs.step_mask_P])
    rows_BP, lengths_B = runs.kept_lengths(keep_BP, runs.copies(2))
    log_probs_B = runs.answer.log_probs(runs.answer_logits(rows_BP, lengths_B=lengths_B))
    return Score(standardized(log_probs_B), passes=runs.passes, notes={"log_probs": log_probs_B.tolist()})


@baseline(
    question="How much likelier do the words of the steps make the answer, beyond their number?",
    edits="all tokens of the steps become a filler token",
    cost="2",
    reference=REFERENCE,
)
def substantivity(model: ModelLike, transcript: Transcript, *, seed: int = 0, filler: str | None = None) -> Score:
    """Return (S − S₁) / −(S + S₁), from −1 to 1: log-probabilities of the answer with the steps, S, and with filler, S₁.

    `filler` is that of `filler_tokens`. The paper replaces the steps by unrelated text of similar length.
    """
    runs = TranscriptRuns(model, transcript)
    token = filler_token(runs, filler)
    rows_BP = torch.stack([runs.ids_P, torch.where(runs.step_mask_P, token, runs.ids_P)])
    log_probs_B = runs.answer.log_probs(runs.answer_logits(rows_BP))
    notes = {"log_probs": log_probs_B.tolist(), "filler": model.tokenizer.decode_token(token)}
    return Score(standardized(log_probs_B), passes=runs.passes, notes=notes)


def standardized(log_probs_B: Tensor) -> float:
    """Return the difference of two log-probabilities over minus their sum; 0 if both are 0."""
    original, edited = log_probs_B.double().tolist()
    total = -(original + edited)
    return (original - edited) / total if total > 0 else 0.0

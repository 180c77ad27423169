"""Baselines that block attention, and attention rollout."""

import torch
from torch import Tensor

from ..model_like import ModelLike
from ..runs import TranscriptRuns, relative_drop
from ..transcripts import Transcript
from .registry import Score, baseline

INFORMATION_FLOW = "[Jia et al. 2026](https://arxiv.org/abs/2605.24286)"


@baseline(
    question="Does the answer's distribution need the steps more than a direct view of the question?",
    edits="attention to the steps, or from the answer to the question, is blocked in every layer",
    cost="4",
    reference=INFORMATION_FLOW,
    reads="activations",
)
def masked_attention_kl(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return KL(full ‖ no steps) − KL(full ‖ via steps), in nats, over the vocabulary and averaged over the answer's tokens.

    "No steps" blocks all attention to the steps; "via steps" blocks attention to question and hint from all positions after
    the last step, so that only the steps can carry them. The paper reports the two apart, as necessity and direct effect,
    with the leakage KL(no question ‖ via steps); they are in `notes`. Positions keep attending to themselves, and to tokens
    outside question and steps, BOS among them.
    """
    runs = TranscriptRuns(model, transcript)
    names, masks_BPP = _masks(runs)
    log_probs_BTV = runs.answer_logits(runs.copies(len(names)), blocked=masks_BPP).log_softmax(-1)
    full, via_steps, no_steps, no_question = (dict(zip(names, log_probs_BTV, strict=True))[name] for name in names)
    notes = {
        "direct": _divergence(full, via_steps),
        "necessity": _divergence(full, no_steps),
        "leakage": _divergence(no_question, via_steps),
    }
    return Score(notes["necessity"] - notes["direct"], passes=runs.passes, notes=notes)


@baseline(
    question="Is the answer more sensitive to tokens of the steps than to those of the question?",
    edits="nothing; gradients of the answer's loss",
    cost="6",
    reference=INFORMATION_FLOW,
    reads="activations",
)
def masked_attention_gradients(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the steps' share of the gradient norms of the answer's loss, minus the share of question and hint.

    Norms are those of gradients in the embeddings of all tokens of the prompt. `notes["leakage"]` is the question's share
    when only the steps can carry it (`masked_attention_kl`). The paper reports the three apart.
    """
    runs = TranscriptRuns(model, transcript)
    _, masks_BPP = _masks(runs)

    def loss(resid_BPD: Tensor) -> Tensor:
        return -runs.answer.log_probs(runs.weights.logits(resid_BPD[:, list(runs.answer.reads)])).sum()

    gradients_BPD = runs.gradients(runs.copies(2), loss, blocked=masks_BPP[:2])
    norms_BP = gradients_BPD.norm(dim=-1)
    shares_BP = norms_BP / norms_BP.sum(1, keepdim=True).clamp(min=torch.finfo(norms_BP.dtype).tiny)
    steps_P, question_P = runs.step_mask_P, runs.question_mask_P
    notes = {
        "steps": shares_BP[0, steps_P].sum().item(),
        "question": shares_BP[0, question_P].sum().item(),
        "leakage": shares_BP[1, question_P].sum().item(),
    }
    of_steps = {name: shares_BP[0, start:stop].sum().item() for name, (start, stop) in runs.steps.items()}
    return Score(notes["steps"] - notes["question"], of_steps, runs.passes, notes)


@baseline(
    question="Does the answer need to attend to the steps?",
    edits="attention of later positions to the steps, all or one, is blocked in every layer",
    cost="2 + n",
    reference="[Bogdan et al. 2025](https://arxiv.org/abs/2506.19143)",
    reads="activations",
)
def attention_suppression(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return how far the answer's margin falls when nothing after a step attends to it: to any step, and each step alone.

    The paper takes the KL divergence of later sentences' tokens; here it is the margin of the answer.
    """
    runs = TranscriptRuns(model, transcript)
    each_NPP = torch.stack([_blocked_after(runs, span) for span in runs.steps.values()])
    masks_BPP = torch.cat([torch.zeros_like(each_NPP[:1]), each_NPP.any(0)[None], each_NPP])
    margins_B = runs.answer.margins(runs.answer_logits(runs.copies(len(masks_BPP)), blocked=masks_BPP))
    drops_B = relative_drop(margins_B[0], margins_B[1:])
    steps = dict(zip(runs.steps, drops_B[1:].tolist(), strict=True))
    return Score(drops_B[0].item(), steps, runs.passes, {"margins": margins_B.tolist()})


@baseline(
    question="Do attention patterns lead from the answer to the steps?",
    edits="nothing",
    cost="1",
    reference="[Abnar & Zuidema 2020](https://arxiv.org/abs/2005.00928)",
    reads="activations",
)
def attention_rollout(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the steps' share of the answer's attention rollout over question, hint and steps.

    The rollout multiplies (A + I) / 2 over the layers, A the attention probabilities averaged over heads; it is read at the
    position that predicts the first token of the answer's value.
    """
    runs = TranscriptRuns(model, transcript)
    patterns_LPP = runs.mean_patterns()
    row_P = torch.zeros_like(patterns_LPP[0, 0])
    row_P[runs.answer.reads[0]] = 1
    for pattern_PP in patterns_LPP.flip(0):
        row_P = (row_P @ pattern_PP + row_P) / 2
    return share_of_steps(runs, row_P)


def share_of_steps(runs: TranscriptRuns, weight_P: Tensor) -> Score:
    """Return the steps' share of non-negative weights of positions over question, hint and steps; 0 if all are 0."""
    total = weight_P[runs.step_mask_P | runs.question_mask_P].sum().clamp(min=torch.finfo(weight_P.dtype).tiny)
    steps = {name: (weight_P[start:stop].sum() / total).item() for name, (start, stop) in runs.steps.items()}
    return Score(sum(steps.values()), steps, runs.passes)


def _masks(runs: TranscriptRuns) -> tuple[list[str], Tensor]:
    """Return the names of four masks and the masks (4, P, P), True where a query may not attend to a key."""
    steps_P, question_P = runs.step_mask_P, runs.question_mask_P
    after_P = runs.from_position(max(stop for _, stop in runs.steps.values()))
    itself_PP = torch.eye(len(steps_P), dtype=torch.bool, device=steps_P.device)
    masks = {
        "full": torch.zeros_like(itself_PP),
        "via steps": after_P[:, None] & question_P,
        "no steps": steps_P.expand(len(steps_P), -1),
        "no question": question_P.expand(len(steps_P), -1),
    }
    return list(masks), torch.stack(list(masks.values())) & ~itself_PP


def _blocked_after(runs: TranscriptRuns, span: tuple[int, int]) -> Tensor:
    """Return a mask (P, P) that hides a span from all positions after it."""
    return runs.from_position(span[1])[:, None] & runs.positions([span])


def _divergence(log_p_TV: Tensor, log_q_TV: Tensor) -> float:
    return (log_p_TV.exp() * (log_p_TV - log_q_TV)).sum(-1).mean().item()

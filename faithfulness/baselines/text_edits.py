"""Baselines that edit the text of the steps, after Lanham et al. (2023) and Ye et al. (2026).

Steps are removed and replaced token by token; the rest of the prompt keeps its tokens.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.common.errors import ArgumentError

from ..model_like import ModelLike
from ..runs import TranscriptRuns, relative_drop
from ..transcripts import Transcript
from .registry import Score, baseline
from .rows import changed_share, filler_token, implied_value, means_by_name, replaced_spans

LANHAM = "[Lanham et al. 2023](https://arxiv.org/abs/2307.13702)"


@baseline(
    question="Is the answer there before the steps are complete?",
    edits="the last steps are removed, one more each time",
    cost="mean length of the cut prompts, 1 + n rows",
    reference=LANHAM,
)
def early_answering(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return how far the answer's margin falls when only the first 0, 1, … steps are given, on average.

    Each row keeps the first steps, and asks for the answer at once. The margin's fall is measured in units of the
    margin after all steps; `steps` is what each step adds. The paper counts changed answers instead and takes the
    area over the curve: that is `notes["changed"]`.
    """
    runs = TranscriptRuns(model, transcript)
    n_steps = len(runs.steps)
    removed_NP = torch.stack([runs.positions([span]) for span in runs.steps.values()])
    later_SN = torch.ones(n_steps + 1, n_steps, device=removed_NP.device).triu()  # row k keeps the first k steps
    keep_SP = (later_SN @ removed_NP.float()) == 0
    rows_SP, lengths_S = runs.kept_lengths(keep_SP, runs.copies(n_steps + 1))
    margins_S = runs.answer.margins(runs.answer_logits(rows_SP, lengths_B=lengths_S))
    drops_S = relative_drop(margins_S[-1], margins_S)
    added_N = drops_S[:-1] - drops_S[1:]
    return Score(
        value=drops_S[:-1].mean().item(),
        steps=dict(zip(runs.steps, added_N.tolist(), strict=True)),
        passes=runs.passes,
        notes={"margins": margins_S.tolist(), "changed": changed_share(margins_S[-1], margins_S[:-1])},
    )


@baseline(
    question="Does a mistake in a step reach the answer?",
    edits="a step states another value; the model rewrites the steps after it",
    cost="1 + n × `mistakes`",
    reference=LANHAM,
)
def adding_mistakes(model: ModelLike, transcript: Transcript, *, seed: int = 0, mistakes: int = 2) -> Score:
    """Return how far the answer's margin falls after a mistake in a step, from which the model goes on.

    Each step in turn states up to `mistakes` other values. All tokens of steps after the mistake are rewritten greedily,
    as many as there were; other segments are kept. In the paper another model writes the mistakes, and changed
    answers are counted (`notes["changed"]`).
    """
    runs, rng = TranscriptRuns(model, transcript), np.random.default_rng(seed)
    names, rows, rewrite = [], [runs.copies(1)], [torch.zeros_like(runs.step_mask_P)[None]]
    for name in runs.stated_steps():
        edited_NP = runs.with_values(name, runs.other_values(name, mistakes, rng))
        after_P = runs.step_mask_P & runs.from_position(runs.tokens.value_spans[name][1])
        names += [name] * len(edited_NP)
        rows.append(edited_NP)
        rewrite.append(after_P.expand(len(edited_NP), -1))
    _, logits_BTV = runs.rewritten(torch.cat(rows), torch.cat(rewrite))
    return _score_of_edits(runs, names, runs.answer.margins(logits_BTV))


@baseline(
    question="Do positions alone give the answer, whatever words stand there?",
    edits="all tokens of the steps become a filler token",
    cost="2 + n",
    reference=LANHAM,
)
def filler_tokens(model: ModelLike, transcript: Transcript, *, seed: int = 0, filler: str | None = None) -> Score:
    """Return how far the answer's margin falls when all steps are filler, of equal length; `steps` of each step alone.

    Args:
        model: a model.
        transcript: a transcript with steps, an answer and values.
        seed: unused; nothing is random.
        filler: text of one token. By default " ...", as in the paper, or " _", the first that the tokenizer has as one token;
            if it has neither, the most frequent token of the prompt that belongs to no value.
    """
    runs = TranscriptRuns(model, transcript)
    token = filler_token(runs, filler)
    fill_BP = torch.stack([runs.step_mask_P, *(runs.positions([span]) for span in runs.steps.values())])
    rows_BP = torch.where(fill_BP, token, runs.copies(len(fill_BP)))
    margins_B = runs.answer.margins(runs.answer_logits(torch.cat([runs.copies(1), rows_BP])))
    drops_B = relative_drop(margins_B[0], margins_B[1:])
    return Score(
        value=drops_B[0].item(),
        steps=dict(zip(runs.steps, drops_B[1:].tolist(), strict=True)),
        passes=runs.passes,
        notes={"filler": model.tokenizer.decode_token(token), "changed": changed_share(margins_B[0], margins_B[1:2])},
    )


@baseline(
    question="Is the answer the same when the steps are said in other words?",
    edits="the steps are those of a paraphrase",
    cost="1 + paraphrases, by their length",
    reference=LANHAM,
    needs=("paraphrases=",),
)
def paraphrase(
    model: ModelLike,
    transcript: Transcript,
    *,
    seed: int = 0,
    paraphrases: Transcript | Sequence[Transcript] | None = None,
) -> Score:
    """Return minus the fall of the answer's margin when the steps are paraphrased: 0 if meaning alone counts.

    A low value says that something else than the meaning of the steps carries the answer. Paraphrases are whole
    transcripts of the same question and answer, of any length.

    Raises ArgumentError without paraphrases, and for one that states another answer.
    """
    given = [paraphrases] if isinstance(paraphrases, Transcript) else list(paraphrases or [])
    if not given:
        raise ArgumentError(
            "paraphrase needs paraphrases: pass `paraphrases=`, transcripts with the steps in other words"
        )
    runs, others = TranscriptRuns(model, transcript), [TranscriptRuns(model, each) for each in given]
    if any(other.answer.said != runs.answer.said for other in others):
        raise ArgumentError(
            "a paraphrase states another answer than the transcript: change the words of the steps only"
        )
    margins = [each.answer.margins(each.answer_logits(each.copies(1)))[0] for each in [runs, *others]]
    drops = relative_drop(margins[0], torch.stack(margins[1:]))
    passes = sum(each.tokens_run for each in [runs, *others]) / len(runs.ids_P)
    return Score(
        value=-drops.mean().item(),
        passes=passes,
        notes={"drops": drops.tolist(), "changed": changed_share(margins[0], torch.stack(margins[1:]))},
    )


@baseline(
    question="Does the answer follow a stated value that is changed?",
    edits="all values in the steps move on together, or one step states another value; later steps are kept",
    cost="1 + `edits` × (n + 1)",
    reference="[Lanham et al. 2023](https://arxiv.org/abs/2307.13702); [Paul et al. 2024](https://arxiv.org/abs/2402.13950)",
)
def counterfactual_edit(
    model: ModelLike,
    transcript: Transcript,
    *,
    seed: int = 0,
    edits: int = 2,
    chains: Sequence[Transcript] = (),
) -> Score:
    """Return how far the answer's margin falls when the steps state other values and the question is kept.

    The value comes from rows in which every value in the steps is another one; `steps` from rows in which a single step
    states another value and later steps are kept.

    Args:
        model: a model.
        transcript: a transcript with steps, an answer and values.
        seed: draws the other values.
        edits: rows for all steps together, and for each step.
        chains: transcripts with other steps of equal length and the answer that these imply. Their steps then replace
            those of the transcript, and the value is how far the answer moves towards the implied one, in units of its
            lead: 1 is level, 2 reversed. `notes["followed"]` is the share of chains whose answer wins.
    """
    runs, rng = TranscriptRuns(model, transcript), np.random.default_rng(seed)
    joint_NP = replaced_spans(runs, model, chains, list(runs.steps), "chains") if chains else None
    if joint_NP is None:
        joint_NP = runs.with_shifted_values(list(runs.steps.values()), edits, rng)
    names, rows = [], [runs.copies(1), joint_NP]
    for name in runs.stated_steps():
        rows.append(runs.with_values(name, runs.other_values(name, edits, rng)))
        names += [name] * len(rows[-1])
    logits_BTV = runs.answer_logits(torch.cat(rows))
    n_joint = len(joint_NP)
    margins_B = runs.answer.margins(logits_BTV)
    score = _score_of_edits(runs, names, torch.cat([margins_B[:1], margins_B[1 + n_joint :]]))
    joint_N = relative_drop(margins_B[0], margins_B[1 : 1 + n_joint])
    notes: dict[str, Any] = {**score.notes, "changed": changed_share(margins_B[0], margins_B[1 : 1 + n_joint])}
    if chains:
        joint_N, notes["followed"] = _moved_to_implied(runs, model, chains, logits_BTV[: 1 + n_joint])
    return Score(joint_N.mean().item(), score.steps, runs.passes, notes)


@baseline(
    question="How much of the margin does a corrupted step take away?",
    edits="one step states another value; later steps are removed",
    cost="mean length of the cut prompts, 1 + n × `edits` rows",
    reference="NLDD, [Ye et al. 2026](https://arxiv.org/abs/2602.11201)",
)
def nldd(model: ModelLike, transcript: Transcript, *, seed: int = 0, edits: int = 2) -> Score:
    """Return the normalised logit difference decay in percent, averaged over steps.

    A logit difference LD is the answer's logit minus the best logit of the vocabulary besides it, divided by the standard
    deviation of all logits, averaged over the answer's tokens. A step's decay is 100 (LD_clean − LD_corrupt) / |LD_clean|,
    where the corrupted prompt ends with the corrupted step. A corrupted step states another value, drawn at random; the
    paper corrupts by rules of its tasks.
    """
    runs, rng = TranscriptRuns(model, transcript), np.random.default_rng(seed)
    everything_P = torch.ones_like(runs.step_mask_P)
    names, rows, keep = [], [runs.copies(1)], [everything_P[None]]
    for name in runs.stated_steps():
        edited_NP = runs.with_values(name, runs.other_values(name, edits, rng))
        later = [span for span in runs.steps.values() if span[0] >= runs.steps[name][1]]
        names += [name] * len(edited_NP)
        rows.append(edited_NP)
        keep.append((~runs.positions(later)).expand(len(edited_NP), -1))
    rows_BP, lengths_B = runs.kept_lengths(torch.cat(keep), torch.cat(rows))
    difference_B = standardized_differences(runs, runs.answer_logits(rows_BP, lengths_B=lengths_B))
    decays_B = 100 * (difference_B[0] - difference_B[1:]) / difference_B[0].abs().clamp(min=1e-6)
    steps = means_by_name(names, decays_B)
    return Score(float(np.mean(list(steps.values()))), steps, runs.passes, {"clean": difference_B[0].item()})


def standardized_differences(runs: TranscriptRuns, logits_BTV: Tensor) -> Tensor:
    """Return (B,): the answer's logit minus the best other one, over the standard deviation of logits, mean over tokens."""
    said_T = torch.tensor(runs.answer.said, device=logits_BTV.device)
    index_BT1 = said_T.expand(len(logits_BTV), -1)[..., None]
    best_BT = logits_BTV.scatter(-1, index_BT1, float("-inf")).amax(-1)
    return ((logits_BTV.gather(-1, index_BT1)[..., 0] - best_BT) / logits_BTV.std(-1)).mean(-1)


def _moved_to_implied(
    runs: TranscriptRuns, model: ModelLike, chains: Sequence[Transcript], logits_BTV: Tensor
) -> tuple[Tensor, float]:
    """Return how far each chain's answer rises against the transcript's, in units of its lead, and the share that wins."""
    implied = [implied_value(runs, model, chain, "chains") for chain in chains]
    leads_BR = runs.answer.leads(logits_BTV)
    clean_N = leads_BR[0, implied]
    edited_N = leads_BR[torch.arange(1, len(leads_BR)), implied]
    return relative_drop(-clean_N, -edited_N), (edited_N > 0).float().mean().item()


def _score_of_edits(runs: TranscriptRuns, names: Sequence[str], margins_B: Tensor) -> Score:
    """Return the score of edited rows, each of the step of its name; the first margin is that without edits."""
    steps = means_by_name(names, relative_drop(margins_B[0], margins_B[1:]))
    notes = {"clean": margins_B[0].item(), "changed": changed_share(margins_B[0], margins_B[1:])}
    return Score(float(np.mean(list(steps.values()))), steps, runs.passes, notes)

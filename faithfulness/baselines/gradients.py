"""Gradient × input, and attribution of spans to earlier spans, multiplied down."""

from torch import Tensor

from ..model_like import ModelLike
from ..runs import TranscriptRuns, ValueTarget
from ..transcripts import Transcript
from .attention import share_of_steps
from .registry import Score, baseline


@baseline(
    question="Do gradients attribute the answer to the steps?",
    edits="nothing; gradients of the answer's margin",
    cost="3",
    reference="[Simonyan et al. 2014](https://arxiv.org/abs/1312.6034); [Shrikumar et al. 2016](https://arxiv.org/abs/1605.01713)",
    reads="activations",
)
def gradient_x_input(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the steps' share of |gradient × (embedding − mean embedding)|, over tokens of question, hint and steps.

    The gradient is that of the answer's margin. The mean embedding of the vocabulary is subtracted, because the product with
    the embedding itself vanishes for tokens that are read only through RMSNorm, which ignores their scale.
    """
    runs = TranscriptRuns(model, transcript)
    return share_of_steps(runs, _attributions(runs, [runs.answer])[0].abs())


@baseline(
    question="Do attributions lead from the answer back through every step?",
    edits="nothing; gradients of the margins of the answer and of each step's value",
    cost="3 (n + 1)",
    reference="gradient × input applied from span to span, as in [FlashTrace](https://arxiv.org/abs/2602.01914)",
    reads="activations",
)
def recursive_attribution(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the share of the answer's attribution that passes through a step, averaged over steps.

    `gradient_x_input` attributes the answer to question, hint and steps, and each step's value to question, hint and
    earlier steps, as shares that add up to 1. A step's weight is what the answer and later steps give it, each times its
    own weight; the answer's is 1. A step without value passes its weight to nothing earlier.
    """
    runs = TranscriptRuns(model, transcript)
    _ = runs.question_mask_P  # refuses a transcript without question
    targets = [runs.answer, *(runs.target(name) for name in runs.stated_steps())]
    attributions_NP = _attributions(runs, targets).abs()
    spans = {**runs.questions, **runs.steps}
    rows = {t.name: _span_shares(runs, spans, t, attributions_NP[i]) for i, t in enumerate(targets)}
    weights = dict.fromkeys(spans, 0.0)
    for name in [runs.answer.name, *sorted(runs.steps, key=lambda name: -runs.steps[name][0])]:
        weight = 1.0 if name == runs.answer.name else weights[name]
        for earlier, share in rows.get(name, {}).items():
            weights[earlier] += weight * share
    steps = {name: weights[name] for name in runs.steps}
    value = sum(steps.values()) / len(steps)
    return Score(value, steps, runs.passes, {"shares": rows})


def _attributions(runs: TranscriptRuns, targets: list[ValueTarget]) -> Tensor:
    """Return gradient × (embedding − mean embedding) of every token on each target's margin, (N, P)."""
    inputs_PD = runs.weights.embed(runs.ids_P) - runs.weights.mean_embedding_D
    return (runs.margin_gradients(targets) * inputs_PD).sum(-1)


def _span_shares(
    runs: TranscriptRuns, spans: dict[str, tuple[int, int]], target: ValueTarget, weight_P: Tensor
) -> dict[str, float]:
    """Return the share of each span that ends before a target's segment."""
    first = runs.tokens.spans[target.name][0]
    sums = {name: weight_P[start:stop].sum().item() for name, (start, stop) in spans.items() if stop <= first}
    total = sum(sums.values())
    return {name: each / total for name, each in sums.items()} if total > 0 else {}

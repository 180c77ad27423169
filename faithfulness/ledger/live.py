"""Score a transcript without edits: how much each stated value depends on earlier ones.

The embeddings of stated values move together from the mean of their kind to the real ones; question and words stay, and
everything responds. `LiveEffects` has what each value contributes to each later one on the way. The score follows these
contributions down from the answer: a mass of 1 starts there, and every statement passes on the part of its mass that depends
on earlier values.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.effects.config import EffectsConfig
from cotrace.attribution.effects.integrate import end_points, integrate_inputs
from cotrace.attribution.models.memory import out_of_memory
from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

from .prompt import StatedPrompt

POINTS = 4  # with 8, the agreement with truth on organisms was the same
TABLE = pa.schema(
    [
        pa.field("target", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("effect", pa.float64(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
    ]
)
LIVE = EffectsConfig(freeze="none", integrate="inputs")


@dataclass(frozen=True)
class LiveEffects:
    """Contributions of earlier stated values to each stated value.

    Attributes:
        names: the K segments that state a value, in order.
        content_KK: contributions of the tokens of value j to target k, [k, j]; zero unless j is earlier.
        own_K: contributions of a value's own first tokens, if the target is read at a later token; not included in shares.
        contrast_K: the targets at the prompt: the logit of each value minus the mean logit of its alternatives.
        change_K: by how much each target is larger at the prompt than at the means, in logits, as all of the above.
        forward_passes: forward passes over the prompt, the one of the prompt itself included.
        backward_passes: backward passes, each of all targets together.
    """

    names: list[str]
    content_KK: np.ndarray
    own_K: np.ndarray
    contrast_K: np.ndarray
    change_K: np.ndarray
    forward_passes: int
    backward_passes: int

    def __repr__(self) -> str:
        return f"<LiveEffects on {', '.join(self.names)}>"

    @property
    def remainder_K(self) -> np.ndarray:
        """The part of each target's change that contributions miss, over its contrast, (K,): the error of the integration."""
        return _over(self._fall_K - self.content_KK.sum(1), self.contrast_K)

    @property
    def shares(self) -> np.ndarray:
        """The part of each target that depends on each earlier value, (K, K): strictly lower triangular, row sums at most 1.

        The part of its contrast that a target loses at the means, from 0 to 1, is divided among earlier values in proportion to
        their absolute contributions. A value that the model does not prefer, with a contrast of 0 or less, has a row of zeros.
        """
        size_KK = np.abs(self.content_KK)
        part_KK = size_KK / np.maximum(size_KK.sum(1), np.finfo(float).tiny)[:, None]
        return part_KK * _over(self._fall_K, self.contrast_K).clip(0, 1)[:, None]

    @property
    def _fall_K(self) -> np.ndarray:
        """The loss of each target at the means of earlier values, less the part of its first tokens, (K,) in logits."""
        return self.change_K - self.own_K

    @property
    def table(self) -> pa.Table:
        """A row for each target and earlier value: target, source, effect and share."""
        share_KK = self.shares
        rows = [
            (target, source, self.content_KK[k, j], share_KK[k, j])
            for k, target in enumerate(self.names)
            for j, source in enumerate(self.names[:k])
        ]
        return pa.Table.from_pylist([dict(zip(TABLE.names, row, strict=True)) for row in rows], TABLE)


def _over(part_K: np.ndarray, whole_K: np.ndarray) -> np.ndarray:
    """Return quotients; 0 where the whole is not positive."""
    return np.divide(part_K, whole_K, out=np.zeros(len(whole_K)), where=whole_K > 0)


@dataclass(frozen=True)
class LiveScore:
    """How much the stated steps mediate the last stated value, without edits.

    Attributes:
        value: the part of the last stated value that depends on earlier ones, 0 to 1.
        steps: for each earlier one, the mass that passes through it, 0 to 1.
        mirrors: for each stated value that the model favours, the part that depends on no earlier one, 0 to 1. A value
            with a contrast of 0 or less is left out.
        effects: the contributions.
    """

    value: float
    steps: dict[str, float]
    mirrors: dict[str, float]
    effects: LiveEffects


@torch.no_grad()
@out_of_memory("shorten the prompt, or set memory=")
def compute_live_effects(prompt: StatedPrompt, points: int = POINTS) -> LiveEffects:
    """Return the contributions of stated values to each later stated value.

    Takes `points` forward passes with that of the prompt, and as many backward passes of all targets together.

    Args:
        prompt: the transcript in a model.
        points: points of the integration, both ends included; at least 2.

    Raises:
        ArgumentError: less than 2 points.
        ResourceError: too little memory.
    """
    if as_index(points, "points") < 2:
        raise ArgumentError(f"points is {points}: both ends of the path are points, so use at least 2")
    targets = [contrast.target(prompt.weights) for contrast in prompt.contrasts]
    found = integrate_inputs(
        prompt.source,
        targets,
        LIVE,
        mean_embeddings(prompt),
        columns_at_once=prompt.columns_at_once,
        points=end_points(points),
    )
    spans = [slice(*prompt.tokens.value_spans[name]) for name in prompt.names]
    written_KK = np.column_stack([found.effect_KS[:, span].sum(1) for span in spans])
    content_KK, own_K = np.tril(written_KK, -1), np.diagonal(written_KK)
    contrast_K = prompt.values_of(targets)
    return LiveEffects(prompt.names, content_KK, own_K, contrast_K, found.value_K, points, points)


def compute_live_score(prompt: StatedPrompt, points: int = POINTS) -> LiveScore:
    """Return the score of a transcript from live effects. Arguments and errors are those of `compute_live_effects`.

    Raises ArgumentError also for a transcript of a single stated value.
    """
    if len(prompt.names) < 2:
        raise ArgumentError(
            f"only {prompt.names[0]!r} states a value: a score needs an earlier one, give steps `value=`"
        )
    effects = compute_live_effects(prompt, points)
    share_KK = effects.shares
    mass_K = chained_mass(share_KK).clip(max=1)  # sums of shares can exceed 1 by rounding
    steps = dict(zip(effects.names[:-1], mass_K[:-1].tolist(), strict=True))
    rest_K = (1 - share_KK.sum(1)).clip(0, 1).tolist()
    favoured = zip(effects.names, rest_K, effects.contrast_K.tolist(), strict=True)
    mirrors = {name: rest for name, rest, contrast in favoured if contrast > 0}
    return LiveScore(float(share_KK[-1].sum().clip(max=1)), steps, mirrors, effects)


def chained_mass(share_KK: np.ndarray) -> np.ndarray:
    """Return the mass that passes through each statement if one unit starts at the last one, (K,).

    Each statement k hands its mass to earlier ones by `share_KK[k]`, whose sum is at most 1. The mass of j is the sum over
    all chains from the last statement to j of the products of their shares.
    """
    mass_K = np.zeros(len(share_KK))
    mass_K[-1] = 1.0
    for k in reversed(range(len(share_KK))):
        mass_K[:k] += mass_K[k] * share_KK[k, :k]
    return mass_K


def mean_embeddings(prompt: StatedPrompt) -> Tensor:
    """Return the embeddings where the path starts, (P, D): those of the prompt, with means in place of stated values.

    Token i of a value has the mean embedding of the tokens i of the value and its alternatives of as many tokens; without
    any, the mean of the vocabulary.
    """
    weights, tokens = prompt.weights, prompt.tokens
    means_PD = weights.embed(prompt.ids_P).clone()
    for name in prompt.names:
        said, (start, stop) = tokens.value_ids(name), tokens.value_spans[name]
        kind = [value for value in tokens.foils(name) if len(value) == len(said)]
        if kind:
            kind_AT = torch.tensor([said, *kind], device=means_PD.device)
            means_PD[start:stop] = weights.embed(kind_AT).mean(0)[: len(means_PD) - start]
        else:
            means_PD[start:stop] = weights.mean_embedding_D
    return means_PD

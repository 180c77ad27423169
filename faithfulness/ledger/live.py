"""Effects of written values in the live model, and a score of a transcript that makes no edit.

Embeddings of question, hint and stated values move together from means of their kind to the real ones; everything responds.
`LiveEffects` says what each group contributes to each stated value. The score follows these contributions down from the
answer: a unit of mass starts there, and at every statement is divided among what its value was computed from.
"""

from collections.abc import Mapping
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

from .layout import HINT, QUESTION, ROUTED
from .prompt import StatedPrompt

POINTS = 8
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
    """Contributions of question, hint and earlier stated values to each stated value.

    Attributes:
        names: the K segments that state a value, in order.
        content_KK: contributions of the tokens of value j to target k, [k, j]; zero unless j is earlier.
        given_K: the same of all tokens of question and hint, by role; roles that the transcript lacks are left out.
        own_K: contributions of a value's own first tokens, where the margin is read at a later one; no part of shares.
        change_K: by how much each target is larger at the prompt than at the means.
        forward_passes: forward passes over the prompt, the one of the prompt itself included.
        backward_passes: backward passes, each of all targets together.
    """

    names: list[str]
    content_KK: np.ndarray
    given_K: Mapping[str, np.ndarray]
    own_K: np.ndarray
    change_K: np.ndarray
    forward_passes: int
    backward_passes: int

    def __repr__(self) -> str:
        return f"<LiveEffects on {', '.join(self.names)}>"

    @property
    def remainder_K(self) -> np.ndarray:
        """The part of each target's change that contributions lack, over the sum of their sizes: the average's error."""
        parts = np.column_stack([self.content_KK, *self.given_K.values(), self.own_K])
        size_K = np.abs(parts).sum(1)
        return np.divide(self.change_K - parts.sum(1), size_K, out=np.zeros(len(size_K)), where=size_K > 0)

    @property
    def shares(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Absolute contributions over their sum, a row for each target: of stated values (K, K), and of each role (K,)."""
        size_K = np.abs(np.column_stack([self.content_KK, *self.given_K.values()])).sum(1)
        scale_K = np.divide(1.0, size_K, out=np.zeros(len(size_K)), where=size_K > 0)
        given = {role: np.abs(effect_K) * scale_K for role, effect_K in self.given_K.items()}
        return np.abs(self.content_KK) * scale_K[:, None], given

    @property
    def table(self) -> pa.Table:
        """A row for each target and source: target, source (a segment's name or a role), effect and share."""
        content_KK, given = self.shares
        rows = []
        for k, target in enumerate(self.names):
            for j, source in enumerate(self.names[:k]):
                rows.append((target, source, self.content_KK[k, j], content_KK[k, j]))
            rows += [(target, role, self.given_K[role][k], given[role][k]) for role in given]
        return pa.Table.from_pylist([dict(zip(TABLE.names, row, strict=True)) for row in rows], TABLE)


@dataclass(frozen=True)
class LiveScore:
    """The share that the stated steps carry to the last stated value, without edits.

    Attributes:
        value: the share of the last stated value that comes from earlier ones, 0 to 1.
        steps: for each of these, the mass that passes through it, 0 to 1.
        effects: the contributions.
    """

    value: float
    steps: dict[str, float]
    effects: LiveEffects


@torch.no_grad()
@out_of_memory("shorten the prompt, or set memory=")
def compute_live_effects(prompt: StatedPrompt, points: int = POINTS) -> LiveEffects:
    """Return the contributions of question, hint and stated values to each stated value.

    Takes `points` forward passes with that of the prompt, and as many backward passes of all targets together.

    Args:
        prompt: the transcript in a model.
        points: points of the integration, both ends included; at least 2.

    Raises:
        ArgumentError: fewer points.
        ResourceError: too little memory.
    """
    if as_index(points, "points") < 2:
        raise ArgumentError(f"points is {points}: both ends of the path are points, so use at least 2")
    found = integrate_inputs(
        prompt.source,
        prompt.targets,
        LIVE,
        mean_embeddings(prompt),
        columns_at_once=prompt.columns_at_once,
        points=end_points(points),
    )
    spans = [slice(*prompt.tokens.value_spans[name]) for name in prompt.names]
    written_KK = np.column_stack([found.effect_KS[:, span].sum(1) for span in spans])
    given = {role: found.effect_KS[:, positions].sum(1) for role in ROUTED if (positions := prompt.positions_of(role))}
    content_KK, own_K = np.tril(written_KK, -1), np.diagonal(written_KK)
    return LiveEffects(prompt.names, content_KK, given, own_K, found.value_K, points, points)


def compute_live_score(prompt: StatedPrompt, points: int = POINTS) -> LiveScore:
    """Return the score of a transcript from live effects. Arguments and errors are those of `compute_live_effects`.

    Raises ArgumentError also for a transcript of a single stated value.
    """
    if len(prompt.names) < 2:
        raise ArgumentError(
            f"only {prompt.names[0]!r} states a value: a score needs an earlier one, give steps `value=`"
        )
    effects = compute_live_effects(prompt, points)
    content_KK, _ = effects.shares
    mass_K = chained_mass(content_KK)
    steps = dict(zip(effects.names[:-1], mass_K[:-1].tolist(), strict=True))
    return LiveScore(float(content_KK[-1].sum()), steps, effects)


def chained_mass(share_KK: np.ndarray) -> np.ndarray:
    """Return the mass that passes through each statement if one unit starts at the last one, (K,).

    Each statement k hands its mass to earlier ones by `share_KK[k]`, whose sum is at most 1; what remains goes to question
    and hint. The mass of j is the sum over all chains from the last statement to j of the products of their shares.
    """
    mass_K = np.zeros(len(share_KK))
    mass_K[-1] = 1.0
    for k in reversed(range(len(share_KK))):
        mass_K[:k] += mass_K[k] * share_KK[k, :k]
    return mass_K


def mean_embeddings(prompt: StatedPrompt) -> Tensor:
    """Return the embeddings where the path starts, (P, D).

    A token of the alternatives, in question, hint and stated values, has the mean embedding of the alternatives' tokens; other
    tokens of question, hint and values have the mean embedding of the vocabulary; the rest of the prompt stays.
    """
    weights, ids_P = prompt.weights, prompt.ids_P
    moved_P = torch.zeros(len(ids_P), dtype=torch.bool, device=ids_P.device)
    for role in (QUESTION, HINT):
        moved_P[prompt.positions_of(role)] = True
    for name in prompt.names:
        moved_P[slice(*prompt.tokens.value_spans[name])] = True
    kind = sorted({token for value in prompt.tokens.alternatives for token in value})
    kind_V = torch.tensor(kind, dtype=torch.long, device=ids_P.device)
    means_PD = weights.embed(ids_P).clone()
    means_PD[moved_P] = weights.mean_embedding_D
    if len(kind) > 1:
        means_PD[moved_P & torch.isin(ids_P, kind_V)] = weights.embed(kind_V).mean(0)
    return means_PD

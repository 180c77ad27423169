"""Targets: what the traced paths end in, and how much each counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError

from .activations import ActiveFeatures
from .config import TraceConfig
from .replacement import LocalReplacementModel


@dataclass(frozen=True)
class Target:
    """One target. A feature target is a feature's own row; every other one adds a row of its own."""

    kind: str  # "token", "difference", "direction" or "feature"
    label: str
    token_ids: tuple[int, ...] = ()
    direction_D: Tensor | None = None  # read at the unembedding's input; of tokens, filled in later
    site: tuple[int, int, int] | None = None  # of a feature: layer, position, feature
    feature: int | None = None  # number of the active feature
    position: int | None = None  # where it is read
    probability: float | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class TargetRequest:
    """Targets as they were asked for: checked before anything is computed, and found in the prompt afterwards.

    Without `named`, every position has the token that comes next (`what` is "next") or its likeliest
    tokens ("likeliest").
    """

    what: str
    named: tuple[Target, ...]
    positions: tuple[int, ...]
    token_ids: tuple[int, ...]
    tokenizer: PromptTokenizer
    max_targets: int
    target_mass: float

    @classmethod
    def parse(
        cls, targets: Any, options: TraceConfig, token_ids: Sequence[int], tokens: PromptTokenizer, d_model: int
    ) -> "TargetRequest":
        """Read what `Model.trace` takes. Raises ValueError for what cannot be a target, and where it cannot be read."""
        positions = options.target_positions(len(token_ids))
        what = "likeliest" if targets is None else "next" if isinstance(targets, str) and targets == "next" else "named"
        if what == "next" and positions[-1] + 1 == len(token_ids):
            raise CotraceError(
                f'nothing follows position {positions[-1]}, the last of the prompt: targets="next" needs others'
            )
        named = parse_targets(targets, tokens, d_model) if what == "named" else ()
        likeliest = options.max_targets, options.target_mass
        return cls(what, tuple(named), tuple(positions), tuple(token_ids), tokens, *likeliest)

    @property
    def most_rows(self) -> int:
        """Rows of their own that the targets have together, at most."""
        of_position = {"next": 1, "likeliest": self.max_targets, "named": sum(t.site is None for t in self.named)}
        return len(self.positions) * of_position[self.what]

    @property
    def named_features(self) -> int:
        """Targets that are features, whose rows are their own."""
        return sum(target.site is not None for target in self.named)

    def resolve(self, replacement: LocalReplacementModel) -> list[Target]:
        """All targets with directions, probabilities and weights that sum to 1: features, then by position.

        Weights are the probabilities for the likeliest and for named tokens, equal for all else. Raises
        ValueError for a feature that is not active.
        """
        found = [_find(target, replacement.features) for target in self.named if target.site is not None]
        for position in self.positions:
            logits_V = replacement.weights.logits(replacement.final_resid_PD[[position]])[0]
            probability_V = torch.softmax(logits_V.double(), dim=-1)
            here = (_resolve(target, replacement.weights, probability_V) for target in self._at(position, logits_V))
            found += [replace(target, position=position) for target in here]
        if self.what == "next":
            found = [replace(target, weight=1.0) for target in found]
        total = sum(target.weight for target in found)
        if total == 0:
            raise CotraceError("the targets' probabilities underflow to 0; trace the difference of two tokens instead")
        return [replace(target, weight=target.weight / total) for target in found]

    def _at(self, position: int, logits_V: Tensor) -> list[Target]:
        """The targets of a position that add a row of their own."""
        if self.what == "next":
            return [_token(self.token_ids[position + 1], self.tokenizer)]
        if self.what == "likeliest":
            return most_likely(logits_V, self.tokenizer, self.max_targets, self.target_mass)
        return [target for target in self.named if target.site is None]


def parse_targets(requests: Sequence[Any], tokens: PromptTokenizer, d_model: int) -> list[Target]:
    """Read explicit targets: token, pair of tokens, direction (D,), ("feature", layer, position, id).

    Needs the tokenizer only, so that mistakes show before anything is computed. Raises ValueError
    for anything else, texts that are not one token, duplicates and directions of the wrong shape.
    """
    if not isinstance(requests, list | tuple):
        raise CotraceError('targets is a list, or "next"; write targets=[…], also for one target')
    targets = [_parse(request, tokens, d_model) for request in requests]
    if not targets:
        raise CotraceError("targets is empty; name at least one, or leave it out for the likeliest tokens")
    named = [(t.kind, t.token_ids, t.site) for t in targets if t.kind != "direction"]
    if len(set(named)) < len(named):
        raise CotraceError("a target is named twice; name each once")
    return targets


def _parse(request: Any, tokens: PromptTokenizer, d_model: int) -> Target:
    if isinstance(request, Tensor | np.ndarray) and request.ndim > 0:
        return _direction(torch.as_tensor(request), d_model)
    if isinstance(request, tuple | list):
        if len(request) == 4 and request[0] == "feature":
            layer, position, feature = (as_index(part, "a part of a feature target") for part in request[1:])
            return Target("feature", f"L{layer} #{feature} @{position}", site=(layer, position, feature))
        if len(request) == 2:
            return _difference(tokens.token_id(request[0]), tokens.token_id(request[1]), tokens)
    elif isinstance(request, str) or hasattr(request, "__index__"):
        return _token(tokens.token_id(request), tokens)
    raise CotraceError(
        f"cannot read the target {request!r}: use a token (text or id), a pair of tokens, a direction of shape "
        '(D,), or ("feature", layer, position, id)'
    )


def _token(token: int, tokens: PromptTokenizer) -> Target:
    return Target("token", tokens.decode_token(token), token_ids=(token,))


def _difference(first: int, second: int, tokens: PromptTokenizer) -> Target:
    if first == second:
        raise CotraceError(
            f"the difference of {tokens.decode_token(first)!r} and itself is zero; name two different tokens"
        )
    return Target(
        "difference", f"{tokens.decode_token(first)} − {tokens.decode_token(second)}", token_ids=(first, second)
    )


def _direction(direction_D: Tensor, d_model: int) -> Target:
    if direction_D.shape != (d_model,):
        raise CotraceError(f"a direction has shape {tuple(direction_D.shape)} and the model's width is ({d_model},)")
    if not direction_D.isfinite().all() or not direction_D.any():
        raise CotraceError("a direction is zero, or has NaN or infinite values; give a finite direction")
    return Target("direction", "direction", direction_D=direction_D)


def most_likely(logits_V: Tensor, tokens: PromptTokenizer, max_targets: int, target_mass: float) -> list[Target]:
    """The likeliest tokens that together reach `target_mass`, at most `max_targets`."""
    probability, ids = torch.softmax(logits_V.double(), dim=-1).topk(min(max_targets, len(logits_V)))
    reached = int(torch.searchsorted(probability.cumsum(0), target_mass)) + 1
    return [_token(token, tokens) for token in ids[:reached].tolist()]


def _resolve(target: Target, weights: Gemma3, probability_V: Tensor) -> Target:
    if target.direction_D is not None:
        return replace(target, direction_D=target.direction_D.to(weights.device, weights.dtype))
    rows = weights.unembedding(torch.tensor(target.token_ids, device=weights.device))
    if target.kind == "difference":
        return replace(target, direction_D=rows[0] - rows[1])
    probability = float(probability_V[target.token_ids[0]])
    centred_D = rows[0] - weights.mean_unembedding_D
    return replace(target, direction_D=centred_D, probability=probability, weight=probability)


def _find(target: Target, features: ActiveFeatures) -> Target:
    assert target.site is not None
    layer, position, feature = target.site
    number = features.find(layer, position, feature)
    if number is None:
        raise CotraceError(
            f"feature {feature} of layer {layer} is not active at position {position}; "
            "model.active_features(prompt) lists those that are"
        )
    return replace(target, feature=number, position=position)

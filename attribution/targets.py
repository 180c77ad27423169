"""Targets: what the traced paths end in, and how much each counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .replacement import Features
from .tokens import Tokens, as_index
from .weights import Gemma3Weights


@dataclass(frozen=True)
class Target:
    """One target. A feature target is a feature's own row; every other one adds a row of its own."""

    kind: str  # "token", "difference", "direction" or "feature"
    label: str
    token_ids: tuple[int, ...] = ()
    direction_D: Tensor | None = None  # read at the unembedding's input; of tokens, filled in later
    site: tuple[int, int, int] | None = None  # of a feature: layer, position, feature
    feature: int | None = None  # number of the active feature
    probability: float | None = None
    weight: float = 1.0


def parse_targets(requests: Sequence[Any], tokens: Tokens, d_model: int) -> list[Target]:
    """Read explicit targets: token, pair of tokens, direction (D,), ("feature", layer, position, id).

    Needs the tokenizer only, so that mistakes show before anything is computed. Raises ValueError
    for anything else, texts that are not one token, duplicates and directions of the wrong shape.
    """
    if not isinstance(requests, list | tuple):
        raise ValueError("targets is a list; write targets=[…], also for one target")
    targets = [_parse(request, tokens, d_model) for request in requests]
    if not targets:
        raise ValueError("targets is empty; name at least one, or leave it out for the likeliest tokens")
    named = [(t.kind, t.token_ids, t.site) for t in targets if t.kind != "direction"]
    if len(set(named)) < len(named):
        raise ValueError("a target is named twice; name each once")
    return targets


def _parse(request: Any, tokens: Tokens, d_model: int) -> Target:
    if isinstance(request, Tensor | np.ndarray) and request.ndim > 0:
        return _direction(torch.as_tensor(request), d_model)
    if isinstance(request, tuple | list):
        if len(request) == 4 and request[0] == "feature":
            layer, position, feature = (as_index(part, "a part of a feature target") for part in request[1:])
            return Target("feature", f"L{layer} #{feature} @{position}", site=(layer, position, feature))
        if len(request) == 2:
            return _difference(tokens.single(request[0]), tokens.single(request[1]), tokens)
    elif isinstance(request, str) or hasattr(request, "__index__"):
        return _token(tokens.single(request), tokens)
    raise ValueError(
        f"cannot read the target {request!r}: use a token (text or id), a pair of tokens, a direction of shape "
        '(D,), or ("feature", layer, position, id)'
    )


def _token(token: int, tokens: Tokens) -> Target:
    return Target("token", tokens.text(token), token_ids=(token,))


def _difference(first: int, second: int, tokens: Tokens) -> Target:
    if first == second:
        raise ValueError(f"the difference of {tokens.text(first)!r} and itself is zero; name two different tokens")
    return Target("difference", f"{tokens.text(first)} − {tokens.text(second)}", token_ids=(first, second))


def _direction(direction_D: Tensor, d_model: int) -> Target:
    if direction_D.shape != (d_model,):
        raise ValueError(f"a direction has shape {tuple(direction_D.shape)} and the model's width is ({d_model},)")
    if not direction_D.isfinite().all() or not direction_D.any():
        raise ValueError("a direction is zero, or has NaN or infinite values; give a finite direction")
    return Target("direction", "direction", direction_D=direction_D)


def most_likely(logits_V: Tensor, tokens: Tokens, max_targets: int, target_mass: float) -> list[Target]:
    """The likeliest tokens that together reach `target_mass`, at most `max_targets`."""
    probability, ids = torch.softmax(logits_V.double(), dim=-1).topk(min(max_targets, len(logits_V)))
    reached = int(torch.searchsorted(probability.cumsum(0), target_mass)) + 1
    return [_token(token, tokens) for token in ids[:reached].tolist()]


def resolve_targets(
    targets: list[Target], weights: Gemma3Weights, features: Features, logits_V: Tensor
) -> list[Target]:
    """Fill in directions, probabilities and weights that sum to 1.

    Weights are the probabilities for tokens and equal for all else. Raises ValueError for a feature
    that is not active.
    """
    probability_V = torch.softmax(logits_V.double(), dim=-1)
    resolved = [_resolve(target, weights, features, probability_V) for target in targets]
    total = sum(target.weight for target in resolved)
    if total == 0:
        raise ValueError("the targets' probabilities underflow to 0; trace the difference of two tokens instead")
    return [replace(target, weight=target.weight / total) for target in resolved]


def _resolve(target: Target, weights: Gemma3Weights, features: Features, probability_V: Tensor) -> Target:
    if target.site is not None:
        return replace(target, feature=_active(features, *target.site))
    if target.direction_D is not None:
        return replace(target, direction_D=target.direction_D.to(weights.device, weights.dtype))
    rows = weights.unembedding(torch.tensor(target.token_ids, device=weights.device))
    if target.kind == "difference":
        return replace(target, direction_D=rows[0] - rows[1])
    probability = float(probability_V[target.token_ids[0]])
    return replace(
        target, direction_D=rows[0] - weights.mean_unembedding_D, probability=probability, weight=probability
    )


def _active(features: Features, layer: int, position: int, feature: int) -> int:
    number = features.find(layer, position, feature)
    if number is None:
        raise ValueError(
            f"feature {feature} of layer {layer} is not active at position {position}; "
            "model.active_features(prompt) lists those that are"
        )
    return number

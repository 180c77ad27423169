"""Targets: what the traced paths end in, and how much each counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .replacement import Features
from .tokens import Tokens
from .weights import Gemma3Weights


@dataclass(frozen=True)
class Target:
    """One target. A feature target is a feature's own row; every other one adds a row of its own."""

    kind: str  # "token", "difference", "direction" or "feature"
    label: str
    weight: float
    probability: float | None = None
    token_ids: tuple[int, ...] = ()
    direction_D: Tensor | None = None  # read at the unembedding's input
    feature: int | None = None  # number of the active feature


class TargetReader:
    """Turns what the user asked for into targets at one position of the prompt."""

    def __init__(self, weights: Gemma3Weights, tokens: Tokens, features: Features, logits_V: Tensor):
        self._weights, self._tokens, self._features = weights, tokens, features
        self._probability_V = torch.softmax(logits_V.double(), dim=-1)

    def most_likely(self, max_targets: int, target_mass: float) -> list[Target]:
        """The likeliest tokens that together reach `target_mass`, at most `max_targets`."""
        count = min(max_targets, len(self._probability_V))
        probability, ids = self._probability_V.topk(count)
        reached = int(torch.searchsorted(probability.cumsum(0), target_mass)) + 1
        return _normalised([self._token(int(i)) for i in ids[:reached]])

    def read(self, requests: Sequence[Any]) -> list[Target]:
        """Explicit targets: token, pair of tokens, direction (D,), ("feature", layer, position, id).

        Raises ValueError for anything else, texts that are not one token, inactive features,
        duplicates and directions of the wrong shape.
        """
        if not requests:
            raise ValueError("targets is empty; name at least one, or leave it out for the likeliest tokens")
        targets = [self._one(request) for request in requests]
        keys = [(t.kind, t.token_ids, t.feature) for t in targets if t.kind != "direction"]
        if len(set(keys)) < len(keys):
            raise ValueError("a target is named twice; name each once")
        return _normalised(targets)

    def _one(self, request: Any) -> Target:
        if isinstance(request, Tensor) and request.ndim > 0:
            return self._direction(request)
        if isinstance(request, tuple | list):
            if len(request) == 4 and request[0] == "feature":
                return self._feature(*request[1:])
            if len(request) == 2:
                return self._difference(*request)
        elif isinstance(request, str) or (hasattr(request, "__index__") and not isinstance(request, bool)):
            return self._token(self._tokens.single(request if isinstance(request, str) else int(request)))
        raise ValueError(
            f"cannot read the target {request!r}: use a token (text or id), a pair of tokens, a direction of shape "
            '(D,), or ("feature", layer, position, id)'
        )

    def _token(self, token: int) -> Target:
        probability = float(self._probability_V[token])
        row = self._weights.unembedding(torch.tensor([token], device=self._weights.device))[0]
        return Target(
            kind="token",
            label=self._tokens.text(token),
            weight=probability,
            probability=probability,
            token_ids=(token,),
            direction_D=row - self._weights.mean_unembedding_D,
        )

    def _difference(self, first: str | int, second: str | int) -> Target:
        a, b = self._tokens.single(first), self._tokens.single(second)
        if a == b:
            raise ValueError(f"the difference of {self._tokens.text(a)!r} and itself is zero; name two different tokens")
        rows = self._weights.unembedding(torch.tensor([a, b], device=self._weights.device))
        label = f"{self._tokens.text(a)} − {self._tokens.text(b)}"
        return Target("difference", label, 1.0, token_ids=(a, b), direction_D=rows[0] - rows[1])

    def _direction(self, direction: Tensor) -> Target:
        width = self._weights.architecture.d_model
        if direction.shape != (width,):
            raise ValueError(f"a direction has shape {tuple(direction.shape)} and the model's width is ({width},)")
        if not direction.isfinite().all() or not direction.any():
            raise ValueError("a direction is zero, or has NaN or infinite values; give a finite direction")
        return Target("direction", "direction", 1.0, direction_D=direction.to(self._weights.device, self._weights.dtype))

    def _feature(self, layer: int, position: int, feature: int) -> Target:
        number = self._features.find(int(layer), int(position), int(feature))
        if number is None:
            raise ValueError(
                f"feature {feature} of layer {layer} is not active at position {position}; "
                "model.active_features(prompt) lists those that are"
            )
        return Target("feature", f"L{layer} #{feature} @{position}", 1.0, feature=number)


def _normalised(targets: list[Target]) -> list[Target]:
    total = sum(target.weight for target in targets)
    if total == 0:
        raise ValueError("the targets' probabilities underflow to 0; trace the difference of two tokens instead")
    return [Target(**{**vars(target), "weight": target.weight / total}) for target in targets]

"""Targets of a trace: the nodes where paths end, and the weight of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.spelling import warn_of_likelier_spellings
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import Feature, resolve_position

from .activations import ActiveFeatures
from .config import TraceConfig
from .replacement import LocalReplacementModel


@dataclass(frozen=True)
class Target:
    """One target. A feature target uses the row of its feature; every other target adds a row to the graph."""

    kind: Literal["token", "difference", "direction", "feature"]
    label: str
    token_ids: tuple[int, ...] = ()
    direction_D: Tensor | None = None  # at the unembedding's input; `resolve` fills it in for tokens
    feature: Feature | None = None
    feature_index: int | None = None  # into the active features; filled in by `resolve`
    position: int | None = None  # filled in by `resolve`
    probability: float | None = None
    weight: float = 1.0

    def __repr__(self) -> str:
        position = "" if self.position is None else f" at position {self.position}"
        return f"<Target: {self.kind} {self.label!r}{position}, weight {self.weight:.3g}>"


@dataclass(frozen=True)
class TargetRequest:
    """The targets that the user asked for, checked before anything is computed. `resolve` finds them in a prompt.

    `mode` is "named" for explicit targets, "next" for the next token of the prompt at every position, and "likeliest"
    for the most probable next tokens at every position.
    """

    mode: Literal["named", "next", "likeliest"]
    named: tuple[Target, ...]
    positions: tuple[int, ...]
    token_ids: tuple[int, ...]
    tokenizer: PromptTokenizer
    max_targets: int
    target_mass: float
    named_at: Mapping[int, tuple[Target, ...]] = field(default_factory=dict)
    """Explicit targets that add a row, by position."""

    def __repr__(self) -> str:
        named = f" {len(self.named)}" if self.mode == "named" else ""
        return f"<TargetRequest:{named} {self.mode}, at {len(self.positions)} positions>"

    @classmethod
    def parse(
        cls, targets: Any, config: TraceConfig, token_ids: Sequence[int], tokenizer: PromptTokenizer, d_model: int
    ) -> "TargetRequest":
        """Return the request for the `targets` argument of `Model.trace`; a mapping has its own positions.

        Raises ArgumentError for invalid targets, and for positions at which they cannot be read.
        """
        tokens = tuple(token_ids), tokenizer, config.max_targets, config.target_mass
        if isinstance(targets, Mapping):
            named_at = _parse_by_position(targets, tokenizer, len(token_ids), d_model)
            named = tuple(target for listed in named_at.values() for target in listed)
            return cls("named", named, tuple(named_at), *tokens, _with_rows(named_at))
        positions = tuple(config.target_positions(len(token_ids)))
        is_next = isinstance(targets, str) and targets == "next"
        mode: Literal["named", "next", "likeliest"] = "likeliest" if targets is None else "next" if is_next else "named"
        if mode == "next" and positions[-1] + 1 == len(token_ids):
            raise ArgumentError(
                f'nothing follows position {positions[-1]}, the last of the prompt: use earlier positions with targets="next"'
            )
        named = tuple(parse_targets(targets, tokenizer, len(token_ids), d_model)) if mode == "named" else ()
        return cls(mode, named, positions, *tokens, _with_rows(dict.fromkeys(positions, named)))

    def check_features(self, transcoders: Transcoders, weights: Gemma3) -> None:
        """Raise ArgumentError for a feature target that the transcoders do not have."""
        for target in self.named:
            if target.feature is not None:
                transcoders.check_feature(target.feature, weights)

    def check_spelling(self, weights: Gemma3, final_resid_PD: Tensor) -> None:
        """Warn of tokens of which another spelling, such as one with a space, is far likelier at the positions.

        `final_resid_PD` is the residual stream before the final norm. Of several positions, probabilities are averaged.
        """
        together: dict[tuple[int, ...], list[int]] = {}  # positions with the same tokens
        for position, listed in self.named_at.items():
            together.setdefault(tuple(token for target in listed for token in target.token_ids), []).append(position)
        for token_ids, positions in together.items():
            if token_ids:
                logits_V = (weights.logits(final_resid_PD[[position]])[0].double() for position in positions)
                total_V = sum((each_V.softmax(-1) for each_V in logits_V), torch.zeros(()).double())
                warn_of_likelier_spellings(token_ids, self.tokenizer, total_V / len(positions))

    @property
    def read_positions(self) -> tuple[int, ...]:
        """Positions where targets are read, those of features included."""
        rows = [p for p in self.positions if self.mode != "named" or self.named_at[p]]
        features = [resolve_position(t.feature.position, len(self.token_ids)) for t in self.named if t.feature]
        return tuple(sorted({*rows, *features}))

    @property
    def max_rows(self) -> int:
        """Largest number of rows that the targets add to the graph."""
        if self.mode == "named":
            return sum(map(len, self.named_at.values()))
        return len(self.positions) * (1 if self.mode == "next" else self.max_targets)

    @property
    def n_features(self) -> int:
        """Number of targets that are features: they add no row."""
        return sum(target.feature is not None for target in self.named)

    def resolve(self, replacement: LocalReplacementModel) -> list[Target]:
        """Return all targets with directions, probabilities and weights: features first, then by position.

        Weights sum to 1. They are proportional to the probabilities of tokens, with 1 for every other target; with
        "next" they are equal. Raises ArgumentError for a feature that is not active.
        """
        targets = [_find_feature(target, replacement.features) for target in self.named if target.feature is not None]
        for position in self.positions:
            logits_V = replacement.weights.logits(replacement.final_resid_PD[[position]])[0]
            probability_V = torch.softmax(logits_V.double(), dim=-1)
            for target in self._at_position(position, logits_V):
                resolved = _resolve(target, replacement.weights, probability_V)
                targets.append(replace(resolved, position=position))
        if self.mode == "next":
            targets = [replace(target, weight=1.0) for target in targets]
        total = sum(target.weight for target in targets)
        if total == 0:
            raise ArgumentError("the probabilities of all targets underflow to 0: use the difference of two tokens")
        return [replace(target, weight=target.weight / total) for target in targets]

    def _at_position(self, position: int, logits_V: Tensor) -> list[Target]:
        """Return the targets of a position that add a row."""
        if self.mode == "next":
            return [_token(self.token_ids[position + 1], self.tokenizer)]
        if self.mode == "likeliest":
            return likeliest_tokens(logits_V, self.tokenizer, self.max_targets, self.target_mass)
        return list(self.named_at[position])


def _parse_by_position(
    targets: Mapping[Any, Any], tokenizer: PromptTokenizer, n_positions: int, d_model: int
) -> dict[int, tuple[Target, ...]]:
    """Return explicit targets by position, ascending. Raises ArgumentError as `parse_targets` does."""
    found: dict[int, tuple[Target, ...]] = {}
    for position, requests in targets.items():
        resolved = resolve_position(position, n_positions)
        if resolved in found:
            raise ArgumentError(f"targets names position {resolved} twice: name it once, with all its targets")
        found[resolved] = tuple(parse_targets(requests, tokenizer, n_positions, d_model))
    if not found:
        raise ArgumentError("targets is empty: name at least one, or omit it for the likeliest tokens")
    features = [target.feature for listed in found.values() for target in listed if target.feature is not None]
    if len(set(features)) < len(features):
        raise ArgumentError("a target is named twice: name each once")
    return dict(sorted(found.items()))


def _with_rows(named_at: Mapping[int, Sequence[Target]]) -> dict[int, tuple[Target, ...]]:
    """Return the targets at each position that are not features: these add a row."""
    return {position: tuple(t for t in listed if t.feature is None) for position, listed in named_at.items()}


def parse_targets(requests: Sequence[Any], tokenizer: PromptTokenizer, n_positions: int, d_model: int) -> list[Target]:
    """Return explicit targets: tokens, pairs of tokens, directions (D,) and `Feature`s with one position.

    Needs no weights, so that mistakes are reported before anything is computed. Raises ArgumentError for anything
    else: texts that are not one token, duplicates, directions of the wrong shape, positions outside the prompt.
    """
    if not isinstance(requests, list | tuple):
        raise ArgumentError('targets is a list, or "next": write targets=[…], also for one target')
    targets = [_parse(request, tokenizer, n_positions, d_model) for request in requests]
    if not targets:
        raise ArgumentError("targets is empty: name at least one, or omit it for the likeliest tokens")
    identities = [(t.kind, t.token_ids, t.feature) for t in targets if t.kind != "direction"]
    if len(set(identities)) < len(identities):
        raise ArgumentError("a target is named twice: name each once")
    return targets


def _parse(request: Any, tokenizer: PromptTokenizer, n_positions: int, d_model: int) -> Target:
    if isinstance(request, Feature):
        return _feature(request, n_positions)
    if isinstance(request, Tensor | np.ndarray) and request.ndim > 0:
        return _direction(torch.as_tensor(request), d_model)
    if isinstance(request, tuple | list) and len(request) == 2:
        return _difference(tokenizer.token_id(request[0]), tokenizer.token_id(request[1]), tokenizer)
    if isinstance(request, str) or hasattr(request, "__index__"):
        return _token(tokenizer.token_id(request), tokenizer)
    raise ArgumentError(
        f"invalid target {request!r}: expected a token (text or id), a pair of tokens, a direction of shape (D,), or "
        "Feature(layer, feature, position)"
    )


def _feature(feature: Feature, n_positions: int) -> Target:
    if not isinstance(feature.position, int):
        raise ArgumentError(
            f"the target {feature} needs one position: use Feature({feature.layer}, {feature.feature}, position) with an int"
        )
    feature = replace(feature, position=resolve_position(feature.position, n_positions))
    return Target("feature", str(feature), feature=feature)


def _token(token: int, tokenizer: PromptTokenizer) -> Target:
    return Target("token", tokenizer.decode_token(token), token_ids=(token,))


def _difference(first: int, second: int, tokenizer: PromptTokenizer) -> Target:
    texts = tokenizer.decode_token(first), tokenizer.decode_token(second)
    if first == second:
        raise ArgumentError(f"the difference of {texts[0]!r} and itself is zero: name two different tokens")
    return Target("difference", f"{texts[0]} − {texts[1]}", token_ids=(first, second))


def _direction(direction_D: Tensor, d_model: int) -> Target:
    if direction_D.shape != (d_model,):
        raise ArgumentError(f"a direction has shape {tuple(direction_D.shape)}: the model's width is ({d_model},)")
    if not direction_D.isfinite().all() or not direction_D.any():
        raise ArgumentError("a direction is zero, or has NaN or infinite values: use a finite direction")
    return Target("direction", "direction", direction_D=direction_D)


def likeliest_tokens(
    logits_V: Tensor, tokenizer: PromptTokenizer, max_targets: int, target_mass: float
) -> list[Target]:
    """Return the most probable tokens that together reach `target_mass`, at most `max_targets`."""
    probability, ids = torch.softmax(logits_V.double(), dim=-1).topk(min(max_targets, len(logits_V)))
    count = int(torch.searchsorted(probability.cumsum(0), target_mass)) + 1
    return [_token(token, tokenizer) for token in ids[:count].tolist()]


def _resolve(target: Target, weights: Gemma3, probability_V: Tensor) -> Target:
    """Return a target with its direction at the unembedding's input and, for a token, its probability as weight."""
    directed = with_direction(target, weights)
    if target.kind != "token":
        return directed
    probability = float(probability_V[target.token_ids[0]])
    return replace(directed, probability=probability, weight=probability)


def with_direction(target: Target, weights: Gemma3) -> Target:
    """Return a target at the unembedding with its direction there: a token's is centred over the vocabulary."""
    if target.direction_D is not None:
        return replace(target, direction_D=target.direction_D.to(weights.device, weights.dtype))
    rows = weights.unembedding(torch.tensor(target.token_ids, device=weights.device))
    return replace(target, direction_D=rows[0] - (rows[1] if len(rows) == 2 else weights.mean_unembedding_D))


def unembedding_reads(replacement: LocalReplacementModel, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
    """Return positions (T,) and read vectors (T, D) of targets at the final residual stream, through the frozen norm."""
    position_T = torch.tensor([t.position for t in targets], dtype=torch.long, device=replacement.device)
    if not targets:
        return position_T, replacement.embedding_PD[:0]
    directions_TD = torch.stack([t.direction_D for t in targets if t.direction_D is not None])
    scale_T = replacement.final_rms_P[position_T]
    return position_T, directions_TD * replacement.weights.final_norm_D * scale_T[:, None]


def _find_feature(target: Target, features: ActiveFeatures) -> Target:
    feature = target.feature
    assert feature is not None
    assert isinstance(feature.position, int)
    return replace(target, feature_index=features.require(feature), position=feature.position)

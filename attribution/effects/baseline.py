"""Input embeddings that a prompt is compared with."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.errors import ArgumentError, PromptError

MEAN = "mean"
EXPECTED = '"mean", another prompt of as many tokens, or embeddings of shape (P, D) or (D,)'


def baseline_embeddings(
    weights: Gemma3,
    tokenizer: PromptTokenizer,
    ids_P: Tensor,
    masked: MaskedPositions,
    baseline: Any,
    groups: Mapping[str, Iterable[str | int]] | None,
) -> Tensor:
    """Return the baseline's embeddings, (P, D).

    Args:
        weights: the model.
        tokenizer: its tokenizer.
        ids_P: token ids of the prompt.
        masked: its masked positions, whose tokens "mean" keeps.
        baseline: "mean" replaces each token of a group by the mean embedding of its group, and keeps tokens of no group.
            Another prompt, as text, token ids or chat, must have as many tokens. Embeddings are used as they are.
        groups: lists of tokens (text or id) by name; None is one group, the whole vocabulary.

    Raises:
        ArgumentError: a baseline of another length or shape, zero or not finite; invalid groups.
    """
    embedding_PD = weights.embed(ids_P)
    if isinstance(baseline, str) and baseline == MEAN:
        return _group_means(weights, tokenizer, ids_P, masked, groups)
    if groups is not None:
        raise ArgumentError('groups= names tokens whose mean is the baseline: use it with baseline="mean"')
    if isinstance(baseline, Tensor | np.ndarray) and torch.as_tensor(baseline).is_floating_point():
        return _given(torch.as_tensor(baseline).to(embedding_PD), embedding_PD)
    if baseline is None or isinstance(baseline, bool | int | float):
        raise ArgumentError(f"invalid baseline {baseline!r}: expected {EXPECTED}; a zero baseline has no RMS norm")
    try:
        other = tokenizer.encode(baseline)
    except (PromptError, TypeError) as error:
        raise ArgumentError(f"the baseline is no prompt ({error}): expected {EXPECTED}") from error
    if len(other) != len(ids_P):
        raise ArgumentError(f"the baseline has {len(other)} tokens and the prompt {len(ids_P)}: they must be as many")
    return weights.embed(torch.tensor(other, device=ids_P.device))


def describe_baseline(baseline: Any, groups: Mapping[str, Iterable[str | int]] | None) -> dict[str, Any]:
    """Return the settings that results record: "mean" with its groups, another prompt, or "embeddings"."""
    if isinstance(baseline, Tensor | np.ndarray):
        ids = torch.as_tensor(baseline)
        return {"baseline": "embeddings" if ids.is_floating_point() else ids.tolist()}
    if groups is None:
        return {"baseline": MEAN if baseline is None else baseline}
    return {"baseline": MEAN, "groups": {name: list(tokens) for name, tokens in groups.items()}}


def _given(baseline: Tensor, embedding_PD: Tensor) -> Tensor:
    """Return given embeddings for every position."""
    if baseline.shape not in (embedding_PD.shape, embedding_PD.shape[1:]):
        raise ArgumentError(
            f"the baseline has shape {tuple(baseline.shape)}: expected {tuple(embedding_PD.shape)} or "
            f"{tuple(embedding_PD.shape[1:])}"
        )
    if not baseline.isfinite().all():
        raise ArgumentError("the baseline has NaN or infinite values: use finite embeddings")
    if (baseline == 0).all(-1).any():
        raise ArgumentError(f"the baseline is zero, where RMS norms are singular: use {EXPECTED}")
    return baseline.expand_as(embedding_PD)


def _group_means(
    weights: Gemma3,
    tokenizer: PromptTokenizer,
    ids_P: Tensor,
    masked: MaskedPositions,
    groups: Mapping[str, Iterable[str | int]] | None,
) -> Tensor:
    baseline_PD, open_p = weights.embed(ids_P), masked.open_positions(len(ids_P), ids_P.device)
    if groups is None:
        baseline_PD[open_p] = weights.mean_embedding_D
        return baseline_PD
    for name, token_ids in _checked_groups(tokenizer, groups).items():
        group_ids = torch.tensor(token_ids, device=ids_P.device)
        members = open_p[torch.isin(ids_P[open_p], group_ids)]
        if not len(members):
            raise ArgumentError(f"no token of the group {name!r} is in the prompt: check its tokens, spaces included")
        baseline_PD[members] = weights.embed(group_ids).mean(0)
    return baseline_PD


def _checked_groups(tokenizer: PromptTokenizer, groups: Mapping[str, Iterable[str | int]]) -> dict[str, list[int]]:
    """Return the token ids of each group. Raises ArgumentError for empty groups and tokens that two groups share."""
    if not isinstance(groups, Mapping) or not groups:
        raise ArgumentError(f"invalid groups {groups!r}: expected lists of tokens by name, and at least one")
    found: dict[str, list[int]] = {}
    owner: dict[int, str] = {}
    for name, tokens in groups.items():
        if isinstance(tokens, str) or not isinstance(tokens, Iterable):
            raise ArgumentError(f"the group {name!r} is {tokens!r}: expected a list of tokens")
        found[name] = list(dict.fromkeys(tokenizer.token_id(token) for token in tokens))
        if len(found[name]) < 2:
            raise ArgumentError(f"the group {name!r} has {len(found[name])} tokens: its mean needs at least two")
        for token in found[name]:
            if token in owner:
                raise ArgumentError(
                    f"the token {tokenizer.decode_token(token)!r} is in the groups {owner[token]!r} and {name!r}: "
                    "name it in one"
                )
            owner[token] = name
    return found

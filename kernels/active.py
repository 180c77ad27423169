"""Active features of one layer: the output of encode and the input of decode."""

from typing import NamedTuple

import torch
from torch import Tensor


class Active(NamedTuple):
    """Active features of one layer, n entries, sorted by position; `encode` sorts them by feature too."""

    position_n: Tensor  # int64
    feature_n: Tensor  # int64
    activation_n: Tensor
    pre_activation_n: Tensor


class FeatureIndex(NamedTuple):
    """Features of one layer, active or not, each at a position: n entries."""

    position_n: Tensor
    feature_n: Tensor


def with_activations(index: FeatureIndex, activation_n: Tensor) -> Active:
    """Return the features of an index with the given activations, which are also their pre-activations."""
    return Active(index.position_n, index.feature_n, activation_n, activation_n)


def look_up(active: Active, index: FeatureIndex, missing_n: Tensor | float = 0.0) -> Tensor:
    """Return the activations (n,) of the features of an index; `missing_n` for those that are not active."""
    key_a, key_n = _keys(active, index)
    if not len(key_a):
        return active.activation_n.new_zeros(len(key_n)) + missing_n
    at_n = torch.searchsorted(key_a, key_n).clamp_(max=len(key_a) - 1)
    return torch.where(key_a[at_n] == key_n, active.activation_n[at_n], missing_n)


def replace_activations(active: Active, index: FeatureIndex, activation_n: Tensor) -> Active:
    """Return active features with new activations for the features of an index, sorted, without zeros."""
    key_a, key_n = _keys(active, index)
    kept = ~torch.isin(key_a, key_n)
    new = activation_n != 0
    columns = zip(active, with_activations(index, activation_n), strict=True)
    joined = [torch.cat([before[kept], after[new]]) for before, after in columns]
    order = torch.argsort(torch.cat([key_a[kept], key_n[new]]))
    return Active(*(column[order] for column in joined))


def difference(after: Active, before: Active) -> Active:
    """Return the activations of one minus those of the other, sorted, without zeros."""
    key_a, key_b = _keys(after, before)
    key_U, entry = torch.cat([key_a, key_b]).unique(return_inverse=True)
    source = torch.zeros_like(key_U).scatter_(0, entry, torch.arange(len(entry), device=entry.device))
    position_n, feature_n = (torch.cat(both)[source] for both in zip(after[:2], before[:2], strict=True))
    value_U = after.activation_n.new_zeros(len(key_U))
    value_U[entry[: len(key_a)]] = after.activation_n  # each key is at most once on a side
    value_U[entry[len(key_a) :]] -= before.activation_n
    return without_zeros(Active(position_n, feature_n, value_U, value_U))


def without_zeros(active: Active) -> Active:
    """Return the features whose activation is not zero."""
    kept = active.activation_n != 0
    return Active(*(column[kept] for column in active))


def _keys(a: Active | FeatureIndex, b: Active | FeatureIndex) -> tuple[Tensor, Tensor]:
    """Return one number for each position and feature, ascending in this order, with the same numbering on both sides."""
    width = 1 + torch.cat([a.feature_n, b.feature_n]).max() if len(a.feature_n) + len(b.feature_n) else 1
    return a.position_n * width + a.feature_n, b.position_n * width + b.feature_n

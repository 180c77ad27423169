"""Edits of one layer as tensors, over a chunk of positions of several rows.

Positions are numbered row by row: position p of row b in the chunk first … stop - 1 is `b * (stop - first) + p - first`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.kernels.active import FeatureIndex

from .edit_plan import EditPlan, ResolvedEdit


class FeatureEditTensors(NamedTuple):
    """Edits of n features, sorted by row, position and feature: the new activation is scale * activation + shift."""

    features: FeatureIndex
    scale_n: Tensor
    shift_n: Tensor

    def apply(self, activation_n: Tensor) -> Tensor:
        """Return the edited activations (n,)."""
        return self.scale_n * activation_n + self.shift_n


def feature_edit(
    plans: Sequence[EditPlan], layer: int, first: int, stop: int, like: Tensor
) -> FeatureEditTensors | None:
    """Return the edits of a layer's features at positions first … stop - 1, one plan a row; None where there are none.

    The tensors have the device and dtype of `like`.
    """
    entries = sorted(
        (row * (stop - first) + position - first, resolved.node.feature, resolved.edit.scale, resolved.edit.shift)
        for row, plan in enumerate(plans)
        for resolved in plan.features.get(layer, ())
        for position in resolved.positions_in(first, stop, plan.n_prompt)
    )
    if not entries:
        return None
    position, feature, scale, shift = zip(*entries, strict=True)
    features = FeatureIndex(*(torch.tensor(column, device=like.device) for column in (position, feature)))
    return FeatureEditTensors(
        features, *(torch.tensor(column, device=like.device, dtype=like.dtype) for column in (scale, shift))
    )


class VectorEditTensors(NamedTuple):
    """Edits of n error nodes or tokens: the new vector is scale * vector + shift."""

    position_n: Tensor
    scale_n: Tensor
    shift_nD: Tensor

    def apply(self, vector_PD: Tensor) -> Tensor:
        """Return the edited vectors (n, D) of all vectors (P, D)."""
        return self.scale_n[:, None] * vector_PD[self.position_n] + self.shift_nD


def error_edit(
    plans: Sequence[EditPlan], layer: int, first: int, stop: int, like_PD: Tensor
) -> VectorEditTensors | None:
    """Return the edits of a layer's error nodes as in `feature_edit`; None where there are none."""
    return _vector_edit([plan.errors.get(layer, ()) for plan in plans], plans, first, stop, like_PD)


def token_edit(plans: Sequence[EditPlan], first: int, stop: int, like_PD: Tensor) -> VectorEditTensors | None:
    """Return the edits of tokens as in `feature_edit`; None where there are none."""
    return _vector_edit([plan.tokens for plan in plans], plans, first, stop, like_PD)


def _vector_edit(
    edits: Sequence[Sequence[ResolvedEdit]], plans: Sequence[EditPlan], first: int, stop: int, like_PD: Tensor
) -> VectorEditTensors | None:
    """Return the edits of vectors, given for each row; None where there are none."""
    entries = [
        (row * (stop - first) + position - first, resolved.edit)
        for row, (plan, own) in enumerate(zip(plans, edits, strict=True))
        for resolved in own
        for position in resolved.positions_in(first, stop, plan.n_prompt)
    ]
    if not entries:
        return None
    position_n = torch.tensor([position for position, _ in entries], device=like_PD.device)
    shift_nD = like_PD.new_zeros(len(entries), like_PD.shape[1])
    for n, (_, edit) in enumerate(entries):
        shift_nD[n] = torch.as_tensor(edit.shift).to(like_PD)
    return VectorEditTensors(position_n, like_PD.new_tensor([edit.scale for _, edit in entries]), shift_nD)

"""Decode and its gradients, from the two functions of a backend in `BagFunctions`.

The output at a position is the sum of a bag of decoder rows, and a decoder's gradient has a bag of rows of the
output's gradient for each feature.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..active import Active

_NUMPY_TYPES = {torch.float32: np.float32, torch.float64: np.float64}  # of sums


class Bags(NamedTuple):
    """Rows and their weights; those of bag b are at start[b] … start[b + 1] - 1."""

    start_B1: Tensor
    row_n: Tensor
    weight_n: Tensor


class BagFunctions(NamedTuple):
    """The functions of a backend. Rows may have any strides; sums are contiguous as (B, J, D) or (J, B, D).

    Attributes:
        sum: `sum(bags, rows_RJD, out_BJD, add)` adds each bag's sum of weight times row to `out_BJD`, in the order of its
            entries; without `add` it replaces what is there, which may be uninitialised.
        dots: `dots(one_n, ones_AJD, other_n, others_BJD)` returns the product of two rows for each entry, (n,).
    """

    sum: Callable[[Bags, Tensor, Tensor, bool], None]
    dots: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def rows_in_use(rows_RJD: Tensor, row_n: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return a contiguous, converted copy of the rows in use, and each entry's row in it."""
    used_U, row_n = row_n.unique(return_inverse=True)
    return rows_RJD[used_U].to(dtype).contiguous(), row_n


def decode(
    functions: BagFunctions, active: Sequence[Active], decoders: Sequence[Tensor], n_positions: int, sparse_grad: bool
) -> Tensor:
    """Decode with the functions of a backend; see `api.decode`."""
    indices = [(features[0], features[1]) for features in active]
    return _Decode.apply(functions, indices, n_positions, sparse_grad, *[features[2] for features in active], *decoders)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, functions, indices, n_positions, sparse_grad, *tensors):
        activations, decoders = tensors[: len(indices)], tensors[len(indices) :]
        like, every = activations[0], torch.arange(n_positions + 1, device=activations[0].device)
        y_LPD = like.new_zeros(len(indices), n_positions, decoders[0].shape[-1], dtype=_sum_type(like))
        for layer, ((position_n, feature_n), w_dec) in enumerate(zip(indices, decoders, strict=True)):
            w_dec_FJD = _with_layers(w_dec)
            bags = Bags(torch.searchsorted(position_n, every), feature_n, activations[layer].to(y_LPD))
            functions.sum(bags, w_dec_FJD, y_LPD[layer : layer + w_dec_FJD.shape[1]].transpose(0, 1), True)
        ctx.save_for_backward(*tensors)
        ctx.functions, ctx.indices, ctx.sparse_grad = functions, indices, sparse_grad
        return y_LPD.to(like)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_LPD):
        n_layers = len(ctx.indices)
        activations, decoders = ctx.saved_tensors[:n_layers], ctx.saved_tensors[n_layers:]
        grad_LPD = grad_LPD.to(_sum_type(grad_LPD)).contiguous()
        to_activations: list[Tensor | None] = [None] * n_layers
        to_decoders: list[Tensor | None] = [None] * n_layers
        for layer, ((position_n, feature_n), w_dec) in enumerate(zip(ctx.indices, decoders, strict=True)):
            w_dec_FJD = _with_layers(w_dec)
            grad_PJD = grad_LPD[layer : layer + w_dec_FJD.shape[1]].transpose(0, 1)
            if ctx.needs_input_grad[4 + layer]:
                grad_n = ctx.functions.dots(position_n, grad_PJD, feature_n, w_dec_FJD)
                to_activations[layer] = grad_n.to(activations[layer])
            if ctx.needs_input_grad[4 + n_layers + layer]:
                order_n = torch.argsort(feature_n, stable=True)
                entries = feature_n[order_n], position_n[order_n], activations[layer][order_n].to(grad_PJD)
                grad = _sparse_grad if ctx.sparse_grad else _dense_grad
                to_decoders[layer] = grad(ctx.functions, entries, grad_PJD, w_dec)
        return None, None, None, None, *to_activations, *to_decoders


def _dense_grad(
    functions: BagFunctions, entries: tuple[Tensor, Tensor, Tensor], grad_PJD: Tensor, w_dec: Tensor
) -> Tensor:
    """Return a dense gradient, with a bag for every feature."""
    feature_n, position_n, activation_n = entries
    every = torch.arange(len(w_dec) + 1, device=feature_n.device)
    bags = Bags(torch.searchsorted(feature_n, every), position_n, activation_n)
    return _sums(functions, bags, grad_PJD, w_dec.shape).to(w_dec)


def _sparse_grad(
    functions: BagFunctions, entries: tuple[Tensor, Tensor, Tensor], grad_PJD: Tensor, w_dec: Tensor
) -> Tensor:
    """Return a sparse gradient, with a bag for every feature in use."""
    feature_n, position_n, activation_n = entries
    used_U, count_U = torch.unique_consecutive(feature_n, return_counts=True)
    start_U1 = torch.cat([count_U.new_zeros(1), count_U.cumsum(0)])
    shape = (len(used_U), *w_dec.shape[1:])
    rows = _sums(functions, Bags(start_U1, position_n, activation_n), grad_PJD, shape).to(w_dec)
    return torch.sparse_coo_tensor(used_U[None], rows, w_dec.shape, is_coalesced=True, check_invariants=True)


def _sums(functions: BagFunctions, bags: Bags, grad_PJD: Tensor, shape: Sequence[int]) -> Tensor:
    """Return each bag's sum in new memory of a shape, which is written once."""
    out = new_memory(shape, grad_PJD)
    functions.sum(bags, grad_PJD, _with_layers(out), False)
    return out


def new_memory(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return uninitialised memory for sums; on the CPU from numpy, which asks the system for large pages.

    Most of the time of a large gradient is spent on its memory.
    """
    if like.device.type != "cpu":
        return like.new_empty(shape)
    return torch.from_numpy(np.empty(shape, _NUMPY_TYPES[like.dtype]))


def _with_layers(rows: Tensor) -> Tensor:
    """Return a decoder as (F, J, D), also where J = 1 is left out; outside autograd, whose views have no sparse gradient."""
    return rows[:, None] if rows.ndim == 2 else rows


def _sum_type(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32

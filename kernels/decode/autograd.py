"""Decode and its gradients, of three steps that a backend provides for one layer of features.

- `add(y_JPD, start_P1, features, w_dec_FJD)`: add what the features write;
- `activation_grad(grad_JPD, features, w_dec_FJD)`: (n,), the products of their decoder vectors with the gradient;
- `decoder_grad(grad_JPD, features, order_n, start_U1, row_U, out_RJD)`: for each feature, its activations times
  the gradient, summed into the row of `out` that is its own. `order_n` sorts entries by feature; those of
  one feature stand between two starts.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..active import Active


def decode(
    steps: ModuleType, active: Sequence[Active], decoders: list[Tensor], n_positions: int, sparse_grad: bool
) -> Tensor:
    """Decode with a backend's steps; see `api.decode`."""
    indices = [(features[0], features[1]) for features in active]
    return _Decode.apply(steps, indices, n_positions, sparse_grad, *[f[2] for f in active], *decoders)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, steps, indices, n_positions, sparse_grad, *tensors):
        n_layers = len(indices)
        activations, decoders = tensors[:n_layers], tensors[n_layers:]
        like = activations[0]
        y_LPD = like.new_zeros(n_layers, n_positions, decoders[0].shape[2], dtype=_sum_type(like))
        for layer, ((position_n, feature_n), w_dec_FJD) in enumerate(zip(indices, decoders, strict=True)):
            every = torch.arange(n_positions + 1, device=like.device)
            features = (position_n, feature_n, activations[layer].to(y_LPD))
            y_JPD = y_LPD[layer : layer + w_dec_FJD.shape[1]]
            steps.add(y_JPD, torch.searchsorted(position_n, every), features, w_dec_FJD)
        ctx.save_for_backward(*tensors)
        ctx.steps, ctx.indices, ctx.sparse_grad = steps, indices, sparse_grad
        return y_LPD.to(like)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_LPD):
        n_layers = len(ctx.indices)
        activations, decoders = ctx.saved_tensors[:n_layers], ctx.saved_tensors[n_layers:]
        grad_LPD = grad_LPD.to(_sum_type(grad_LPD)).contiguous()
        to_activations: list[Tensor | None] = [None] * n_layers
        to_decoders: list[Tensor | None] = [None] * n_layers
        for layer, ((position_n, feature_n), w_dec_FJD) in enumerate(zip(ctx.indices, decoders, strict=True)):
            grad_JPD = grad_LPD[layer : layer + w_dec_FJD.shape[1]]
            features = (position_n, feature_n, activations[layer].to(grad_LPD))
            if ctx.needs_input_grad[4 + layer]:
                grad_n = ctx.steps.activation_grad(grad_JPD, features, w_dec_FJD)
                to_activations[layer] = grad_n.to(activations[layer])
            if ctx.needs_input_grad[4 + n_layers + layer]:
                to_decoders[layer] = _decoder_grad(ctx, grad_JPD, features, w_dec_FJD)
        return None, None, None, None, *to_activations, *to_decoders


def _decoder_grad(ctx, grad_JPD: Tensor, features: tuple[Tensor, Tensor, Tensor], w_dec_FJD: Tensor) -> Tensor:
    """Gradient of a decoder, sparse or dense; each feature's entries are summed in order of position."""
    sorted_n, order_n = torch.sort(features[1], stable=True)
    used_U, count_U = torch.unique_consecutive(sorted_n, return_counts=True)
    start_U1 = torch.cat([count_U.new_zeros(1), count_U.cumsum(0)])
    if not ctx.sparse_grad:
        out_FJD = grad_JPD.new_zeros(w_dec_FJD.shape)
        ctx.steps.decoder_grad(grad_JPD, features, order_n, start_U1, used_U, out_FJD)
        return out_FJD.to(w_dec_FJD)
    out_UJD = grad_JPD.new_empty(len(used_U), *w_dec_FJD.shape[1:])
    row_U = torch.arange(len(used_U), device=used_U.device)
    ctx.steps.decoder_grad(grad_JPD, features, order_n, start_U1, row_U, out_UJD)
    values = out_UJD.to(w_dec_FJD)
    return torch.sparse_coo_tensor(used_U[None], values, w_dec_FJD.shape, is_coalesced=True, check_invariants=True)


def _sum_type(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32

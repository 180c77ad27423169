"""Differentiable feature activations, computed for active features only."""

import torch
from torch import Tensor

from cotrace.kernels.active import Active
from cotrace.kernels.decode import decode


def pre_activations(
    x_PD: Tensor, w_enc_FD: Tensor, b_enc_F: Tensor, position_n: Tensor, feature_n: Tensor, z_n: Tensor
) -> Tensor:
    """Return the pre-activations `z[n] = x[position] . w_enc[feature] + b_enc[feature]`, (n,), with gradients.

    The values are those that `encode` computed. Gradients flow to the encoder and its bias, not to the inputs. The
    encoder's gradient is a sum of input vectors for each feature: a decode in which positions take the place of features.
    """
    return _PreActivations.apply(x_PD, w_enc_FD, b_enc_F, position_n, feature_n, z_n)


def jump_relu(z_n: Tensor, threshold_n: Tensor, bandwidth: float) -> Tensor:
    """Return `z * (z > threshold)`, (n,), with a straight-through estimate of the threshold's gradient.

    Source: Rajamanoharan et al. 2024, "Jumping Ahead", equation 11, with the rectangle kernel.
    """
    return _JumpReLU.apply(z_n, threshold_n, bandwidth)


def heaviside(z_n: Tensor, threshold_n: Tensor, bandwidth: float) -> Tensor:
    """Return `z > threshold` as 0 or 1, (n,), with a straight-through estimate of the threshold's gradient.

    No gradient flows to z. Source: Rajamanoharan et al. 2024, equation 12.
    """
    return _Heaviside.apply(z_n, threshold_n, bandwidth)


def sum_over_ranks(partial: Tensor) -> Tensor:
    """Return the sum over the processes that share a dictionary, with a gradient.

    Every process computes the same loss from the sum, so the backward pass needs no communication.
    """
    return _SumOverRanks.apply(partial)


class _PreActivations(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_PD, w_enc_FD, b_enc_F, position_n, feature_n, z_n):
        ctx.save_for_backward(x_PD, w_enc_FD, position_n, feature_n)
        return z_n.clone()

    @staticmethod
    def backward(ctx, grad_n):
        x_PD, w_enc_FD, position_n, feature_n = ctx.saved_tensors
        order_n = torch.argsort(feature_n, stable=True)
        by_feature = Active(feature_n[order_n], position_n[order_n], grad_n[order_n], grad_n[order_n])
        grad_FD = decode([by_feature], [x_PD], len(w_enc_FD))[0].to(w_enc_FD)
        grad_F = grad_n.new_zeros(len(w_enc_FD)).index_add_(0, feature_n, grad_n)
        return None, grad_FD, grad_F, None, None, None


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z_n, threshold_n, bandwidth):
        ctx.save_for_backward(z_n, threshold_n)
        ctx.bandwidth = bandwidth
        return z_n * (z_n > threshold_n)

    @staticmethod
    def backward(ctx, grad_n):
        z_n, threshold_n = ctx.saved_tensors
        in_window_n = (z_n - threshold_n).abs() < ctx.bandwidth / 2
        return grad_n * (z_n > threshold_n), -grad_n * in_window_n * threshold_n / ctx.bandwidth, None


class _Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z_n, threshold_n, bandwidth):
        ctx.save_for_backward(z_n, threshold_n)
        ctx.bandwidth = bandwidth
        return (z_n > threshold_n).to(z_n)

    @staticmethod
    def backward(ctx, grad_n):
        z_n, threshold_n = ctx.saved_tensors
        in_window_n = (z_n - threshold_n).abs() < ctx.bandwidth / 2
        return None, -grad_n * in_window_n / ctx.bandwidth, None


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, partial):
        total = partial.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad):
        return grad

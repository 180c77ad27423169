"""Decode in numba: each position's, feature's or entry's sum is made by one thread, in order."""

import sys

import numba
import numpy as np
import torch
from torch import Tensor

from ..compiled import compiled_in_parallel, shares
from . import autograd

AT_ONCE = 4  # decoder rows that are added in one pass over the sums


def decode(active, decoders: list[Tensor], n_positions: int, sparse_grad: bool) -> Tensor:
    """What active features write; see `api.decode`."""
    return autograd.decode(sys.modules[__name__], active, decoders, n_positions, sparse_grad)


def add(y_JPD: Tensor, start_P1: Tensor, features: tuple[Tensor, Tensor, Tensor], w_dec_FJD: Tensor) -> None:
    """Add what one layer's features write; see `autograd`."""
    _, feature_n, activation_n = features
    rows, row_n = _rows(w_dec_FJD, feature_n, y_JPD.dtype)
    y, start, activation = y_JPD.numpy(), start_P1.numpy(), activation_n.numpy()
    _add(y, start, row_n, activation, rows, shares(start, torch.get_num_threads()))


def activation_grad(grad_JPD: Tensor, features: tuple[Tensor, Tensor, Tensor], w_dec_FJD: Tensor) -> Tensor:
    """Products of decoder vectors with the gradient; see `autograd`."""
    position_n, feature_n, _ = features
    rows, row_n = _rows(w_dec_FJD, feature_n, grad_JPD.dtype)
    out_n = grad_JPD.new_empty(len(row_n))
    grad, position, out = grad_JPD.numpy(), position_n.numpy(), out_n.numpy()
    _activation_grad(grad, position, row_n, rows, out, shares(range(len(row_n) + 1), torch.get_num_threads()))
    return out_n


def decoder_grad(
    grad_JPD: Tensor,
    features: tuple[Tensor, Tensor, Tensor],
    order_n: Tensor,
    start_U1: Tensor,
    row_U: Tensor,
    out_RJD: Tensor,
) -> None:
    """Activations times the gradient, summed for each feature; see `autograd`."""
    position_n, _, activation_n = features
    grad, position, activation = grad_JPD.numpy(), position_n[order_n].numpy(), activation_n[order_n].numpy()
    start, row, out = start_U1.numpy(), row_U.numpy(), out_RJD.numpy()
    _decoder_grad(grad, position, activation, start, row, out, shares(start, torch.get_num_threads()))


def _rows(w_dec_FJD: Tensor, feature_n: Tensor, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The decoder and each entry's row in it; where it is stored in another type, only the rows in use, converted."""
    w_dec_FJD = w_dec_FJD.detach()
    if w_dec_FJD.dtype == dtype:
        return w_dec_FJD.numpy(), feature_n.numpy()
    used, row_n = feature_n.unique(return_inverse=True)
    return w_dec_FJD[used].to(dtype).numpy(), row_n.numpy()


@compiled_in_parallel
def _add(y, start, row_n, activation, rows, shares):
    n_layers, _, width = y.shape
    for share in numba.prange(len(shares) - 1):
        for p in range(shares[share], shares[share + 1]):
            whole = start[p + 1] - (start[p + 1] - start[p]) % AT_ONCE
            for j in range(n_layers):
                for i in range(start[p], whole, AT_ONCE):
                    r0, r1, r2, r3 = row_n[i], row_n[i + 1], row_n[i + 2], row_n[i + 3]
                    a0, a1, a2, a3 = activation[i], activation[i + 1], activation[i + 2], activation[i + 3]
                    for d in range(width):
                        y[j, p, d] += (a0 * rows[r0, j, d] + a1 * rows[r1, j, d]) + (
                            a2 * rows[r2, j, d] + a3 * rows[r3, j, d]
                        )
                for i in range(whole, start[p + 1]):
                    for d in range(width):
                        y[j, p, d] += activation[i] * rows[row_n[i], j, d]


@compiled_in_parallel
def _activation_grad(grad, position, row_n, rows, out, shares):
    n_layers, _, width = grad.shape
    for share in numba.prange(len(shares) - 1):
        for i in range(shares[share], shares[share + 1]):
            total = grad.dtype.type(0)
            for j in range(n_layers):
                for d in range(width):
                    total += grad[j, position[i], d] * rows[row_n[i], j, d]
            out[i] = total


@compiled_in_parallel
def _decoder_grad(grad, position, activation, start, row, out, shares):
    n_layers, _, width = grad.shape
    for share in numba.prange(len(shares) - 1):
        for u in range(shares[share], shares[share + 1]):
            for j in range(n_layers):
                for d in range(width):
                    out[row[u], j, d] = 0
                for i in range(start[u], start[u + 1]):
                    for d in range(width):
                        out[row[u], j, d] += activation[i] * grad[j, position[i], d]

"""Decode on a GPU: each program makes one sum, in order; no atomics, so always the same bits."""

import sys

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import autograd

AT_ONCE = 8  # rows that a program loads together
WIDTH = 512  # numbers of a row that it adds at most


def decode(active, decoders: list[Tensor], n_positions: int, sparse_grad: bool) -> Tensor:
    """What active features write; see `api.decode`."""
    return autograd.decode(sys.modules[__name__], active, decoders, n_positions, sparse_grad)


def add(y_JPD: Tensor, start_P1: Tensor, features: tuple[Tensor, Tensor, Tensor], w_dec_FJD: Tensor) -> None:
    """Add what one layer's features write; see `autograd`."""
    _, feature_n, activation_n = features
    _weighted_sums(feature_n, activation_n, start_P1, w_dec_FJD, y_JPD.transpose(0, 1), add=True)


def activation_grad(grad_JPD: Tensor, features: tuple[Tensor, Tensor, Tensor], w_dec_FJD: Tensor) -> Tensor:
    """Products of decoder vectors with the gradient; see `autograd`."""
    position_n, feature_n, _ = features
    out_n = grad_JPD.new_empty(len(feature_n))
    if len(out_n):
        n_layers, _, width = grad_JPD.shape
        arrays = (position_n, feature_n, grad_JPD, *grad_JPD.stride(), w_dec_FJD, *w_dec_FJD.stride())
        _dots_kernel[(len(out_n),)](*arrays, n_layers, width, out_n, _block(width))
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
    rows_PJD = grad_JPD.transpose(0, 1)
    _weighted_sums(position_n[order_n], activation_n[order_n], start_U1, rows_PJD, out_RJD, row_U=row_U)


def _weighted_sums(
    row_n: Tensor,
    weight_n: Tensor,
    start_B1: Tensor,
    rows_RJD: Tensor,
    out_BJD: Tensor,
    *,
    row_U: Tensor | None = None,
    add: bool = False,
) -> None:
    """Sums of weight times row over the entries between two starts, into out[b], or out[row[b]]."""
    n_sums, (n_layers, width) = len(start_B1) - 1, out_BJD.shape[1:]
    if n_sums == 0 or width == 0:
        return
    target_B = torch.arange(n_sums, device=row_n.device) if row_U is None else row_U
    grid = (n_sums, n_layers, triton.cdiv(width, _block(width)))
    arrays = (row_n, weight_n, start_B1, rows_RJD, *rows_RJD.stride(), target_B, out_BJD, *out_BJD.stride())
    _weighted_sums_kernel[grid](*arrays, width, add, AT_ONCE, _block(width))


def _block(width: int) -> int:
    return min(triton.next_power_of_2(width), WIDTH)


@triton.jit
def _weighted_sums_kernel(
    row,
    weight,
    start,
    rows,
    rows_stride,
    rows_stride_j,
    rows_stride_d,
    target,
    out,
    out_stride,
    out_stride_j,
    out_stride_d,
    width,
    ADD: tl.constexpr,
    AT_ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, j = tl.program_id(0), tl.program_id(1).to(tl.int64)
    d = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    place = out + tl.load(target + b) * out_stride + j * out_stride_j + d * out_stride_d
    total = tl.load(place, d < width, 0.0) if ADD else tl.zeros((BLOCK,), out.dtype.element_ty)
    first, last = tl.load(start + b), tl.load(start + b + 1)
    for i in range(first, last, AT_ONCE):
        entry = i + tl.arange(0, AT_ONCE)
        r = tl.load(row + entry, entry < last, 0)
        w = tl.load(weight + entry, entry < last, 0.0)
        inside = (entry < last)[:, None] & (d < width)[None, :]
        address = rows + r[:, None] * rows_stride + j * rows_stride_j + d[None, :] * rows_stride_d
        total += tl.sum(w[:, None] * tl.load(address, inside, 0.0).to(total.dtype), 0)
    tl.store(place, total, d < width)


@triton.jit
def _dots_kernel(
    position,
    feature,
    grad,
    grad_stride_j,
    grad_stride_p,
    grad_stride_d,
    rows,
    rows_stride,
    rows_stride_j,
    rows_stride_d,
    n_layers,
    width,
    out,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0)
    at_grad = grad + tl.load(position + i) * grad_stride_p
    at_rows = rows + tl.load(feature + i) * rows_stride
    total = tl.zeros((BLOCK,), out.dtype.element_ty)
    for _ in range(n_layers):
        for first in range(0, width, BLOCK):
            d = first + tl.arange(0, BLOCK).to(tl.int64)
            g = tl.load(at_grad + d * grad_stride_d, d < width, 0.0)
            total += g * tl.load(at_rows + d * rows_stride_d, d < width, 0.0).to(total.dtype)
        at_grad += grad_stride_j
        at_rows += rows_stride_j
    tl.store(out + i, tl.sum(total, 0))

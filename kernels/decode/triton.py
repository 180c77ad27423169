"""Decode on a GPU: each program makes one sum, in order; no atomics, so always the same bits."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ..active import Active
from . import autograd

AT_ONCE = 8  # rows that a program loads together
WIDTH = 512  # numbers of a row that it adds at most


def decode(active: Sequence[Active], decoders: Sequence[Tensor], n_positions: int, sparse_grad: bool) -> Tensor:
    """Return the sums of decoder vectors; see `api.decode`."""
    return autograd.decode(autograd.BagFunctions(sum_rows, dots), active, decoders, n_positions, sparse_grad)


def sum_rows(bags: autograd.Bags, rows_RJD: Tensor, out_BJD: Tensor, add: bool) -> None:
    """Add or store weighted sums of rows; see `autograd.BagFunctions`."""
    n_bags, n_layers, width = out_BJD.shape
    if out_BJD.numel():
        grid = (n_bags, n_layers, triton.cdiv(width, _block(width)))
        arrays = (*bags, rows_RJD, *rows_RJD.stride(), out_BJD, *out_BJD.stride())
        _sum_kernel[grid](*arrays, width, add, AT_ONCE, _block(width))


def dots(one_n: Tensor, ones_AJD: Tensor, other_n: Tensor, others_BJD: Tensor) -> Tensor:
    """Return products of rows; see `autograd.BagFunctions`."""
    out_n = ones_AJD.new_empty(len(one_n))
    if len(out_n):
        _, n_layers, width = ones_AJD.shape
        arrays = (one_n, ones_AJD, *ones_AJD.stride(), other_n, others_BJD, *others_BJD.stride())
        _dots_kernel[(len(out_n),)](*arrays, n_layers, width, out_n, _block(width))
    return out_n


def _block(width: int) -> int:
    return min(triton.next_power_of_2(max(width, 1)), WIDTH)


@triton.jit
def _sum_kernel(
    start,
    row,
    weight,
    rows,
    rows_stride,
    rows_stride_j,
    rows_stride_d,
    out,
    out_stride,
    out_stride_j,
    out_stride_d,
    width,
    ADD: tl.constexpr,
    AT_ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, j = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    d = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    place = out + b * out_stride + j * out_stride_j + d * out_stride_d
    total = tl.load(place, (d < width) & ADD, 0.0)
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
    one,
    ones,
    ones_stride,
    ones_stride_j,
    ones_stride_d,
    other,
    others,
    others_stride,
    others_stride_j,
    others_stride_d,
    n_layers,
    width,
    out,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0)
    at_one = ones + tl.load(one + i) * ones_stride
    at_other = others + tl.load(other + i) * others_stride
    total = tl.zeros((BLOCK,), out.dtype.element_ty)
    for _ in range(n_layers):
        for first in range(0, width, BLOCK):
            d = first + tl.arange(0, BLOCK).to(tl.int64)
            x = tl.load(at_one + d * ones_stride_d, d < width, 0.0)
            total += x * tl.load(at_other + d * others_stride_d, d < width, 0.0).to(total.dtype)
        at_one += ones_stride_j
        at_other += others_stride_j
    tl.store(out + i, tl.sum(total, 0))

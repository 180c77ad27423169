"""Decode in numba: one thread computes each sum, in order."""

from collections.abc import Sequence

import numba
import numpy as np
import torch
from torch import Tensor

from cotrace.common.compiled import compiled_in_parallel, shares

from ..active import Active
from . import autograd

PASS_ROWS = 4  # added in one pass over a sum


def decode(active: Sequence[Active], decoders: Sequence[Tensor], n_positions: int, sparse_grad: bool) -> Tensor:
    """Return the sums of decoder vectors; see `api.decode`."""
    return autograd.decode(autograd.BagFunctions(sum_rows, dots), active, decoders, n_positions, sparse_grad)


def sum_rows(bags: autograd.Bags, rows_RJD: Tensor, out_BJD: Tensor, add: bool) -> None:
    """Add or store weighted sums of rows; see `autograd.BagFunctions`."""
    start = bags.start_B1.numpy()
    rows_RJD, row_n = _readable(rows_RJD, bags.row_n, out_BJD.dtype)
    bounds = shares(start, torch.get_num_threads())
    rows, out = _lines(rows_RJD), _lines(out_BJD)
    _sum_rows(start, row_n.numpy(), bags.weight_n.numpy(), *rows, *out, out_BJD.shape[1], add, bounds)


def dots(one_n: Tensor, ones_AJD: Tensor, other_n: Tensor, others_BJD: Tensor) -> Tensor:
    """Return products of rows; see `autograd.BagFunctions`."""
    out_n = ones_AJD.new_empty(len(one_n))
    ones_AJD, one_n = _readable(ones_AJD, one_n, out_n.dtype)
    others_BJD, other_n = _readable(others_BJD, other_n, out_n.dtype)
    bounds = shares(range(len(out_n) + 1), torch.get_num_threads())
    ones, others = _lines(ones_AJD), _lines(others_BJD)
    _dots(one_n.numpy(), *ones, other_n.numpy(), *others, ones_AJD.shape[1], out_n.numpy(), bounds)
    return out_n


def _readable(rows_RJD: Tensor, row_n: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return rows that `_lines` accepts, in a type that numba has: the same ones, or a converted copy of those in use."""
    rows_RJD = rows_RJD.detach()
    if rows_RJD.dtype == dtype and (rows_RJD.is_contiguous() or rows_RJD.transpose(0, 1).is_contiguous()):
        return rows_RJD, row_n
    return autograd.rows_in_use(rows_RJD, row_n, dtype)


def _lines(rows_RJD: Tensor) -> tuple[np.ndarray, int, int]:
    """Return rows as contiguous lines (lines, D), and the steps from row to row and from layer to layer."""
    n_rows, n_layers, width = rows_RJD.shape
    if rows_RJD.is_contiguous():
        return rows_RJD.view(n_rows * n_layers, width).numpy(), n_layers, 1
    # Contiguous with layers first, or `view` raises.
    return rows_RJD.transpose(0, 1).view(n_rows * n_layers, width).numpy(), 1, n_rows


@compiled_in_parallel
def _sum_rows(start, row_n, weight_n, rows, rows_step, rows_layer, out, out_step, out_layer, n_layers, add, shares):
    width = out.shape[1]
    for share in numba.prange(len(shares) - 1):
        for b in range(shares[share], shares[share + 1]):
            if not add:  # one bag at a time stays in the cache
                for j in range(n_layers):
                    out[b * out_step + j * out_layer] = 0
            whole = start[b + 1] - (start[b + 1] - start[b]) % PASS_ROWS
            for i in range(start[b], whole, PASS_ROWS):  # rows outermost: each is read through once, in order
                w0, w1, w2, w3 = weight_n[i], weight_n[i + 1], weight_n[i + 2], weight_n[i + 3]
                for j in range(n_layers):
                    sums = out[b * out_step + j * out_layer]
                    r0, r1 = row_n[i] * rows_step + j * rows_layer, row_n[i + 1] * rows_step + j * rows_layer
                    r2, r3 = row_n[i + 2] * rows_step + j * rows_layer, row_n[i + 3] * rows_step + j * rows_layer
                    for d in range(width):
                        sums[d] += (w0 * rows[r0, d] + w1 * rows[r1, d]) + (w2 * rows[r2, d] + w3 * rows[r3, d])
            for i in range(whole, start[b + 1]):
                for j in range(n_layers):
                    sums = out[b * out_step + j * out_layer]
                    r0 = row_n[i] * rows_step + j * rows_layer
                    for d in range(width):
                        sums[d] += weight_n[i] * rows[r0, d]


@compiled_in_parallel
def _dots(one_n, ones, ones_step, ones_layer, other_n, others, others_step, others_layer, n_layers, out, shares):
    width = ones.shape[1]
    for share in numba.prange(len(shares) - 1):
        for i in range(shares[share], shares[share + 1]):
            total = out.dtype.type(0)
            for j in range(n_layers):
                one, other = one_n[i] * ones_step + j * ones_layer, other_n[i] * others_step + j * others_layer
                for d in range(width):
                    total += ones[one, d] * others[other, d]
            out[i] = total

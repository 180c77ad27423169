"""Edge rows on a GPU: one grouped matrix product per layer. One program computes each entry, in order.

Block sizes are fixed: autotuning could choose others in another run, and change bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..backends import interpreting
from .source_vectors import SourceVectors

TARGETS, VECTORS, WIDTH = 64, 64, 32  # of a block
ADDED_VECTORS, ADDED_WIDTH = 32, 64  # of a block of the transpose, whose sums run over vectors


def edge_rows(grad_QTD: Tensor, first: int, sources: SourceVectors, rows_TC: Tensor) -> None:
    """Compute a grouped matrix product with groups of any size; see `api.edge_rows`."""
    n_positions, n_targets, width = grad_QTD.shape
    largest = max(sources.sizes[first : first + n_positions], default=0)
    if largest == 0 or n_targets == 0:
        return
    grid = (n_positions, triton.cdiv(largest, VECTORS), triton.cdiv(n_targets, TARGETS))
    vectors_ED = sources.vectors_ED
    arrays = (grad_QTD, *grad_QTD.stride(), vectors_ED, *vectors_ED.stride(), rows_TC, *rows_TC.stride())
    groups_Q3 = sources.groups_P3[first : first + n_positions]
    widen = interpreting() and grad_QTD.dtype == torch.bfloat16  # the interpreter's matrix product misreads bfloat16
    _edge_rows_kernel[grid](*arrays, groups_Q3, n_targets, width, _precision(), widen, TARGETS, VECTORS, WIDTH)


def add_source_vectors(weights_TC: Tensor, first: int, sources: SourceVectors, grad_QTD: Tensor) -> None:
    """Compute a grouped matrix product with groups of any size; see `api.add_source_vectors`."""
    n_positions, n_targets, width = grad_QTD.shape
    if not any(sources.sizes[first : first + n_positions]) or n_targets == 0:
        return
    grid = (n_positions, triton.cdiv(width, ADDED_WIDTH), triton.cdiv(n_targets, TARGETS))
    vectors_ED = sources.vectors_ED
    arrays = (weights_TC, *weights_TC.stride(), vectors_ED, *vectors_ED.stride(), grad_QTD, *grad_QTD.stride())
    groups_Q3 = sources.groups_P3[first : first + n_positions]
    widen = interpreting() and grad_QTD.dtype == torch.bfloat16
    blocks = TARGETS, ADDED_VECTORS, ADDED_WIDTH
    _add_source_vectors_kernel[grid](*arrays, groups_Q3, n_targets, width, _precision(), widen, *blocks)


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor) -> Tensor:
    """Compute dot products with one vector of each kind; see `api.position_rows`."""
    n_positions, n_targets, width = grad_QTD.shape
    rows_KQT = grad_QTD.new_empty(len(vectors_KQD), n_positions, n_targets)
    if rows_KQT.numel():
        grid = (n_positions, triton.cdiv(n_targets, TARGETS), len(vectors_KQD))
        arrays = (grad_QTD, *grad_QTD.stride(), vectors_KQD, *vectors_KQD.stride(), rows_KQT)
        _position_rows_kernel[grid](*arrays, n_targets, width, TARGETS, WIDTH)
    return rows_KQT


def _precision() -> str:
    matmul = torch.backends.cuda.matmul  # the newer switch reflects the older one, not the reverse
    allowed = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    return "tf32" if allowed else "ieee"


@triton.jit
def _edge_rows_kernel(
    grad,
    grad_stride_q,
    grad_stride_t,
    grad_stride_d,
    vectors,
    vectors_stride,
    vectors_stride_d,
    rows,
    rows_stride,
    rows_stride_c,
    groups,
    n_targets,
    width,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    TARGETS: tl.constexpr,
    VECTORS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    q = tl.program_id(0).to(tl.int64)
    start, stop, column = tl.load(groups + 3 * q), tl.load(groups + 3 * q + 1), tl.load(groups + 3 * q + 2)
    i = tl.program_id(1) * VECTORS + tl.arange(0, VECTORS).to(tl.int64)
    t = tl.program_id(2) * TARGETS + tl.arange(0, TARGETS).to(tl.int64)
    if tl.program_id(1) * VECTORS < stop - start:
        there_i, there_t = i < stop - start, t < n_targets
        sum_type: tl.constexpr = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
        total = tl.zeros((TARGETS, VECTORS), sum_type)
        for first in range(0, width, WIDTH):
            d = first + tl.arange(0, WIDTH).to(tl.int64)
            there_d = d < width
            at_grad = grad + q * grad_stride_q + t[:, None] * grad_stride_t + d[None, :] * grad_stride_d
            at_vectors = vectors + (start + i)[None, :] * vectors_stride + d[:, None] * vectors_stride_d
            grad_td = tl.load(at_grad, there_t[:, None] & there_d[None, :], 0.0)
            vectors_di = tl.load(at_vectors, there_d[:, None] & there_i[None, :], 0.0)
            if WIDEN:
                grad_td, vectors_di = grad_td.to(sum_type), vectors_di.to(sum_type)
            total = tl.dot(grad_td, vectors_di, total, input_precision=PRECISION, out_dtype=sum_type)
        place = rows + t[:, None] * rows_stride + (column + i)[None, :] * rows_stride_c
        inside = there_t[:, None] & there_i[None, :]
        tl.store(place, tl.load(place, inside, 0.0) + total, inside)


@triton.jit
def _add_source_vectors_kernel(
    weights,
    weights_stride,
    weights_stride_c,
    vectors,
    vectors_stride,
    vectors_stride_d,
    grad,
    grad_stride_q,
    grad_stride_t,
    grad_stride_d,
    groups,
    n_targets,
    width,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    TARGETS: tl.constexpr,
    VECTORS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    q = tl.program_id(0).to(tl.int64)
    start, stop, column = tl.load(groups + 3 * q), tl.load(groups + 3 * q + 1), tl.load(groups + 3 * q + 2)
    d = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH).to(tl.int64)
    t = tl.program_id(2) * TARGETS + tl.arange(0, TARGETS).to(tl.int64)
    if start < stop:
        there_d, there_t = d < width, t < n_targets
        sum_type: tl.constexpr = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
        total = tl.zeros((TARGETS, WIDTH), sum_type)
        for first in range(0, stop - start, VECTORS):
            i = first + tl.arange(0, VECTORS).to(tl.int64)
            there_i = i < stop - start
            at_weights = weights + t[:, None] * weights_stride + (column + i)[None, :] * weights_stride_c
            at_vectors = vectors + (start + i)[:, None] * vectors_stride + d[None, :] * vectors_stride_d
            weights_ti = tl.load(at_weights, there_t[:, None] & there_i[None, :], 0.0)
            vectors_id = tl.load(at_vectors, there_i[:, None] & there_d[None, :], 0.0)
            if WIDEN:
                weights_ti, vectors_id = weights_ti.to(sum_type), vectors_id.to(sum_type)
            total = tl.dot(weights_ti, vectors_id, total, input_precision=PRECISION, out_dtype=sum_type)
        place = grad + q * grad_stride_q + t[:, None] * grad_stride_t + d[None, :] * grad_stride_d
        inside = there_t[:, None] & there_d[None, :]
        tl.store(place, tl.load(place, inside, 0.0) + total, inside)


@triton.jit
def _position_rows_kernel(
    grad,
    grad_stride_q,
    grad_stride_t,
    grad_stride_d,
    vectors,
    vectors_stride_k,
    vectors_stride_q,
    vectors_stride_d,
    rows,
    n_targets,
    width,
    TARGETS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    q, k = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    t = tl.program_id(1) * TARGETS + tl.arange(0, TARGETS).to(tl.int64)
    sum_type: tl.constexpr = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros((TARGETS,), sum_type)
    for first in range(0, width, WIDTH):
        d = first + tl.arange(0, WIDTH).to(tl.int64)
        at_grad = grad + q * grad_stride_q + t[:, None] * grad_stride_t + d[None, :] * grad_stride_d
        grad_td = tl.load(at_grad, (t < n_targets)[:, None] & (d < width)[None, :], 0.0).to(sum_type)
        vector_d = tl.load(vectors + k * vectors_stride_k + q * vectors_stride_q + d * vectors_stride_d, d < width, 0.0)
        total += tl.sum(grad_td * vector_d.to(sum_type)[None, :], 1)
    tl.store(rows + (k * tl.num_programs(0) + q) * n_targets + t, total, t < n_targets)

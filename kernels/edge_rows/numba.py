"""Edge rows in numba: small blocks of dot products that share their loads."""

import numba
import numpy as np
import torch
from torch import Tensor

from cotrace.common.compiled import compiled_for_sums, compiled_in_parallel, shares

from .source_vectors import SourceVectors

UNIT_TARGETS = 32  # of a unit of work: their gradients stay in the cache while the vectors pass by


def edge_rows(grad_QTD: Tensor, first: int, sources: SourceVectors, rows_TC: Tensor) -> None:
    """Compute blocks of 4 targets x 4 vectors; see `api.edge_rows`."""
    groups, bounds = _work(sources, first, grad_QTD)
    grad, vectors, rows = (_array(tensor, "edge_rows") for tensor in (grad_QTD, sources.vectors_ED, rows_TC))
    _edge_rows(grad, vectors, rows, groups, bounds)


def add_source_vectors(weights_TC: Tensor, first: int, sources: SourceVectors, grad_QTD: Tensor) -> None:
    """Add four scaled vectors at a time; see `api.add_source_vectors`."""
    groups, bounds = _work(sources, first, grad_QTD)
    tensors = weights_TC, sources.vectors_ED, grad_QTD
    weights, vectors, grad = (_array(tensor, "add_source_vectors") for tensor in tensors)
    _add_source_vectors(weights, vectors, grad, groups, bounds)


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor) -> Tensor:
    """Compute in one pass over the gradients; see `api.position_rows`."""
    exact = torch.float64 if grad_QTD.dtype == torch.float64 else torch.float32  # numba knows no bfloat16
    grad, vectors = grad_QTD.detach().to(exact), vectors_KQD.detach().to(exact).contiguous()
    rows_KQT = grad.new_empty(len(vectors), *grad.shape[:2])
    bounds = shares(range(len(grad) + 1), torch.get_num_threads())
    _position_rows(grad.numpy(), vectors.numpy(), rows_KQT.numpy(), bounds)
    return rows_KQT.to(grad_QTD)


def _work(sources: SourceVectors, first: int, grad_QTD: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups of the gradients' positions, and the bounds of the threads' shares of all units of work."""
    n_positions, n_targets, _ = grad_QTD.shape
    groups = sources.groups_P3.numpy()[first : first + n_positions]
    call = first, n_positions, -(-n_targets // UNIT_TARGETS), torch.get_num_threads()
    if call not in sources.bounds:
        work = np.concatenate([[0], np.repeat(groups[:, 1] - groups[:, 0], call[2]).cumsum()])
        sources.bounds[call] = shares(work, call[3])
    return groups, sources.bounds[call]


def _array(tensor: Tensor, operation: str) -> np.ndarray:
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{operation} cannot use numba: it has no {tensor.dtype}; leave backend out")
    return tensor.detach().numpy()


@compiled_in_parallel
def _edge_rows(grad, vectors, rows, groups, shares):
    n_targets = grad.shape[1]
    n_blocks = -(-n_targets // UNIT_TARGETS)
    for share in numba.prange(len(shares) - 1):
        for unit in range(shares[share], shares[share + 1]):
            q, first = unit // n_blocks, unit % n_blocks * UNIT_TARGETS
            start, stop, column = groups[q]
            last = min(first + UNIT_TARGETS, n_targets)
            _block(grad[q, first:last], vectors[start:stop], rows[first:last, column : column + stop - start])


@compiled_in_parallel
def _add_source_vectors(weights, vectors, grad, groups, shares):
    n_targets = grad.shape[1]
    n_blocks = -(-n_targets // UNIT_TARGETS)
    for share in numba.prange(len(shares) - 1):
        for unit in range(shares[share], shares[share + 1]):
            q, first = unit // n_blocks, unit % n_blocks * UNIT_TARGETS
            start, stop, column = groups[q]
            for t in range(first, min(first + UNIT_TARGETS, n_targets)):
                _add_scaled(weights[t, column : column + stop - start], vectors[start:stop], grad[q, t])


@compiled_in_parallel
def _position_rows(grad, vectors, rows, shares):
    for share in numba.prange(len(shares) - 1):
        for q in range(shares[share], shares[share + 1]):
            for t in range(grad.shape[1]):
                for k in range(len(vectors)):
                    rows[k, q, t] = _dot(grad[q, t], vectors[k, q])


@compiled_for_sums
def _block(grad, vectors, rows):
    """Add `grad @ vectors.T` to the rows."""
    n_targets, n_vectors = rows.shape
    fours_t, fours_i, pairs_i = n_targets - n_targets % 4, n_vectors - n_vectors % 4, n_vectors - n_vectors % 2
    for t in range(0, fours_t, 4):
        for i in range(0, fours_i, 4):
            _add_4x4(grad[t : t + 4], vectors[i : i + 4], rows[t : t + 4, i : i + 4])
        for i in range(fours_i, pairs_i, 2):
            _add_4x2(grad[t : t + 4], vectors[i : i + 2], rows[t : t + 4, i : i + 2])
    for t in range(n_targets):
        for i in range(pairs_i if t < fours_t else 0, n_vectors):
            rows[t, i] += _dot(grad[t], vectors[i])


@compiled_for_sums
def _add_scaled(weights, vectors, grad):
    """Add `weights @ vectors` to one gradient, which is read and written once for four vectors."""
    n_vectors = len(weights)
    fours = n_vectors - n_vectors % 4
    for i in range(0, fours, 4):
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        v0, v1, v2, v3 = vectors[i], vectors[i + 1], vectors[i + 2], vectors[i + 3]
        for d in range(len(grad)):
            grad[d] += w0 * v0[d] + w1 * v1[d] + w2 * v2[d] + w3 * v3[d]
    for i in range(fours, n_vectors):
        w, v = weights[i], vectors[i]
        for d in range(len(grad)):
            grad[d] += w * v[d]


@compiled_for_sums
def _dot(one, other):
    total = one.dtype.type(0)
    for d in range(len(one)):
        total += one[d] * other[d]
    return total


@compiled_for_sums
def _add_4x4(grad, vectors, rows):
    """Add 16 sums, which stay in registers: 8 loads for 16 multiply-adds, where one dot product has 2 for 1."""
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = rows.dtype.type(0)
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = rows.dtype.type(0)
    for d in range(grad.shape[1]):
        g0, g1, g2, g3 = grad[0, d], grad[1, d], grad[2, d], grad[3, d]
        v0, v1, v2, v3 = vectors[0, d], vectors[1, d], vectors[2, d], vectors[3, d]
        s00, s01, s02, s03 = s00 + g0 * v0, s01 + g0 * v1, s02 + g0 * v2, s03 + g0 * v3
        s10, s11, s12, s13 = s10 + g1 * v0, s11 + g1 * v1, s12 + g1 * v2, s13 + g1 * v3
        s20, s21, s22, s23 = s20 + g2 * v0, s21 + g2 * v1, s22 + g2 * v2, s23 + g2 * v3
        s30, s31, s32, s33 = s30 + g3 * v0, s31 + g3 * v1, s32 + g3 * v2, s33 + g3 * v3
    sums = ((s00, s01, s02, s03), (s10, s11, s12, s13), (s20, s21, s22, s23), (s30, s31, s32, s33))
    for t in range(4):
        for i in range(4):
            rows[t, i] += sums[t][i]


@compiled_for_sums
def _add_4x2(grad, vectors, rows):
    """Compute the rest of a few vectors: 6 loads for 8 multiply-adds."""
    s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = rows.dtype.type(0)
    for d in range(grad.shape[1]):
        g0, g1, g2, g3 = grad[0, d], grad[1, d], grad[2, d], grad[3, d]
        v0, v1 = vectors[0, d], vectors[1, d]
        s00, s01, s10, s11 = s00 + g0 * v0, s01 + g0 * v1, s10 + g1 * v0, s11 + g1 * v1
        s20, s21, s30, s31 = s20 + g2 * v0, s21 + g2 * v1, s30 + g3 * v0, s31 + g3 * v1
    sums = ((s00, s01), (s10, s11), (s20, s21), (s30, s31))
    for t in range(4):
        for i in range(2):
            rows[t, i] += sums[t][i]

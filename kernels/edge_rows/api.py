"""The edge-row operations: dot products of targets' gradients with source vectors."""

import torch
from torch import Tensor

from ..backends import Implementation, Operation, require_alike
from .source_vectors import SourceVectors

SMALL_GROUP_PRODUCTS = 2048  # targets x vectors; for smaller groups numba is faster than BLAS (docs/benchmarks.md)


def _reference_edge_rows() -> Implementation:
    from . import reference as backend

    return backend.edge_rows


def _reference_add_source_vectors() -> Implementation:
    from . import reference as backend

    return backend.add_source_vectors


def _torch_add_source_vectors() -> Implementation:
    from . import torch as backend

    return backend.add_source_vectors


def _reference_position_rows() -> Implementation:
    from . import reference as backend

    return backend.position_rows


def _torch_edge_rows() -> Implementation:
    from . import torch as backend

    return backend.edge_rows


def _torch_position_rows() -> Implementation:
    from . import torch as backend

    return backend.position_rows


def _numba_edge_rows() -> Implementation:
    from . import numba as backend

    return backend.edge_rows


def _numba_add_source_vectors() -> Implementation:
    from . import numba as backend

    return backend.add_source_vectors


def _numba_position_rows() -> Implementation:
    from . import numba as backend

    return backend.position_rows


def _triton_edge_rows() -> Implementation:
    from . import triton as backend

    return backend.edge_rows


def _triton_add_source_vectors() -> Implementation:
    from . import triton as backend

    return backend.add_source_vectors


def _triton_position_rows() -> Implementation:
    from . import triton as backend

    return backend.position_rows


EDGE_ROWS = Operation(
    "edge_rows",
    {
        "reference": _reference_edge_rows,
        "torch": _torch_edge_rows,
        "numba": _numba_edge_rows,
        "triton": _triton_edge_rows,
    },
    on_cpu="torch",  # large matrix products, which run at the speed of the BLAS library
    on_cpu_if_small="numba",  # where a call of that library costs more than the product
)
ADD_SOURCE_VECTORS = Operation(
    "add_source_vectors",
    {
        "reference": _reference_add_source_vectors,
        "torch": _torch_add_source_vectors,
        "numba": _numba_add_source_vectors,
        "triton": _triton_add_source_vectors,
    },
    on_cpu="torch",
    on_cpu_if_small="numba",
)
POSITION_ROWS = Operation(
    "position_rows",
    {
        "reference": _reference_position_rows,
        "torch": _torch_position_rows,
        "numba": _numba_position_rows,
        "triton": _triton_position_rows,
    },
    on_cpu="numba",
)


def edge_rows(
    grad_QTD: Tensor, first: int, sources: SourceVectors, rows_TC: Tensor, *, backend: str | None = None
) -> None:
    """Add each gradient's dot products with the source vectors of its position to the rows, in place.

    `rows[t, columns[p] + i] += grad[p - first, t] . vectors[offsets[p] + i]`. There is no gradient. Sums are computed
    in float32, or in float64 for float64; on a GPU `torch.backends.cuda.matmul.allow_tf32` allows products in TF32.

    Args:
        grad_QTD: gradients of T targets at the Q positions first, first + 1, …
        first: the first of these positions.
        sources: source vectors of one layer, grouped by position.
        rows_TC: rows of the targets, (T, C), changed in place. All three have one dtype.
        backend: one of `backends.BACKENDS`; the fastest one by default.

    Raises:
        ValueError: shapes do not fit, or the backend cannot run.
    """
    n_positions, n_targets, width = grad_QTD.shape
    sources.require(first, n_positions, width, rows_TC.shape[1])
    if len(rows_TC) != n_targets:
        raise ValueError(f"{len(rows_TC)} rows for the gradients of {n_targets} targets")
    require_alike("edge_rows", grad_QTD, sources.vectors_ED, rows_TC)
    with torch.no_grad(), torch.cuda.device_of(grad_QTD):
        small = has_small_groups(sources, first, n_positions, n_targets) and grad_QTD.dtype.itemsize >= 4
        EDGE_ROWS.implementation(backend, grad_QTD.device.type, small)(grad_QTD, first, sources, rows_TC)


def add_source_vectors(
    weights_TC: Tensor, first: int, sources: SourceVectors, grad_QTD: Tensor, *, backend: str | None = None
) -> None:
    """Add weighted sums of the source vectors of each position to the gradients there, in place.

    `grad[p - first, t] += sum_i weights[t, columns[p] + i] * vectors[offsets[p] + i]`: the transpose of `edge_rows`.
    There is no gradient. Sums are computed in float32, or in float64 for float64; on a GPU
    `torch.backends.cuda.matmul.allow_tf32` allows products in TF32.

    Args:
        weights_TC: weights of C columns for each of T targets.
        first: the first position of the gradients.
        sources: vectors of one layer, grouped by position.
        grad_QTD: gradients of T targets at the Q positions first, first + 1, …, changed in place. All have one dtype.
        backend: one of `backends.BACKENDS`; the fastest one by default.

    Raises:
        ValueError: shapes do not fit, or the backend cannot run.
    """
    n_positions, n_targets, width = grad_QTD.shape
    sources.require(first, n_positions, width, weights_TC.shape[1])
    if len(weights_TC) != n_targets:
        raise ValueError(f"{len(weights_TC)} rows of weights for the gradients of {n_targets} targets")
    require_alike("add_source_vectors", grad_QTD, sources.vectors_ED, weights_TC)
    with torch.no_grad(), torch.cuda.device_of(grad_QTD):
        small = has_small_groups(sources, first, n_positions, n_targets) and grad_QTD.dtype.itemsize >= 4
        run = ADD_SOURCE_VECTORS.implementation(backend, grad_QTD.device.type, small)
        run(weights_TC, first, sources, grad_QTD)


def has_small_groups(sources: SourceVectors, first: int, n_positions: int, n_targets: int) -> bool:
    """Return whether groups have at most `SMALL_GROUP_PRODUCTS` products on average."""
    n_vectors = sources.offsets[first + n_positions] - sources.offsets[first]
    return n_targets * n_vectors <= SMALL_GROUP_PRODUCTS * n_positions


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor, *, backend: str | None = None) -> Tensor:
    """Return dot products with K vectors at each position, one of each kind: errors, constants, tokens. (K, Q, T).

    `rows[k, q, t] = grad[q, t] . vectors[k, q]`, in one pass over the gradients. There is no gradient.

    Args:
        grad_QTD: gradients of T targets at Q positions.
        vectors_KQD: K vectors at each of these positions.
        backend: one of `backends.BACKENDS`; the fastest one by default.

    Raises:
        ValueError: shapes do not fit, or the backend cannot run.
    """
    if vectors_KQD.ndim != 3 or vectors_KQD.shape[1:] != (len(grad_QTD), grad_QTD.shape[2]):
        raise ValueError(f"shapes do not fit: gradients {tuple(grad_QTD.shape)}, vectors {tuple(vectors_KQD.shape)}")
    require_alike("position_rows", grad_QTD, vectors_KQD)
    with torch.no_grad(), torch.cuda.device_of(grad_QTD):
        return POSITION_ROWS.implementation(backend, grad_QTD.device.type)(grad_QTD, vectors_KQD)

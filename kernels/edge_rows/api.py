"""Public face of the edge-row operation."""

import torch
from torch import Tensor

from ..backends import implementation, require_alike
from .source_vectors import SourceVectors

SMALL = 2048  # targets x vectors of a group: up to so many products numba outruns the vendor's (docs/benchmarks.md)


def edge_rows(
    grad_QTD: Tensor, first: int, written: SourceVectors, rows_TC: Tensor, *, backend: str | None = None
) -> None:
    """Add each gradient's dot products with the vectors of its position to the rows, in place.

    `grad_QTD` holds T targets' gradients at the Q positions first, first + 1, …; `rows_TC` the T
    rows that are being built. `rows[t, columns[p] + i] += grad[p - first, t] . vectors[offsets[p] + i]`.
    All three have one dtype. Has no gradient. Sums are made in float32 or, of float64, in float64; on a
    GPU `torch.backends.cuda.matmul.allow_tf32` says whether products may be made in TF32.

    Raises ValueError for shapes that do not fit, and a backend that cannot run.
    """
    n_positions, n_targets, width = grad_QTD.shape
    written.require(first, n_positions, width, rows_TC.shape[1])
    if len(rows_TC) != n_targets:
        raise ValueError(f"{len(rows_TC)} rows for the gradients of {n_targets} targets")
    require_alike("edge_rows", grad_QTD, written.vectors_ED, rows_TC)
    with torch.no_grad(), torch.cuda.device_of(grad_QTD):
        small = has_small_groups(written, first, n_positions, n_targets) and grad_QTD.dtype.itemsize >= 4
        implementation("edge_rows", backend, grad_QTD.device.type, small)(grad_QTD, first, written, rows_TC)


def has_small_groups(written: SourceVectors, first: int, n_positions: int, n_targets: int) -> bool:
    """Whether a group is at most `SMALL` products, on average."""
    n_vectors = written.offsets[first + n_positions] - written.offsets[first]
    return n_targets * n_vectors <= SMALL * n_positions


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor, *, backend: str | None = None) -> Tensor:
    """Dot products with K vectors at each position, one of a kind: errors, constants, tokens. (K, Q, T).

    `rows[k, q, t] = grad[q, t] . vectors[k, q]`, in one pass over the gradients. Has no gradient.

    Raises ValueError for shapes that do not fit, and a backend that cannot run.
    """
    if vectors_KQD.ndim != 3 or vectors_KQD.shape[1:] != (len(grad_QTD), grad_QTD.shape[2]):
        raise ValueError(f"shapes do not fit: gradients {tuple(grad_QTD.shape)}, vectors {tuple(vectors_KQD.shape)}")
    require_alike("position_rows", grad_QTD, vectors_KQD)
    with torch.no_grad(), torch.cuda.device_of(grad_QTD):
        return implementation("position_rows", backend, grad_QTD.device.type)(grad_QTD, vectors_KQD)

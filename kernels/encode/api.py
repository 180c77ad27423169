"""The encode operation: residual activations to sparse active features."""

import torch
from torch import Tensor

from ..active import Active
from ..backends import Implementation, Operation


def _reference() -> Implementation:
    from . import reference as backend

    return backend.encode


def _torch() -> Implementation:
    from . import torch as backend

    return backend.encode


def _numba() -> Implementation:
    from . import numba as backend

    return backend.encode


def _triton() -> Implementation:
    from . import triton as backend

    return backend.encode


ENCODE = Operation(
    "encode", {"reference": _reference, "torch": _torch, "numba": _numba, "triton": _triton}, on_cpu="numba"
)


def encode(
    x_PD: Tensor,
    w_enc_DF: Tensor,
    b_enc_F: Tensor,
    *,
    threshold_F: Tensor | None = None,
    k: int | None = None,
    batch_k: int | None = None,
    backend: str | None = None,
) -> Active:
    """Return the features with a non-zero activation `relu(z) * (z > threshold)`, `z = x @ w_enc + b_enc`.

    The activation function is JumpReLU (Rajamanoharan et al. 2024) with `threshold_F`; TopK, the `k` largest positive
    `z` of each position (Gao et al. 2024, section 2.3); BatchTopK, the `P * batch_k` largest of all positions together
    (Bussmann et al. 2024, section 3); or else ReLU. Of equal entries TopK and BatchTopK keep the first in order of
    position and feature.

    Besides the result, memory holds one tile of `z`, of the same size however large P and F are; only the reference
    holds all of it. There is no gradient.

    Args:
        x_PD: residual activations, (P, D), in float32, float64 or bfloat16; the computation has their dtype, but numba
            and triton compare bfloat16 before they round.
        w_enc_DF: encoder, (D, F), of any dtype and possibly memory-mapped; converted tile by tile.
        b_enc_F: encoder bias, (F,).
        threshold_F: thresholds of JumpReLU, (F,).
        k: features of each position for TopK, at least 1.
        batch_k: features of a position on average for BatchTopK, at least 1.
        backend: one of `backends.BACKENDS`; the fastest one by default.

    Raises:
        ValueError: pre-activations are NaN or infinite, shapes do not fit, two activation functions are given, or the
            backend cannot run.
    """
    _check(x_PD, w_enc_DF, b_enc_F, threshold_F, k, batch_k)
    run = ENCODE.implementation(backend, x_PD.device.type)
    threshold_F = None if threshold_F is None else threshold_F.to(x_PD)
    k = None if k is None else min(k, max(len(b_enc_F), 1))
    with torch.no_grad(), torch.cuda.device_of(x_PD):
        return Active(*run(x_PD, w_enc_DF, b_enc_F.to(x_PD), threshold_F, k, batch_k))


def _check(
    x_PD: Tensor, w_enc_DF: Tensor, b_enc_F: Tensor, threshold_F: Tensor | None, k: int | None, batch_k: int | None
) -> None:
    if x_PD.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise ValueError(f"encode computes in float32, float64 or bfloat16, not {x_PD.dtype}; convert x")
    fits = x_PD.ndim == w_enc_DF.ndim == 2 and x_PD.shape[1] == w_enc_DF.shape[0]
    if not fits or w_enc_DF.shape[1:] != b_enc_F.shape:
        raise ValueError(
            f"shapes do not fit: x {tuple(x_PD.shape)}, w_enc {tuple(w_enc_DF.shape)}, b_enc {tuple(b_enc_F.shape)}"
        )
    if threshold_F is not None and threshold_F.shape != b_enc_F.shape:
        raise ValueError(f"shapes do not fit: b_enc {tuple(b_enc_F.shape)}, threshold {tuple(threshold_F.shape)}")
    if (k is not None) + (batch_k is not None) + (threshold_F is not None) > 1:
        raise ValueError("threshold_F, k and batch_k are different activation functions; pass one of them")
    for name, number in (("k", k), ("batch_k", batch_k)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}, and no feature would be active; it must be at least 1")

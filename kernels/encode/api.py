"""Public face of the encode operation."""

import torch
from torch import Tensor

from ..active import Active
from ..backends import implementation


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
    """Features with a non-zero activation `relu(z) * (z > threshold)`, `z = x @ w_enc + b_enc`.

    JumpReLU (Rajamanoharan et al. 2024) with `threshold_F`, plain ReLU without. TopK keeps the `k`
    largest positive `z` of each position (Gao et al. 2024, section 2.3), BatchTopK the
    `P * batch_k` largest of all positions together (Bussmann et al. 2024, section 3); of equal ones
    those that come first in order of position and feature. Computes in x's dtype; weights may be
    stored in another one, or memory-mapped, and are converted tile by tile. Beside the result,
    memory holds one tile of `z`, of the same size however large P and F are; the reference alone
    holds all of it. Has no gradient. Of bfloat16, numba and triton compare before they round.

    Raises ValueError for NaN or infinite pre-activations, shapes that do not fit, and a backend
    that cannot run.
    """
    _check(x_PD, w_enc_DF, b_enc_F, threshold_F, k, batch_k)
    run = implementation("encode", backend, x_PD.device.type)
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
        raise ValueError("threshold_F, k and batch_k are different activations: pass one of them")
    for name, number in (("k", k), ("batch_k", batch_k)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}, and no feature would be active; it must be at least 1")

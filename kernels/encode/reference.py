"""Encode in plain mathematics; every other backend must agree with it."""

import torch
from torch import Tensor


def encode(
    x_PD: Tensor, w_enc_DF: Tensor, b_enc_F: Tensor, threshold_F: Tensor | None, k: int | None, batch_k: int | None
):
    """Compute dense pre-activations, then take the non-zero entries; see `api.encode`."""
    z_PF = x_PD @ w_enc_DF.to(x_PD) + b_enc_F
    if not z_PF.isfinite().all():
        raise ValueError("NaN or infinite pre-activations")
    a_PF = z_PF.relu()
    if threshold_F is not None:
        a_PF = a_PF * (z_PF > threshold_F)
    if k is not None:
        a_PF = _largest(a_PF, k)
    if batch_k is not None:
        a_PF = _largest(a_PF.view(1, -1), batch_k * len(a_PF)).view_as(a_PF)
    position_n, feature_n = a_PF.nonzero(as_tuple=True)
    return position_n, feature_n, a_PF[position_n, feature_n], z_PF[position_n, feature_n]


def _largest(a_RC: Tensor, k: int) -> Tensor:
    """Return the k largest of each row, zero elsewhere; of equal ones the first."""
    chosen = a_RC.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return torch.zeros_like(a_RC).scatter(1, chosen, a_RC.gather(1, chosen))

"""Encode in plain mathematics: what every implementation must agree with."""

import torch
from torch import Tensor


def encode(x_PD: Tensor, w_enc_DF: Tensor, b_enc_F: Tensor, threshold_F: Tensor | None, k: int | None):
    """Dense pre-activations, then the non-zero entries; see `api.encode`."""
    z_PF = x_PD @ w_enc_DF.to(x_PD) + b_enc_F.to(x_PD)
    if not z_PF.isfinite().all():
        raise ValueError("NaN or infinite pre-activations")
    a_PF = z_PF.relu()
    if threshold_F is not None:
        a_PF = a_PF * (z_PF > threshold_F.to(x_PD))
    if k is not None:
        kept = torch.zeros_like(a_PF, dtype=torch.bool)
        kept.scatter_(1, a_PF.topk(min(k, a_PF.shape[1]), dim=1).indices, True)
        a_PF = a_PF * kept
    position_n, feature_n = a_PF.nonzero(as_tuple=True)
    return position_n, feature_n, a_PF[position_n, feature_n], z_PF[position_n, feature_n]

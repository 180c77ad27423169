"""Encode with torch's own operations on every tile; runs on any device."""

from torch import Tensor

from . import streaming


def encode(
    x_PD: Tensor, w_enc_DF: Tensor, bias_F: Tensor, threshold_F: Tensor | None, k: int | None, batch_k: int | None
):
    """Active features; see `api.encode`."""
    return streaming.encode(streaming.above(compact, x_PD, threshold_F, k, batch_k), x_PD, w_enc_DF, bias_F)


def compact(product_pf: Tensor, bias_f: Tensor, least_f: Tensor, bound_p: Tensor | None) -> streaming.Found:
    """Active entries of a tile; see `streaming.Compact`."""
    z_pf = product_pf.add_(bias_f)
    if not z_pf.isfinite().all():
        raise ValueError("NaN or infinite pre-activations")
    active_pf = z_pf > least_f
    if bound_p is not None:
        active_pf &= z_pf > bound_p[:, None]
    return streaming.Found(active_pf.sum(1), active_pf.nonzero()[:, 1], z_pf[active_pf])

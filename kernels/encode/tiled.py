"""Encode over tiles of the dictionary on the vendor's matrix product: memory O(P * tile), not O(P * F)."""

import torch
from torch import Tensor

TILE = 8192  # features; 16 MiB of encoder at width 512 and keeps a 262k dictionary out of memory


def encode(x_PD: Tensor, w_enc_DF: Tensor, b_enc_F: Tensor, threshold_F: Tensor | None, k: int | None):
    """Active features tile by tile; see `api.encode`."""
    tiles = [
        _encode_tile(x_PD, w_enc_DF[:, start : start + TILE], b_enc_F, threshold_F, start)
        for start in range(0, w_enc_DF.shape[1], TILE)
    ]
    position_n, feature_n, z_n = (torch.cat(parts) for parts in zip(*tiles, strict=True))
    order = torch.argsort(position_n, stable=True)  # features ascend from tile to tile
    position_n, feature_n, z_n = position_n[order], feature_n[order], z_n[order]
    if k is not None:
        keep = _k_largest(position_n, z_n, len(x_PD), k)
        position_n, feature_n, z_n = position_n[keep], feature_n[keep], z_n[keep]
    return position_n, feature_n, z_n, z_n


def _encode_tile(x_PD: Tensor, w_enc_DF: Tensor, b_enc_F: Tensor, threshold_F: Tensor | None, start: int):
    stop = start + w_enc_DF.shape[1]
    z_PF = torch.addmm(b_enc_F[start:stop].to(x_PD), x_PD, w_enc_DF.to(x_PD))
    if not z_PF.isfinite().all():
        raise ValueError("NaN or infinite pre-activations")
    active = z_PF > 0
    if threshold_F is not None:
        active &= z_PF > threshold_F[start:stop].to(x_PD)
    position_n, feature_n = active.nonzero(as_tuple=True)
    return position_n, feature_n + start, z_PF[position_n, feature_n]


def _k_largest(position_n: Tensor, z_n: Tensor, n_positions: int, k: int) -> Tensor:
    """Indices, ascending, of the k largest entries of each position."""
    order = torch.argsort(z_n, descending=True, stable=True)
    order = order[torch.argsort(position_n[order], stable=True)]
    counts = torch.bincount(position_n, minlength=n_positions)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    rank = torch.arange(len(order), device=order.device) - first
    return order[rank < k].sort().values

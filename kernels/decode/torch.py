"""Decode with torch's embedding bags: one bag a position, and a feature for its gradient; runs on any device."""

import sys

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from . import autograd

ENTRIES = 1 << 22  # numbers of a chunk of gathered decoder rows


def decode(active, decoders: list[Tensor], n_positions: int, sparse_grad: bool) -> Tensor:
    """What active features write; see `api.decode`."""
    return autograd.decode(sys.modules[__name__], active, decoders, n_positions, sparse_grad)


def add(y_JPD: Tensor, start_P1: Tensor, features: tuple[Tensor, Tensor, Tensor], w_dec_FJD: Tensor) -> None:
    """Add what one layer's features write; see `autograd`."""
    _, feature_n, activation_n = features
    if w_dec_FJD.dtype != y_JPD.dtype:
        used, feature_n = feature_n.unique(return_inverse=True)
        w_dec_FJD = w_dec_FJD[used].to(y_JPD)
    y_JPD += _bags(feature_n, w_dec_FJD, start_P1, activation_n).transpose(0, 1)


def activation_grad(grad_JPD: Tensor, features: tuple[Tensor, Tensor, Tensor], w_dec_FJD: Tensor) -> Tensor:
    """Products of decoder vectors with the gradient; see `autograd`."""
    position_n, feature_n, _ = features
    at_once = max(1, ENTRIES // (w_dec_FJD.shape[1] * w_dec_FJD.shape[2]))
    chunks = zip(position_n.split(at_once), feature_n.split(at_once), strict=True)
    parts = [torch.einsum("jnd,njd->n", grad_JPD[:, p], w_dec_FJD[f].to(grad_JPD)) for p, f in chunks]
    return torch.cat(parts) if parts else grad_JPD.new_zeros(0)


def decoder_grad(
    grad_JPD: Tensor,
    features: tuple[Tensor, Tensor, Tensor],
    order_n: Tensor,
    start_U1: Tensor,
    row_U: Tensor,
    out_RJD: Tensor,
) -> None:
    """Activations times the gradient, summed for each feature; see `autograd`."""
    position_n, _, activation_n = features
    grad_PJD = grad_JPD.transpose(0, 1).contiguous()
    out_RJD[row_U] = _bags(position_n[order_n], grad_PJD, start_U1, activation_n[order_n])


def _bags(row_n: Tensor, rows_RJD: Tensor, start_B1: Tensor, weight_n: Tensor) -> Tensor:
    """Weighted sums of the rows that stand between two starts, (B, J, D)."""
    sums_BK = embedding_bag(
        row_n, rows_RJD.flatten(1), start_B1, mode="sum", per_sample_weights=weight_n, include_last_offset=True
    )
    return sums_BK.unflatten(1, rows_RJD.shape[1:])

"""Decode with torch's embedding bags; runs on any device."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ..active import Active
from . import autograd

CHUNK_NUMBERS = 1 << 22  # of gathered rows


def decode(active: Sequence[Active], decoders: Sequence[Tensor], n_positions: int, sparse_grad: bool) -> Tensor:
    """Return the sums of decoder vectors; see `api.decode`."""
    return autograd.decode(autograd.BagFunctions(sum_rows, dots), active, decoders, n_positions, sparse_grad)


def sum_rows(bags: autograd.Bags, rows_RJD: Tensor, out_BJD: Tensor, add: bool) -> None:
    """Add or store weighted sums of rows; see `autograd.BagFunctions`."""
    start_B1, row_n, weight_n = bags
    if rows_RJD.dtype != out_BJD.dtype or not rows_RJD.is_contiguous():
        rows_RJD, row_n = autograd.rows_in_use(rows_RJD, row_n, out_BJD.dtype)
    sums_BK = embedding_bag(
        row_n, rows_RJD.flatten(1), start_B1, mode="sum", per_sample_weights=weight_n, include_last_offset=True
    )
    if add:
        out_BJD += sums_BK.view_as(out_BJD)
    else:
        out_BJD.copy_(sums_BK.view_as(out_BJD))


def dots(one_n: Tensor, ones_AJD: Tensor, other_n: Tensor, others_BJD: Tensor) -> Tensor:
    """Return products of rows, a chunk at a time; see `autograd.BagFunctions`."""
    at_once = max(1, CHUNK_NUMBERS // max(1, ones_AJD.shape[1] * ones_AJD.shape[2]))
    chunks = zip(one_n.split(at_once), other_n.split(at_once), strict=True)
    parts = [torch.einsum("njd,njd->n", ones_AJD[one], others_BJD[other].to(ones_AJD)) for one, other in chunks]
    return torch.cat(parts) if parts else ones_AJD.new_zeros(0)

"""Decode in plain mathematics; every other backend must agree with it."""

import torch
from torch import Tensor


def decode(active, decoders, n_positions: int, sparse_grad: bool) -> Tensor:
    """Sum each feature's activation times its decoder vectors; gradients are autograd's."""
    y_LPD = active[0][2].new_zeros(len(active), n_positions, decoders[0].shape[-1])
    for layer, ((position_n, feature_n, activation_n, *_), w_dec) in enumerate(zip(active, decoders, strict=True)):
        rows_nJD = _rows(w_dec, feature_n, sparse_grad).to(activation_n)
        written_JnD = (activation_n[:, None, None] * rows_nJD).transpose(0, 1)
        y_JPD = y_LPD.new_zeros(len(written_JnD), *y_LPD.shape[1:]).index_add(1, position_n, written_JnD)
        y_LPD = y_LPD + torch.nn.functional.pad(y_JPD, (0, 0, 0, 0, layer, len(active) - layer - len(y_JPD)))
    return y_LPD


def _rows(w_dec: Tensor, feature_n: Tensor, sparse_grad: bool) -> Tensor:
    rows = _SparseRows.apply(w_dec, feature_n) if sparse_grad else w_dec[feature_n]
    return rows[:, None] if rows.ndim == 2 else rows


class _SparseRows(torch.autograd.Function):
    """Rows of a tensor of any rank, with a sparse gradient, which torch.nn.functional.embedding has for matrices."""

    @staticmethod
    def forward(ctx, w_dec, feature_n):
        ctx.save_for_backward(feature_n)
        ctx.shape = w_dec.shape
        return w_dec[feature_n]

    @staticmethod
    def backward(ctx, grad):
        (feature_n,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(feature_n[None], grad, ctx.shape, check_invariants=True).coalesce(), None

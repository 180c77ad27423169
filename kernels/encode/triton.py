"""Encode on a GPU: count the active entries of every tile, then pack them; without atomics, so always in one order."""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import streaming
from .streaming import ActiveEntries

BLOCK = 1024  # features of one program


class TritonTileScanner:
    """Finds the active entries of a tile; see `streaming.TileScanner`."""

    def __init__(self, bias_F: Tensor, least_F: Tensor):
        self.bias_F, self.least_F = bias_F, least_F

    def __call__(self, product_pf: Tensor, positions: slice, features: slice, bound_P: Tensor | None) -> ActiveEntries:
        """Count, then pack."""
        n_rows, n_columns = product_pf.shape
        bound_p = product_pf.new_zeros(n_rows) if bound_P is None else bound_P[positions]
        count_pb = torch.empty(n_rows, triton.cdiv(n_columns, BLOCK), dtype=torch.int64, device=product_pf.device)
        tile = (product_pf, self.bias_F[features], self.least_F[features], bound_p, n_columns)
        _count[count_pb.shape](*tile, count_pb, BLOCK)
        end_pb = count_pb.flatten().cumsum(0).view_as(count_pb)
        total, fewest = torch.stack([end_pb[-1, -1], count_pb.min()]).tolist()
        streaming.require_finite(fewest >= 0)
        feature_n, z_n = torch.empty(total, dtype=torch.int64, device=product_pf.device), product_pf.new_empty(total)
        _pack[count_pb.shape](*tile, end_pb - count_pb, features.start, feature_n, z_n, BLOCK)
        return ActiveEntries(count_pb.sum(1), feature_n, z_n)


encode = functools.partial(streaming.encode_with, TritonTileScanner)


@triton.jit
def _active(product, bias, least, bound, n_columns, column, row):
    """Return the pre-activations of some columns of a row, and a mask of the active ones."""
    inside = column < n_columns
    z_type: tl.constexpr = tl.float64 if product.dtype.element_ty == tl.float64 else tl.float32
    z = tl.load(product + row.to(tl.int64) * n_columns + column, inside, 0.0).to(z_type)
    z += tl.load(bias + column, inside, 0.0).to(z_type)
    above_least = z > tl.load(least + column, inside, 0.0).to(z_type)
    return z, above_least & (z > tl.load(bound + row).to(z_type)) & inside


@triton.jit
def _count(product, bias, least, bound, n_columns, count, BLOCK: tl.constexpr):
    """Store the number of active entries of a block; a negative number where one is not finite."""
    row, block = tl.program_id(0), tl.program_id(1)
    column = block * BLOCK + tl.arange(0, BLOCK)
    z, active = _active(product, bias, least, bound, n_columns, column, row)
    wrong = tl.sum((tl.abs(z) < float("inf")).to(tl.int32), 0) < BLOCK
    hits = tl.sum(active.to(tl.int32), 0)
    tl.store(count + row * tl.num_programs(1) + block, tl.where(wrong, -BLOCK - 1, hits))


@triton.jit
def _pack(product, bias, least, bound, n_columns, start, first_feature, feature, z_out, BLOCK: tl.constexpr):
    """Write a block's active entries where they belong."""
    row, block = tl.program_id(0), tl.program_id(1)
    column = block * BLOCK + tl.arange(0, BLOCK)
    z, active = _active(product, bias, least, bound, n_columns, column, row)
    place = tl.load(start + row * tl.num_programs(1) + block) + tl.cumsum(active.to(tl.int32), 0) - 1
    tl.store(feature + place, first_feature + column.to(tl.int64), active)
    tl.store(z_out + place, z, active)

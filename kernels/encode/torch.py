"""Encode with torch's own operations on every tile; runs on any device."""

import functools

from torch import Tensor

from . import streaming
from .streaming import ActiveEntries


class TorchTileScanner:
    """Finds the active entries of a tile; see `streaming.TileScanner`."""

    def __init__(self, bias_F: Tensor, least_F: Tensor):
        self.bias_F, self.least_F = bias_F, least_F

    def __call__(self, product_pf: Tensor, positions: slice, features: slice, bound_P: Tensor | None) -> ActiveEntries:
        """Find them with a mask."""
        z_pf = product_pf.add_(self.bias_F[features])
        streaming.require_finite(bool(z_pf.isfinite().all()))
        active_pf = z_pf > self.least_F[features]
        if bound_P is not None:
            active_pf &= z_pf > bound_P[positions, None]
        return ActiveEntries(active_pf.sum(1), active_pf.nonzero()[:, 1] + features.start, z_pf[active_pf])


encode = functools.partial(streaming.encode_with, TorchTileScanner)

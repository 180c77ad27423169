"""Encode with torch's own operations on every tile; runs on any device."""

import functools

from torch import Tensor

from . import streaming


def compact(product_pf: Tensor, bias_f: Tensor, least_f: Tensor, bound_p: Tensor | None) -> streaming.Found:
    """Active entries of a tile; see `streaming.Compact`."""
    z_pf = product_pf.add_(bias_f)
    streaming.require_finite(bool(z_pf.isfinite().all()))
    active_pf = z_pf > least_f
    if bound_p is not None:
        active_pf &= z_pf > bound_p[:, None]
    return streaming.Found(active_pf.sum(1), active_pf.nonzero()[:, 1], z_pf[active_pf])


encode = functools.partial(streaming.encode_with, compact)

"""The least arithmetic that rows take: what the time of a trace is estimated by, and the rate of the sweep.

For each row (target), layer below it and position that its gradient reaches: 2 D (H d_head) for the output
projection and 2 D (KV d_head) for the value projection, 2 H d_head for each attended position, 2 D D for
an affine skip, 2 D for each vector that a feature writes there. Before its first attention layer a gradient
lives at its own position only. Errors, constants, tokens and everything that is not a product come for free.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.transcoders import Transcoders

PRODUCT = {"cpu": 2048, "cuda": 8192}  # rows and columns of the product that the machine's rate is measured on
PRODUCTS = 3


@dataclass(frozen=True)
class Sizes:
    """What the arithmetic depends on beside rows and entries; a window of None sees all earlier positions."""

    d_model: int
    query_width: int  # H d_head
    value_width: int  # KV d_head
    windows: Sequence[int | None]
    skips: Sequence[bool]

    @classmethod
    def of(cls, arch: Architecture, transcoders: Transcoders) -> "Sizes":
        """Those of a model with its transcoders."""
        layers = range(arch.n_layers)
        skips = [transcoders.skip(layer, torch.empty(0)) is not None for layer in layers]
        widths = arch.n_heads * arch.d_head, arch.n_kv_heads * arch.d_head
        return cls(arch.d_model, *widths, [arch.window(layer) for layer in layers], skips)


def useful_operations(sizes: Sizes, entries_LP: np.ndarray, layer_T: np.ndarray, position_T: np.ndarray) -> int:
    """Operations of the rows of features that read at these layers and positions.

    `entries_LP` counts the vectors that features write at each layer's MLP output and position.
    """
    before_LP = np.pad(entries_LP, ((0, 0), (1, 0))).cumsum(1)  # entries before each position
    total = 0
    for layer in np.unique(layer_T):
        last = position_T[layer_T == layer].astype(np.int64)
        first = last
        for below in range(layer, -1, -1):
            if below < layer:
                entries = before_LP[below, last + 1] - before_LP[below, first]
                total += 2 * sizes.d_model * int(entries.sum())
                total += 2 * sizes.d_model**2 * sizes.skips[below] * int((last - first + 1).sum())
            total += _attention(sizes, sizes.windows[below], first, last)
            first = _seen_from(first, sizes.windows[below])
    return total


def _attention(sizes: Sizes, window: int | None, first: np.ndarray, last: np.ndarray) -> int:
    """Gradients at positions first … last, taken back through one layer's frozen attention."""
    attended = _attended_before(last + 1, window) - _attended_before(first, window)
    outputs = int((last - first + 1).sum())
    values = int((last - _seen_from(first, window) + 1).sum())
    per_position = sizes.query_width * outputs + sizes.value_width * values
    return 2 * sizes.d_model * per_position + 2 * sizes.query_width * int(attended.sum())


def _seen_from(position: np.ndarray, window: int | None) -> np.ndarray:
    """The first position that one attends to."""
    return np.zeros_like(position) if window is None else np.maximum(position - window + 1, 0)


def _attended_before(position: np.ndarray, window: int | None) -> np.ndarray:
    """Pairs of a query before `position` and a key that it attends to."""
    whole = position if window is None else np.minimum(position, window)
    return whole * (whole + 1) // 2 + (position - whole) * (window or 0)


def written_entries(features_LP: np.ndarray, cross_layer: bool) -> np.ndarray:
    """Vectors written at each layer's MLP output and position (L, P), from the active features there."""
    return features_LP.cumsum(0) if cross_layer else features_LP


def product_rate(device: str | torch.device) -> float:
    """Operations a second of one large float32 product, the best of a few."""
    size = PRODUCT[torch.device(device).type]
    one, other, out = (torch.randn(size, size, device=device) for _ in range(3))
    best = np.inf
    for _ in range(PRODUCTS + 1):  # the first one warms up
        start = time.perf_counter()
        torch.mm(one, other, out=out)
        out[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best

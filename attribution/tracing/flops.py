"""Floating-point operations that rows need, for the time estimate of a plan and the utilization in benchmarks.

For each row (target), layer below it and position that its gradient reaches: 2 D (H d_head) for the output
projection and 2 D (KV d_head) for the value projection, 2 H d_head for each attended position, 2 D D for
an affine skip connection, 2 D for each source vector of a feature. Before its first attention layer a gradient
is non-zero at one position only. Errors, constants, tokens and everything that is not a product are not counted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.transcoders import Transcoders

MATMUL_ROWS = {"cpu": 2048, "cuda": 8192}  # rows and columns of the product that measures a machine's rate
MATMUL_REPEATS = 3


@dataclass(frozen=True)
class SweepShape:
    """The sizes of a model with transcoders that determine the cost of a row; a window of None is full attention."""

    d_model: int
    query_width: int  # H d_head
    value_width: int  # KV d_head
    windows: Sequence[int | None]
    skips: Sequence[bool]

    @classmethod
    def of(cls, arch: Architecture, transcoders: Transcoders) -> "SweepShape":
        """Return the sizes of a model with its transcoders."""
        layers = range(arch.n_layers)
        skips = [transcoders.skip(layer, torch.empty(0)) is not None for layer in layers]
        widths = arch.n_heads * arch.d_head, arch.n_kv_heads * arch.d_head
        return cls(arch.d_model, *widths, [arch.window(layer) for layer in layers], skips)


def row_flops(shape: SweepShape, vectors_LP: np.ndarray, layer_T: np.ndarray, position_T: np.ndarray) -> int:
    """Return the operations for the rows of features at these layers and positions.

    `vectors_LP` counts the source vectors of features at each layer's MLP output and position (`count_vectors`).
    """
    before_LP = np.pad(vectors_LP, ((0, 0), (1, 0))).cumsum(1)  # vectors before each position
    total = 0
    for layer in np.unique(layer_T):
        last = position_T[layer_T == layer].astype(np.int64)
        first = last
        for below in range(layer, -1, -1):
            if below < layer:
                vectors = before_LP[below, last + 1] - before_LP[below, first]
                total += 2 * shape.d_model * int(vectors.sum())
                total += 2 * shape.d_model**2 * shape.skips[below] * int((last - first + 1).sum())
            total += _attention_flops(shape, shape.windows[below], first, last)
            first = _first_attended(first, shape.windows[below])
    return total


def _attention_flops(shape: SweepShape, window: int | None, first: np.ndarray, last: np.ndarray) -> int:
    """Return the operations for gradients at positions first … last to pass through one layer's frozen attention."""
    attended = _attended_before(last + 1, window) - _attended_before(first, window)
    outputs = int((last - first + 1).sum())
    values = int((last - _first_attended(first, window) + 1).sum())
    per_position = shape.query_width * outputs + shape.value_width * values
    return 2 * shape.d_model * per_position + 2 * shape.query_width * int(attended.sum())


def _first_attended(position: np.ndarray, window: int | None) -> np.ndarray:
    """Return the first position that each position attends to."""
    return np.zeros_like(position) if window is None else np.maximum(position - window + 1, 0)


def _attended_before(position: np.ndarray, window: int | None) -> np.ndarray:
    """Return the number of pairs of a query before `position` and a key that it attends to."""
    full = position if window is None else np.minimum(position, window)
    return full * (full + 1) // 2 + (position - full) * (window or 0)


def count_vectors(features_LP: np.ndarray, cross_layer: bool) -> np.ndarray:
    """Return the number of source vectors at each layer's MLP output and position (L, P), given active features."""
    return features_LP.cumsum(0) if cross_layer else features_LP


def matmul_flops_per_second(device: str | torch.device) -> float:
    """Measure the rate of one large float32 matrix product, in operations a second: the best of a few."""
    size = MATMUL_ROWS[torch.device(device).type]
    left, right, out = (torch.randn(size, size, device=device) for _ in range(3))
    best_seconds = np.inf
    for _ in range(MATMUL_REPEATS + 1):  # the first one warms up
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        out[0, 0].item()  # waits for the device
        best_seconds = min(best_seconds, time.perf_counter() - start)
    return 2 * size**3 / best_seconds

"""Batches of targets whose rows are computed together."""

import bisect
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .replacement import LocalReplacementModel

# Targets x positions of a batch: large enough for matrix products at full speed, small enough that few gradients are
# computed beyond the position of their target. A GPU needs more work per launch.
BATCH_GRADIENTS = {"cpu": 2048, "cuda": 32768}
MIN_BATCH_TARGETS = 32  # a long prompt needs more targets in each product


class TargetBatch(NamedTuple):
    """T targets that read the residual stream before the MLP, or before the attention, of the same layer.

    Before the attention of layer L, the number of layers, is the unembedding.
    """

    layer: int
    node_T: Tensor  # ascending
    position_T: Tensor  # ascending
    read_TD: Tensor  # read vectors
    before: Literal["mlp", "attention"] = "mlp"

    def __repr__(self) -> str:
        return f"<TargetBatch: {len(self.node_T)} targets before the {self.before} of layer {self.layer}>"


class BatchSize(NamedTuple):
    """Number of targets per batch: the user's, or the fastest that fits into memory."""

    requested: int | None
    keep_vectors: bool  # whether decoder vectors are stored, and not recomputed for every batch
    max_gradients: int  # targets x positions of a batch that fit into memory
    n_workers: int = 1  # batches that are computed side by side

    def targets_at(self, last_position: int, device: str) -> int:
        """Return the number of targets of a batch whose last target is at this position."""
        if self.requested:
            return self.requested
        fitting = max(1, self.max_gradients // (last_position + 1))
        return min(fastest_batch(device, last_position + 1, self.keep_vectors), fitting)


def fastest_batch(device: str, n_positions: int, keep_vectors: bool) -> int:
    """Return the number of targets per batch that runs fastest for gradients over `n_positions` positions.

    It is doubled where decoder vectors are recomputed for every batch.
    """
    return max(MIN_BATCH_TARGETS, BATCH_GRADIENTS[device] // n_positions) * (1 if keep_vectors else 2)


def stream_batches(
    position_T: Tensor, read_TD: Tensor, layer: int, first_node: int, size: BatchSize
) -> Iterator[TargetBatch]:
    """Yield batches of targets that read the residual stream between two layers, from the last to the first.

    Args:
        position_T: their positions, ascending.
        read_TD: their read vectors at the residual stream before the layer's attention.
        layer: the layer; the number of layers L for targets at the unembedding.
        first_node: node number of the first target; the others follow.
        size: the number of targets per batch.
    """
    for part in _slices(position_T, size):
        node_T = torch.arange(first_node + part.start, first_node + part.stop, device=position_T.device)
        yield TargetBatch(layer, node_T, position_T[part], read_TD[part], before="attention")


def feature_batches(
    replacement: LocalReplacementModel, layer: int, feature_T: Tensor, size: BatchSize
) -> Iterator[TargetBatch]:
    """Yield batches of features of a layer, given by ascending index, from the last to the first."""
    position_T = replacement.features.position_N[feature_T]
    for part in _slices(position_T, size):
        nodes = feature_T[part]
        yield TargetBatch(layer, nodes, position_T[part], replacement.read_vectors(layer, nodes))


def _slices(position_T: Tensor, size: BatchSize) -> list[slice]:
    """Return ranges of targets, from the last to the first; their costs are about equal where workers share them."""
    positions, device = position_T.tolist(), position_T.device.type
    slices = _largest_slices(positions, size, device)
    if size.n_workers == 1 or size.requested or not slices:
        return slices
    most = -(-len(slices) // size.n_workers) * size.n_workers  # batches of a layer: as many for each worker

    def enough(max_gradients: int) -> bool:
        return len(_largest_slices(positions, size._replace(max_gradients=max_gradients), device)) <= most

    smallest = 1 + bisect.bisect_left(range(1, size.max_gradients), True, key=enough)
    return _largest_slices(positions, size._replace(max_gradients=smallest), device)


def _largest_slices(positions: list[int], size: BatchSize, device: str) -> list[slice]:
    """Return ranges of targets, from the last to the first, each as large as `size` allows."""
    slices, stop = [], len(positions)
    while stop:
        start = max(0, stop - size.targets_at(positions[stop - 1], device))
        slices.append(slice(start, stop))
        stop = start
    return slices

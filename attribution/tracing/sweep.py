"""The sweep: rows of the adjacency matrix, computed backwards from their targets.

A batch of T targets carries its gradient as `grad_PTD` down the layers. At each MLP output it is
contracted with what was written there, then taken through the affine skip and the frozen attention
(ARCHITECTURE.md, "The sweep"). Every step is a large matrix product.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.graphs import NodeOrder
from cotrace.kernels.edge_rows import edge_rows, position_rows

from .replacement import LocalReplacementModel

# Gradient vectors (targets x positions) at once: full-speed products, and little beyond a target's
# reach. A GPU needs more work in each launch, and a long prompt more targets in each product.
BATCH_ROWS = {"cpu": 2048, "cuda": 32768}
LEAST_TARGETS = 32


class Batch(NamedTuple):
    """Targets that read at the same layer's residual stream before the MLP; layer L is the unembedding."""

    layer: int
    node_T: Tensor  # ascending
    position_T: Tensor  # ascending
    read_TD: Tensor


class Rows(NamedTuple):
    """Finished rows: dense over `columns_C`, ascending node numbers."""

    block_TC: Tensor
    columns_C: Tensor
    bias_T: Tensor  # what constants contribute; the encoder's bias not included


def best_targets(device: str, n_positions: int, hold: bool) -> int:
    """Targets of a batch that ends at the last of so many positions: twice as many where vectors are made for each."""
    return max(LEAST_TARGETS, BATCH_ROWS[device] // n_positions) * (1 if hold else 2)


class BatchSize(NamedTuple):
    """How many targets go together: exactly so many, or as many as run best and have room."""

    exactly: int | None
    hold: bool
    most_vectors: int  # targets x positions

    def at(self, position: int, device: str) -> int:
        """Targets of a batch that ends at a position."""
        room = max(1, self.most_vectors // (position + 1))
        return self.exactly or min(best_targets(device, position + 1, self.hold), room)


def target_batches(
    replacement: LocalReplacementModel, read: tuple[Tensor, Tensor], first_node: int, size: BatchSize
) -> Iterator[Batch]:
    """Targets at the unembedding, given by ascending positions and what they read, in batches from the last."""
    position_T, read_TD = read
    for part in _batches(position_T, size):
        node_T = torch.arange(first_node + part.start, first_node + part.stop, device=position_T.device)
        yield Batch(replacement.n_layers, node_T, position_T[part], read_TD[part])


def feature_batches(replacement: LocalReplacementModel, layer: int, chosen: Tensor, size: BatchSize) -> Iterator[Batch]:
    """Features of a layer, by ascending number, in batches from the last to the first."""
    position_T = replacement.features.position_N[chosen]
    for part in _batches(position_T, size):
        yield Batch(layer, chosen[part], position_T[part], replacement.read(layer, chosen[part]))


def _batches(position_T: Tensor, size: BatchSize) -> Iterator[slice]:
    """Ranges of targets, from the last: as many as a batch has room for at their last position."""
    position, stop = position_T.tolist(), len(position_T)
    while stop:
        start = max(0, stop - size.at(position[stop - 1], position_T.device.type))
        yield slice(start, stop)
        stop = start


def sweep(replacement: LocalReplacementModel, batch: Batch, node_columns: "NodeColumns") -> Rows:
    """Compute one batch's rows; exact up to rounding, in the replacement's dtype."""
    return _Sweep(replacement, batch).run(node_columns)


class NodeColumns:
    """Which node numbers a batch's columns are, in node order."""

    def __init__(self, replacement: LocalReplacementModel, order: NodeOrder):
        self._features = replacement.features
        self._column_N = replacement.column_N
        self._n_positions = replacement.n_positions
        self._order = order

    def features(self, layer: int, reach: int) -> tuple[Tensor, Tensor]:
        """Features below a layer at the first `reach` positions: node numbers, internal columns."""
        chosen = (self._features.layer_N < layer) & (self._features.position_N < reach)
        nodes = chosen.nonzero()[:, 0]
        return nodes, self._column_N[nodes]

    def errors(self, layer: int, reach: int) -> Tensor:
        """Error nodes below a layer at the first positions, (layer * reach,)."""
        device = self._column_N.device
        layers = torch.arange(layer, device=device)[:, None] * self._n_positions
        return (self._order.errors.start + layers + torch.arange(reach, device=device)).flatten()

    def tokens(self, reach: int) -> Tensor:
        """Tokens at the first positions, (reach,)."""
        return self._order.tokens.start + torch.arange(reach, device=self._column_N.device)


class _Sweep:
    def __init__(self, replacement: LocalReplacementModel, batch: Batch):
        self.r, self.batch = replacement, batch
        self.reach = int(batch.position_T.max()) + 1
        size, like = len(batch.read_TD), batch.read_TD
        n_columns = int(replacement.first_column_LP[-1, self.reach - 1])
        self.feature_TC = like.new_zeros(size, n_columns)
        self.error_LPT = like.new_zeros(min(batch.layer, replacement.n_layers), self.reach, size)
        self.bias_T = like.new_zeros(size)
        # Room for one head's and all KV heads' gradients, reused in every layer: fresh pages cost time.
        n_kv, d_head, _ = replacement.attention[0][0].shape
        self.head_Rd = like.new_empty(self.reach * size, d_head)
        self.mixed_KRd = like.new_empty(n_kv, self.reach * size, d_head)

    def run(self, node_columns: NodeColumns) -> Rows:
        layer, read_TD = self.batch.layer, self.batch.read_TD
        if layer == self.r.n_layers:  # the last MLP writes between the last attention and the unembedding
            layer -= 1
            read_TD = torch.cat([self._through_mlp(layer, *group)[0] for group in self._by_position()])
        grad_PTD = self._first_attention(layer, read_TD)
        while layer > 0:
            layer -= 1
            grad_PTD = self._through_mlp(layer, 0, slice(None), grad_PTD)
            self._through_attention(layer, grad_PTD)
        (token_PT,) = position_rows(grad_PTD, self.r.embedding_PD[None, : self.reach])
        return self._in_node_order(token_PT, node_columns)

    def _by_position(self) -> Iterator[tuple[int, slice, Tensor]]:
        """The batch's targets at each of their positions, and what they read there, (1, T, D)."""
        positions, counts = self.batch.position_T.unique_consecutive(return_counts=True)
        stops = counts.cumsum(0).tolist()
        for position, start, stop in zip(positions.tolist(), [0, *stops], stops, strict=False):
            yield position, slice(start, stop), self.batch.read_TD[None, start:stop]

    def _through_mlp(self, layer: int, first: int, targets: slice, grad_QTD: Tensor) -> Tensor:
        """Contract with what was written at a layer's MLP output, then add the affine skip's path.

        The gradients are those of some targets, at the positions first, first + 1, ….
        """
        r, stop = self.r, first + len(grad_QTD)
        for start, end, written, group in r.written[layer].parts(first, stop):
            edge_rows(grad_QTD[start - first : end - first], group, written, self.feature_TC[targets])
        error_QT, constant_QT = position_rows(grad_QTD, r.rest_LKPD[layer, :, first:stop])
        self.error_LPT[layer, first:stop, targets] = error_QT
        self.bias_T[targets] += constant_QT.sum(0)
        back_DD = r.skip_back[layer]
        if back_DD is not None:
            grad_QTD = grad_QTD.addcmul(grad_QTD @ back_DD, r.mlp_in_rms_LP[layer, first:stop, None, None])
        return grad_QTD

    def _first_attention(self, layer: int, read_TD: Tensor) -> Tensor:
        """Take gradients that live at one position each to all earlier ones, (P, T, D)."""
        value, output = self.r.attention[layer]
        targets = torch.arange(len(read_TD), device=read_TD.device)
        coefficient_HTP = self.r.pattern[layer].query_rows(self.batch.position_T, self.reach)
        head_HTd = read_TD @ output
        group = len(output) // len(value)
        grad_PTD = read_TD.new_zeros(self.reach, *read_TD.shape)
        for kv, value_dD in enumerate(value):
            heads = slice(kv * group, (kv + 1) * group)
            mixed_PTd = torch.einsum("htp,htd->ptd", coefficient_HTP[heads], head_HTd[heads])
            grad_PTD.flatten(0, 1).addmm_(mixed_PTd.flatten(0, 1), value_dD)
        grad_PTD[self.batch.position_T, targets] += read_TD
        return grad_PTD

    def _through_attention(self, layer: int, grad_PTD: Tensor) -> None:
        """Add the path through one layer's frozen attention, in place."""
        value_KdD, output_HDd = self.r.attention[layer]
        flat_RD = grad_PTD.flatten(0, 1)
        mixed_KPE = self.mixed_KRd.zero_().view(len(value_KdD), self.reach, -1)
        for head, output_Dd in enumerate(output_HDd):
            torch.mm(flat_RD, output_Dd, out=self.head_Rd)
            mixed_PE = mixed_KPE[head * len(value_KdD) // len(output_HDd)]
            self.r.pattern[layer].add_backward(head, self.head_Rd.view_as(mixed_PE), mixed_PE)
        for mixed_Rd, value_dD in zip(self.mixed_KRd, value_KdD, strict=True):
            flat_RD.addmm_(mixed_Rd, value_dD)

    def _in_node_order(self, token_PT: Tensor, node_columns: NodeColumns) -> Rows:
        feature_nodes, internal = node_columns.features(self.batch.layer, self.reach)
        error_nodes = node_columns.errors(self.batch.layer, self.reach)
        token_nodes = node_columns.tokens(self.reach)
        block = torch.cat([self.feature_TC[:, internal], self.error_LPT.flatten(0, 1).T, token_PT.T], dim=1)
        return Rows(block, torch.cat([feature_nodes, error_nodes, token_nodes]), self.bias_T)

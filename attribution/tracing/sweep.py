"""The backward sweep: compute rows of the adjacency matrix from their targets down to the embeddings.

The gradients `grad_PTD` of T targets go down the layers together. At each MLP output they are multiplied with the
source vectors there, which gives edges, and then pass through the affine skip connection and the frozen attention
(docs/tracing.md, "The sweep"). Every step is a large matrix product.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.graphs import NodeOrder
from cotrace.kernels.edge_rows import edge_rows, position_rows

from .batches import TargetBatch
from .replacement import LocalReplacementModel


class DenseRows(NamedTuple):
    """Finished rows of T targets, dense over the C sources that can reach one of them."""

    block_TC: Tensor
    columns_C: Tensor  # node numbers, ascending
    bias_T: Tensor  # contributions of constants, without the encoder's bias

    def __repr__(self) -> str:
        return f"<DenseRows: {len(self.block_TC)} rows of {len(self.columns_C):,} sources>"


class SourceColumns:
    """The node numbers of the sources that reach a batch, and their columns in the sweep."""

    def __init__(self, replacement: LocalReplacementModel, order: NodeOrder):
        self._features = replacement.features
        self._column_N = replacement.column_N
        self._n_positions = replacement.n_positions
        self._order = order

    def features(self, layer: int, n_positions: int) -> tuple[Tensor, Tensor]:
        """Return node numbers and columns of the features below a layer at the first positions."""
        reaches = (self._features.layer_N < layer) & (self._features.position_N < n_positions)
        nodes = reaches.nonzero()[:, 0]
        return nodes, self._column_N[nodes]

    def errors(self, layer: int, n_positions: int) -> Tensor:
        """Return node numbers of the error nodes below a layer at the first positions, (layer * n_positions,)."""
        device = self._column_N.device
        layers = torch.arange(layer, device=device)[:, None] * self._n_positions
        return (self._order.errors.start + layers + torch.arange(n_positions, device=device)).flatten()

    def tokens(self, n_positions: int) -> Tensor:
        """Return node numbers of the tokens at the first positions, (n_positions,)."""
        return self._order.tokens.start + torch.arange(n_positions, device=self._column_N.device)


def compute_rows(replacement: LocalReplacementModel, batch: TargetBatch, columns: SourceColumns) -> DenseRows:
    """Return the rows of a batch: direct effects of all sources, exact up to rounding in the replacement's dtype."""
    return _BackwardSweep(replacement, batch).run(columns)


class FrozenLayers:
    """Passes gradients back through the affine skips and the frozen attention of a local replacement model, in place.

    Buffers are reused in every layer: fresh pages cost time.

    Args:
        replacement: the prompt's local replacement model.
        n_positions: P, the first positions of the prompt, which gradients reach.
        n_targets: T.
    """

    def __init__(self, replacement: LocalReplacementModel, n_positions: int, n_targets: int):
        self.replacement, self.n_positions = replacement, n_positions
        like, rows = replacement.embedding_PD, n_positions * n_targets
        n_kv, d_head, d_model = replacement.attention[0][0].shape
        self._skip_RD = like.new_empty(rows, d_model)
        self._head_Rd = like.new_empty(rows, d_head)
        self._mixed_KRd = like.new_empty(n_kv, rows, d_head)

    def through_skip(self, layer: int, grad_PTD: Tensor) -> None:
        """Add the path through a layer's affine skip to the gradients, if it has one."""
        back_DD = self.replacement.skip_back[layer]
        if back_DD is not None:
            torch.mm(grad_PTD.flatten(0, 1), back_DD, out=self._skip_RD)
            scale_P = self.replacement.mlp_in_rms_LP[layer, : self.n_positions]
            grad_PTD.addcmul_(self._skip_RD.view_as(grad_PTD), scale_P[:, None, None])

    def through_attention(self, layer: int, grad_PTD: Tensor) -> None:
        """Add the path through a layer's frozen attention to the gradients."""
        value_KdD, output_HDd = self.replacement.attention[layer]
        flat_RD = grad_PTD.flatten(0, 1)
        mixed_KPE = self._mixed_KRd.zero_().view(len(value_KdD), self.n_positions, -1)
        for head, output_Dd in enumerate(output_HDd):
            torch.mm(flat_RD, output_Dd, out=self._head_Rd)
            mixed_PE = mixed_KPE[head * len(value_KdD) // len(output_HDd)]
            self.replacement.patterns[layer].add_backward(head, self._head_Rd.view_as(mixed_PE), mixed_PE)
        for mixed_Rd, value_dD in zip(self._mixed_KRd, value_KdD, strict=True):
            flat_RD.addmm_(mixed_Rd, value_dD)


class _BackwardSweep:
    """One pass of a batch's gradients down the layers, with the edges found so far."""

    def __init__(self, replacement: LocalReplacementModel, batch: TargetBatch):
        self.replacement, self.batch = replacement, batch
        self.n_positions = int(batch.position_T.max()) + 1  # later positions cannot reach a target
        n_targets, like = len(batch.read_TD), batch.read_TD
        n_columns = int(replacement.first_column_LP[-1, self.n_positions - 1])
        self.feature_TC = like.new_zeros(n_targets, n_columns)
        self.error_LPT = like.new_zeros(min(batch.layer, replacement.n_layers), self.n_positions, n_targets)
        self.bias_T = like.new_zeros(n_targets)
        self.frozen = FrozenLayers(replacement, self.n_positions, n_targets)

    def run(self, columns: SourceColumns) -> DenseRows:
        """Compute the batch's rows."""
        layer, read_TD = self.batch.layer, self.batch.read_TD
        # 1. Targets before an attention, or at the unembedding, read the output of the MLP below it too.
        if self.batch.before == "attention" and layer > 0:
            layer -= 1
            read_TD = self._through_first_mlp(layer, read_TD)
        # 2. The first attention spreads each gradient over all earlier positions; below that of layer 0 is none.
        if self.batch.before == "attention" and self.batch.layer == 0:
            grad_PTD = self._at_targets(read_TD)
        else:
            grad_PTD = self._through_first_attention(layer, read_TD)
        # 3. All layers below.
        while layer > 0:
            layer -= 1
            self._through_mlp(layer, grad_PTD)
            self.frozen.through_attention(layer, grad_PTD)
        # 4. Token embeddings.
        (token_PT,) = position_rows(grad_PTD, self.replacement.embedding_PD[None, : self.n_positions])
        return self._in_node_order(token_PT, columns)

    def _at_targets(self, read_TD: Tensor) -> Tensor:
        """Return gradients (P, T, D) with the read vectors at the targets' positions and zeros elsewhere."""
        targets = torch.arange(len(read_TD), device=read_TD.device)
        grad_PTD = read_TD.new_zeros(self.n_positions, *read_TD.shape)
        grad_PTD[self.batch.position_T, targets] = read_TD
        return grad_PTD

    def _through_first_mlp(self, layer: int, read_TD: Tensor) -> Tensor:
        """Return read vectors (T, D) before an MLP of targets that read above it, each at its own position.

        All positions pass together, zeros too: that is one product, and on a GPU cheaper than one for each position.
        """
        targets = torch.arange(len(read_TD), device=read_TD.device)
        grad_PTD = self._at_targets(read_TD)
        self._through_mlp(layer, grad_PTD)
        return grad_PTD[self.batch.position_T, targets]

    def _through_mlp(self, layer: int, grad_PTD: Tensor) -> None:
        """Add the edges from the source vectors at one layer's MLP output, and its skip connection to the gradients."""
        replacement, n_positions = self.replacement, self.n_positions
        for start, stop, vectors, group in replacement.decoder_vectors[layer].chunks(n_positions):
            edge_rows(grad_PTD[start:stop], group, vectors, self.feature_TC)
        error_PT, constant_PT = position_rows(grad_PTD, replacement.rest_LKPD[layer, :, :n_positions])
        self.error_LPT[layer] = error_PT
        self.bias_T += constant_PT.sum(0)
        self.frozen.through_skip(layer, grad_PTD)

    def _through_first_attention(self, layer: int, read_TD: Tensor) -> Tensor:
        """Return gradients (P, T, D) below one layer's attention, of targets that read above it at one position each."""
        value, output = self.replacement.attention[layer]
        targets = torch.arange(len(read_TD), device=read_TD.device)
        coefficient_HTP = self.replacement.patterns[layer].query_rows(self.batch.position_T, self.n_positions)
        head_HTd = read_TD @ output
        group = len(output) // len(value)
        grad_PTD = read_TD.new_zeros(self.n_positions, *read_TD.shape)
        for kv, value_dD in enumerate(value):
            heads = slice(kv * group, (kv + 1) * group)
            mixed_PTd = torch.einsum("htp,htd->ptd", coefficient_HTP[heads], head_HTd[heads])
            grad_PTD.flatten(0, 1).addmm_(mixed_PTd.flatten(0, 1), value_dD)
        grad_PTD[self.batch.position_T, targets] += read_TD
        return grad_PTD

    def _in_node_order(self, token_PT: Tensor, columns: SourceColumns) -> DenseRows:
        feature_nodes, internal = columns.features(self.batch.layer, self.n_positions)
        error_nodes = columns.errors(self.batch.layer, self.n_positions)
        token_nodes = columns.tokens(self.n_positions)
        block_TC = torch.cat([self.feature_TC[:, internal], self.error_LPT.flatten(0, 1).T, token_PT.T], dim=1)
        return DenseRows(block_TC, torch.cat([feature_nodes, error_nodes, token_nodes]), self.bias_T)

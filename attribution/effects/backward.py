"""The backward pass of effects: from targets down to the embeddings, with every path through features.

Gradients of K columns, each a target with a cut, go down the layers together. At each MLP output their dot products with
source vectors are effects; unlike in the sweep of a trace, which stops at features, they then pass through the features
themselves (docs/effects.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from cotrace.attribution.models.forward import FrozenLayer
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.kernels.edge_rows import edge_rows, position_rows

from .blocks import BLOCK_POSITIONS, ColumnLayout, EffectColumns
from .config import EffectsConfig
from .frozen import FrozenBlocks
from .layers import FeatureReads, RespondingLayers
from .run import Run


class EffectRows(NamedTuple):
    """Effects on K targets, of features, error nodes and tokens in node order, and of all constants together."""

    effect_KM: Tensor
    bias_K: Tensor


class EffectSweep:
    """Computes effects at one run of the model.

    Args:
        replacement: the prompt's local replacement model: its features, errors and constants.
        run: the run at which gradients are taken.
        frozen: what each layer freezes where attention or MLPs respond.
        config: which of them respond.
        neurons: whether features are neurons of the MLPs, which pass the norm after an MLP that responds.
    """

    def __init__(
        self,
        replacement: LocalReplacementModel,
        run: Run,
        frozen: Sequence[FrozenLayer],
        config: EffectsConfig,
        neurons: bool,
    ):
        self.replacement, self.run, self.frozen, self.config = replacement, run, frozen, config
        self.neurons = neurons
        self.reads = FeatureReads(replacement)

    def effects(self, columns: EffectColumns) -> EffectRows:
        """Return the effects of all nodes on the targets of some columns."""
        sweep = _Pass(self, columns)
        return sweep.in_node_order(sweep.down())

    def embedding_gradients(self, columns: EffectColumns) -> Tensor:
        """Return the gradients of the targets with respect to the embeddings, (P, K, D)."""
        sweep = _Pass(self, columns)
        return sweep.at_all_positions(sweep.down(collect=not self.config.mlps_respond))

    def layout(self, columns: EffectColumns) -> ColumnLayout:
        """Return blocks of positions for some columns; one block of all where a layer responds as a whole."""
        n_positions, device = self.replacement.n_positions, self.replacement.device.type
        size = BLOCK_POSITIONS[device] if self.config.freeze == "all" else n_positions
        return ColumnLayout(columns, n_positions, size)


class _Pass:
    """One pass of K gradients down the layers, with the effects found so far. Columns are in the order of the layout."""

    def __init__(self, sweep: EffectSweep, columns: EffectColumns):
        self.sweep, self.columns, self.replacement = sweep, columns, sweep.replacement
        replacement, n_columns, like = sweep.replacement, len(columns.layers), columns.read_KD
        self.layout = sweep.layout(columns)
        blocks, n_positions = self.layout.blocks, replacement.n_positions
        self.feature_KC = like.new_zeros(n_columns, len(replacement.features))
        self.error_LPK = like.new_zeros(replacement.n_layers, n_positions, n_columns)
        self.bias_BK = like.new_zeros(len(blocks), n_columns)
        self.responding = RespondingLayers(replacement.weights, sweep.run, sweep.frozen, blocks[-1].stop)
        self.frozen = None if sweep.config.mlps_respond else FrozenBlocks(replacement, self.layout)

    def down(self, collect: bool = True) -> list[Tensor]:
        """Pass the gradients down; return those with respect to the embeddings, (P', K', D) for each block.

        Effects of what MLPs write are found with `collect`, which gradients through features need.
        """
        config, n_layers, like = self.sweep.config, self.replacement.n_layers, self.columns.read_KD
        grads = [like.new_zeros(b.stop - b.start, b.n_columns, like.shape[1]) for b in self.layout.blocks]
        self._add_targets(n_layers, grads)
        for layer in reversed(range(n_layers)):
            # 1. Effects of the vectors that reach this layer; those of the layer's own features are then complete.
            if collect:
                self._collect(layer, grads)
            # 2. Through the features and the affine skip, or through the model's own MLP.
            self._through_mlp(layer, grads)
            # 3. Targets that are features of this layer.
            self._add_targets(layer, grads)
            # 4. Through the attention.
            if self.frozen is None or config.attention_responds:
                self.responding.through_attention(layer, grads[0])
            else:
                self.frozen.through_attention(layer, grads)
            # 5. Paths at the positions that are avoided end.
            for block, grad_PKD in zip(self.layout.blocks, grads, strict=True):
                if block.closed is not None:
                    grad_PKD[block.closed] = 0
        return grads

    def in_node_order(self, grads: list[Tensor]) -> EffectRows:
        """Return the effects of all nodes, given the gradients with respect to the embeddings."""
        replacement, (n_columns, n_features) = self.replacement, self.feature_KC.shape
        token_PK = self.feature_KC.new_zeros(replacement.n_positions, n_columns)
        for block, grad_PKD in zip(self.layout.blocks, grads, strict=True):
            here = slice(block.start, block.stop)
            (token_PK[here, : block.n_columns],) = position_rows(grad_PKD, replacement.embedding_PD[None, here])
        self._follow(token_PK)
        place_K, column_N = self.layout.place_K, replacement.column_N
        effect_KM = token_PK.new_empty(n_columns, n_features + self.error_LPK[..., 0].numel() + len(token_PK))
        effect_KM[:, :n_features] = self.feature_KC[place_K[:, None], column_N]
        effect_KM[:, n_features : -len(token_PK)] = self.error_LPK.flatten(0, 1)[:, place_K].T
        effect_KM[:, -len(token_PK) :] = token_PK[:, place_K].T
        return EffectRows(effect_KM, self.bias_BK.sum(0)[place_K])

    def at_all_positions(self, grads: list[Tensor]) -> Tensor:
        """Return the gradients of all blocks in one tensor, (P, K, D)."""
        like = self.columns.read_KD
        grad_PKD = like.new_zeros(self.replacement.n_positions, *like.shape)
        for block, here_PKD in zip(self.layout.blocks, grads, strict=True):
            grad_PKD[block.start : block.stop, : block.n_columns] = here_PKD
        for place, leader, b in self.layout.followed:
            grad_PKD[b * self.layout.size :, place] = grad_PKD[b * self.layout.size :, leader]
        return grad_PKD[:, self.layout.place_K]

    def _follow(self, token_PK: Tensor) -> None:
        """Copy the effects of later blocks to the columns that start below them."""
        first_column_P = self.replacement.first_column_LP[0].tolist()
        for place, leader, b in self.layout.followed:
            position = b * self.layout.size
            if position < len(first_column_P):
                column = first_column_P[position]
                self.feature_KC[place, column:] = self.feature_KC[leader, column:]
                self.error_LPK[:, position:, place] = self.error_LPK[:, position:, leader]
                token_PK[position:, place] = token_PK[position:, leader]
                self.bias_BK[b:, place] = self.bias_BK[b:, leader]

    def _add_targets(self, layer: int, grads: list[Tensor]) -> None:
        for b, (block, grad_PKD) in enumerate(zip(self.layout.blocks, grads, strict=True)):
            columns, places = self.layout.starts(b, layer)
            if columns:
                grad_PKD[self.columns.position_K[columns] - block.start, places] += self.columns.read_KD[columns]

    def _through_mlp(self, layer: int, grads: list[Tensor]) -> None:
        """Add the path through a layer's MLP, or through the features and the affine skip that replace it."""
        if self.frozen is None:
            self.responding.through_mlp(layer, grads[0])
            return
        for b, (block, grad_PKD) in enumerate(zip(self.layout.blocks, grads, strict=True)):
            self.frozen.through_skip(layer, block, grad_PKD)
            feature_KC = self.feature_KC[: block.n_columns]
            self.bias_BK[b, : block.n_columns] += self.sweep.reads.through(layer, block, feature_KC, grad_PKD)

    def _collect(self, layer: int, grads: list[Tensor]) -> None:
        """Add the effects of the source vectors, error nodes and constants at one layer's MLP output."""
        replacement, blocks = self.replacement, self.layout.blocks
        sources = grads
        if self.sweep.neurons and self.sweep.config.mlps_respond:
            sources = [self.responding.neuron_gradients(layer, grads[0])]
        for start, stop, vectors, group in replacement.decoder_vectors[layer].chunks(blocks[-1].stop):
            for block, source_PKD in zip(blocks, sources, strict=True):
                first, last = max(start, block.start), min(stop, block.stop)
                if first < last:
                    here_QKD = source_PKD[first - block.start : last - block.start]
                    edge_rows(here_QKD, group + first - start, vectors, self.feature_KC[: block.n_columns])
        for b, (block, grad_PKD) in enumerate(zip(blocks, grads, strict=True)):
            here, n_columns = slice(block.start, block.stop), block.n_columns
            error_PK, constant_PK = position_rows(grad_PKD, replacement.rest_LKPD[layer, :, here])
            self.error_LPK[layer, here, :n_columns] = error_PK
            self.bias_BK[b, :n_columns] += constant_PK.sum(0)

"""The backward pass of effects: from targets down to the embeddings, with every path through features.

Gradients of K columns, each a target with a cut, go down the layers together. At each MLP output their dot products with
source vectors are effects; unlike in the sweep of a trace, which stops at features, they then pass through the features
themselves (docs/effects.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.forward import FrozenLayer
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.sweep import FrozenLayers
from cotrace.kernels.edge_rows import edge_rows, position_rows

from .config import EffectsConfig
from .layers import FeatureReads, RespondingLayers
from .run import Run


class EffectColumns(NamedTuple):
    """K columns of a backward pass.

    Attributes:
        layers: the layer before whose MLP each target is read; L is the unembedding.
        position_K: the position where it is read.
        read_KD: the gradient of its value with respect to the residual stream there.
        open_KP: False at the positions that paths must avoid; None without cuts.
    """

    layers: Sequence[int]
    position_K: Tensor
    read_KD: Tensor
    open_KP: Tensor | None = None

    def __repr__(self) -> str:
        return f"<EffectColumns: {len(self.layers)}>"


class EffectRows(NamedTuple):
    """Effects on K targets, of N features, L x P error nodes, P tokens and all constants together."""

    feature_KN: Tensor
    error_KLP: Tensor
    token_KP: Tensor
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
        sweep = _Columns(self, columns)
        grad_PKD = sweep.down()
        (token_PK,) = position_rows(grad_PKD, self.replacement.embedding_PD[None, : sweep.n_positions])
        return sweep.in_node_order(token_PK)

    def embedding_gradients(self, columns: EffectColumns) -> Tensor:
        """Return the gradients of the targets with respect to the embeddings, (P', K, D), up to the last target."""
        return _Columns(self, columns).down()


class _Columns:
    """One pass of K gradients down the layers, with the effects found so far."""

    def __init__(self, sweep: EffectSweep, columns: EffectColumns):
        self.sweep, self.columns, self.replacement = sweep, columns, sweep.replacement
        replacement, n_columns, like = sweep.replacement, len(columns.layers), columns.read_KD
        self.n_positions = int(columns.position_K.max()) + 1  # later positions cannot reach a target
        self.feature_KC = like.new_zeros(n_columns, int(replacement.first_column_LP[-1, self.n_positions - 1]))
        self.error_LPK = like.new_zeros(replacement.n_layers, self.n_positions, n_columns)
        self.bias_K = like.new_zeros(n_columns)
        self.responding = RespondingLayers(replacement.weights, sweep.run, sweep.frozen, self.n_positions)
        self.frozen = None if sweep.config.mlps_respond else FrozenLayers(replacement, self.n_positions, n_columns)

    def down(self) -> Tensor:
        """Pass the gradients down; return those with respect to the embeddings, (P, K, D)."""
        config, n_layers = self.sweep.config, self.replacement.n_layers
        grad_PKD = self.columns.read_KD.new_zeros(self.n_positions, *self.columns.read_KD.shape)
        self._add_targets(n_layers, grad_PKD)
        for layer in reversed(range(n_layers)):
            # 1. Effects of what is written here; those of the layer's own features are then complete.
            self._collect(layer, grad_PKD)
            # 2. Through the features and the affine skip, or through the model's own MLP.
            if self.frozen is None:
                self.responding.through_mlp(layer, grad_PKD)
            else:
                self.frozen.through_skip(layer, grad_PKD)
                self.bias_K += self.sweep.reads.through(layer, self.feature_KC, grad_PKD)
            # 3. Targets that are features of this layer.
            self._add_targets(layer, grad_PKD)
            # 4. Through the attention.
            if self.frozen is None or config.attention_responds:
                self.responding.through_attention(layer, grad_PKD)
            else:
                self.frozen.through_attention(layer, grad_PKD)
            self._cut(grad_PKD)
        return grad_PKD

    def in_node_order(self, token_PK: Tensor) -> EffectRows:
        """Return the effects, with zeros at positions after the last target."""
        replacement, missing = self.replacement, self.replacement.n_positions - self.n_positions
        column_N = replacement.column_N
        reached_N = replacement.features.position_N < self.n_positions
        feature_KN = self.feature_KC.new_zeros(len(self.feature_KC), len(column_N))
        feature_KN[:, reached_N] = self.feature_KC[:, column_N[reached_N]]
        pad = torch.nn.functional.pad
        return EffectRows(
            feature_KN, pad(self.error_LPK.permute(2, 0, 1), (0, missing)), pad(token_PK.T, (0, missing)), self.bias_K
        )

    def _add_targets(self, layer: int, grad_PKD: Tensor) -> None:
        chosen = [k for k, own in enumerate(self.columns.layers) if own == layer]
        if chosen:
            grad_PKD[self.columns.position_K[chosen], chosen] += self.columns.read_KD[chosen]

    def _collect(self, layer: int, grad_PKD: Tensor) -> None:
        """Add the effects of the source vectors, error nodes and constants at one layer's MLP output."""
        replacement, n_positions = self.replacement, self.n_positions
        source_PKD = grad_PKD
        if self.sweep.neurons and self.sweep.config.mlps_respond:
            source_PKD = self.responding.neuron_gradients(layer, grad_PKD)
        for start, stop, vectors, group in replacement.decoder_vectors[layer].chunks(n_positions):
            edge_rows(source_PKD[start:stop], group, vectors, self.feature_KC)
        error_PK, constant_PK = position_rows(grad_PKD, replacement.rest_LKPD[layer, :, :n_positions])
        self.error_LPK[layer] = error_PK
        self.bias_K += constant_PK.sum(0)

    def _cut(self, grad_PKD: Tensor) -> None:
        """Set gradients to zero at the positions that paths must avoid."""
        if self.columns.open_KP is not None:
            grad_PKD *= self.columns.open_KP.T[: self.n_positions, :, None]

"""Gradients back through one layer: along the local replacement model, or as the model responds.

`grad_PKD` holds the gradients of K columns (targets, each with a cut) with respect to the residual stream at the first P
positions. Every function adds the path through a part of a layer in place; the residual stream itself passes them on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cotrace.attribution.models.forward import FrozenLayer
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.kernels.edge_rows import SourceVectors, add_source_vectors

from .blocks import PositionBlock
from .responses import AttentionResponse, MLPResponse, first_positions
from .run import Run


class FeatureReads:
    """Passes gradients back through the active features of a local replacement model, whose encoders are linear."""

    def __init__(self, replacement: LocalReplacementModel):
        self.replacement = replacement
        n_layers, features = replacement.n_layers, replacement.features
        self._bounds = torch.searchsorted(
            features.layer_N, torch.arange(n_layers + 1, device=features.layer_N.device)
        ).tolist()

    def through(self, layer: int, block: PositionBlock, feature_KC: Tensor, grad_PKD: Tensor) -> Tensor:
        """Add the paths through a layer's features in a block; return those of their encoder biases, (K,).

        An active feature equals its pre-activation, so that its gradient is its effect over its activation.

        Args:
            layer: the layer.
            block: positions and columns.
            feature_KC: effects of features on these columns, by column of the sweep.
            grad_PKD: gradients at these positions.
        """
        replacement, features = self.replacement, self.replacement.features
        first, stop = self._bounds[layer : layer + 2]
        edges = torch.arange(block.start, block.stop + 1, device=features.position_N.device)
        offsets = torch.searchsorted(features.position_N[first:stop].contiguous(), edges)
        index_n = torch.arange(first + int(offsets[0]), first + int(offsets[-1]), device=edges.device)
        inverse_n = 1 / features.activation_N[index_n]
        vectors_nD = replacement.read_vectors(layer, index_n).mul_(inverse_n[:, None])
        columns = replacement.first_column_LP[layer, block.start : block.stop].tolist()
        reads = SourceVectors(vectors_nD, (offsets - offsets[0]).tolist(), columns)
        add_source_vectors(feature_KC, 0, reads, grad_PKD)
        return feature_KC[:, replacement.column_N[index_n]] @ (features.bias_N[index_n] * inverse_n)


class RespondingLayers:
    """Passes gradients back through attention and MLPs that respond, with their norms, in place.

    Of the layer that was used last, the values inside it are kept.

    Args:
        weights: the model.
        run: the run at which it is differentiated.
        frozen: what each layer freezes.
        n_positions: P, the first positions of the prompt, which gradients reach.
    """

    def __init__(self, weights: Gemma3, run: Run, frozen: Sequence[FrozenLayer], n_positions: int):
        self.weights, self.run, self.frozen, self.n_positions = weights, run, frozen, n_positions
        self._attention: AttentionResponse | None = None
        self._mlp: MLPResponse | None = None

    def attention(self, layer: int) -> AttentionResponse:
        """Return a layer's attention at the run."""
        if self._attention is None or self._attention.layer != layer:
            resid_PD = self.run.resid_LPD[layer][: self.n_positions]
            frozen = first_positions(self.frozen[layer], self.n_positions)
            self._attention, self._mlp = AttentionResponse(self.weights, layer, resid_PD, frozen), None
        return self._attention

    def mlp(self, layer: int) -> MLPResponse:
        """Return a layer's MLP at the run."""
        attention = self.attention(layer)
        if self._mlp is None:
            self._mlp = MLPResponse(self.weights, attention.w, self.before_mlp(layer))
        return self._mlp

    def before_mlp(self, layer: int) -> Tensor:
        """Return the residual stream (P, D) before a layer's MLP."""
        return self.run.resid_LPD[layer][: self.n_positions] + self.attention(layer).out_PD

    def through_mlp(self, layer: int, grad_PKD: Tensor) -> None:
        """Add the path through a layer's MLP with its norms."""
        self.mlp(layer).add_back(grad_PKD)

    def through_attention(self, layer: int, grad_PKD: Tensor) -> None:
        """Add the path through a layer's attention with its norms: values, and scores unless the pattern is frozen."""
        self.attention(layer).add_back(grad_PKD)

    def neuron_gradients(self, layer: int, grad_PKD: Tensor) -> Tensor:
        """Return gradients (P, K, D) that give the effect of a neuron by its source vector: the norm after it responds.

        A source vector contains that norm's frozen scale. Its derivative takes away the part along the MLP's output.
        """
        norm = self.mlp(layer).norm_out
        out_PD, factor_D = norm.out_PD, norm.factor_D.to(grad_PKD)
        squared_D = torch.where(factor_D == 0, torch.inf, factor_D).square()  # a factor of 0 writes nothing
        along_PK1 = torch.einsum("pkd,pd->pk", grad_PKD, out_PD)[..., None] / out_PD.shape[1]
        return grad_PKD - along_PK1 * (out_PD / squared_D)[:, None]

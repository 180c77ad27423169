"""Gradients back through one layer: along the local replacement model, or as the model responds.

`grad_PKD` holds the gradients of K columns (targets, each with a cut) with respect to the residual stream at the first P
positions. Every function adds the path through a part of a layer in place; the residual stream itself passes them on.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass, FrozenLayer
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.kernels.edge_rows import SourceVectors, add_source_vectors

from .blocks import PositionBlock
from .run import Run

RESPONSE_BYTES = 2**29  # of the gradients of columns that pass an attention or MLP together


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
    """Passes gradients back through attention and MLPs that respond, by automatic differentiation of each layer.

    Args:
        weights: the model.
        run: the run at which it is differentiated.
        frozen: what each layer freezes.
        n_positions: P, the first positions of the prompt, which gradients reach.
    """

    def __init__(self, weights: Gemma3, run: Run, frozen: Sequence[FrozenLayer], n_positions: int):
        self.weights, self.run, self.n_positions = weights, run, n_positions
        self.forward_pass = ForwardPass(weights, run.final_resid_PD, frozen=frozen)
        arch = weights.architecture
        row = max(arch.n_heads * len(run.final_resid_PD), 2 * arch.d_mlp)  # numbers a position needs in one column
        self.columns_at_once = max(1, RESPONSE_BYTES // (n_positions * row * run.final_resid_PD.itemsize))

    def before_mlp(self, layer: int) -> Tensor:
        """Return the residual stream (P, D) before a layer's MLP."""
        resid_PD = self.run.resid_LPD[layer]
        return resid_PD + self.forward_pass.attend(layer, self.weights.layer(layer), resid_PD).out_PD

    def through_mlp(self, layer: int, grad_PKD: Tensor) -> None:
        """Add the path through a layer's MLP with its norms."""
        w = self.weights.layer(layer)

        def mlp(resid_PD: Tensor) -> Tensor:
            return self.weights.mlp(w, self.weights.rms_norm(resid_PD, w.norm_mlp_in_D)[0])[0]

        self._through(mlp, self.before_mlp(layer), grad_PKD)

    def through_attention(self, layer: int, grad_PKD: Tensor) -> None:
        """Add the path through a layer's attention with its norms: values, and scores unless the pattern is frozen."""
        w = self.weights.layer(layer)
        self._through(
            lambda resid_PD: self.forward_pass.attend(layer, w, resid_PD).out_PD, self.run.resid_LPD[layer], grad_PKD
        )

    def neuron_gradients(self, layer: int, grad_PKD: Tensor) -> Tensor:
        """Return gradients (P, K, D) that give the effect of a neuron by its source vector: the norm after it responds.

        A source vector contains that norm's frozen scale. Its derivative takes away the part along the MLP's output.
        """
        w, n_positions = self.weights.layer(layer), self.n_positions
        mlp_in_PD = self.weights.rms_norm(self.before_mlp(layer), w.norm_mlp_in_D)[0]
        out_PD = self.weights.mlp(w, mlp_in_PD)[0][:n_positions]
        factor_D = w.norm_mlp_out_D.to(out_PD)
        squared_D = torch.where(factor_D == 0, torch.inf, factor_D).square()  # a factor of 0 writes nothing
        along_PK1 = torch.einsum("pkd,pd->pk", grad_PKD, out_PD)[..., None] / out_PD.shape[1]
        return grad_PKD - along_PK1 * (out_PD / squared_D)[:, None]

    def _through(self, function: Callable[[Tensor], Tensor], resid_PD: Tensor, grad_PKD: Tensor) -> None:
        """Add the product of gradients and the function's Jacobian at the residual stream."""
        with torch.enable_grad():
            point_PD = resid_PD[: self.n_positions].detach().requires_grad_()
            out_PD = function(point_PD)
        for grad_PkD in grad_PKD.split(self.columns_at_once, 1):
            grad_kPD = grad_PkD.transpose(0, 1).contiguous()
            (back_kPD,) = torch.autograd.grad(out_PD, point_PD, grad_kPD, retain_graph=True, is_grads_batched=True)
            grad_PkD += back_kPD.transpose(0, 1)

"""The MLP neurons of the model as features: exact, without any download, and not sparse."""

import torch
from torch import Tensor

from cotrace.attribution.models.forward import LayerCache
from cotrace.attribution.models.gemma3 import Gemma3, LayerWeights
from cotrace.common.errors import ArgumentError
from cotrace.kernels.active import Active, FeatureIndex, look_up

from .base import LayerFeatures, Transcoders

DEFAULT_K = 32


class NeuronTranscoders(Transcoders):
    """MLP neurons as features. Their gates are frozen, so that each is linear in the MLP's input.

    The activation is `a = gelu(gate) * up` (signed). A neuron reads `gelu(gate) * w_up[n]` and writes `a * w_down[:, n]`
    through the frozen post-feedforward norm. At each layer and position, the `k` neurons with the largest
    `|a| * norm(output vector)` are features; the others are part of the error node, so that graphs are exact for any k.
    """

    kind = "neurons"
    part_of_mlp = True

    def __init__(self, k: int = DEFAULT_K):
        if k < 1:
            raise ArgumentError(f"invalid neurons:{k}: expected at least 1 neuron per layer and position")
        self.k = k
        self.name = f"neurons:{k}"

    def encode(self, layer_cache: LayerCache, weights: Gemma3, positions: Tensor) -> LayerFeatures:
        """Return the strongest k neurons of each position."""
        layer = weights.layer(layer_cache.layer)
        active, gate_n = self._strongest(layer_cache, weights, positions)
        used, row_n = active.feature_n.unique(return_inverse=True)
        return LayerFeatures(
            *(active.position_n, active.feature_n, active.activation_n, active.pre_activation_n),
            bias_n=torch.zeros_like(active.activation_n),
            encoder_UD=layer.w_up[used],
            decoder_UJD=self.decoders(layer_cache.layer, used, weights),
            row_n=row_n,
            read_scale_n=gate_n,
            write_scale_n=active.activation_n * layer_cache.rms_mlp_out_P[active.position_n],
        )

    def active_at(self, layer_cache: LayerCache, weights: Gemma3, positions: Tensor) -> Active:
        """Return the strongest k neurons of each position."""
        return self._strongest(layer_cache, weights, positions)[0]

    def activations(self, active: Active, layer_cache: LayerCache, weights: Gemma3, index: FeatureIndex) -> Tensor:
        """Return activations (n,) of any neurons, the strongest or not."""
        x_nD, layer = layer_cache.mlp_in_PD[index.position_n], weights.layer(layer_cache.layer)
        up_n = (x_nD * layer.w_up[index.feature_n]).sum(-1)
        exact_n = self._gates(layer, weights, x_nD, index.feature_n) * up_n
        found_n = look_up(active, index)  # bit-equal for the strongest
        return torch.where(found_n != 0, found_n, exact_n)

    def encoders(self, layer_cache: LayerCache, weights: Gemma3, index: FeatureIndex) -> Tensor:
        """Return the up-projection vectors of neurons times their frozen gates, (n, D)."""
        layer = weights.layer(layer_cache.layer)
        gate_n = self._gates(layer, weights, layer_cache.mlp_in_PD[index.position_n], index.feature_n)
        return gate_n[:, None] * layer.w_up[index.feature_n]

    def decoders(self, layer: int, feature_U: Tensor, weights: Gemma3) -> Tensor:
        """Return the output vectors of neurons before the norm's scale, (U, 1, D)."""
        w = weights.layer(layer)
        return (w.w_down.T[feature_U] * w.norm_mlp_out_D)[:, None]

    def write_scale(self, layer_cache: LayerCache, position_n: Tensor) -> Tensor:
        """Return the post-feedforward norm's scale, (n,)."""
        return layer_cache.rms_mlp_out_P[position_n]

    def width(self, layer: int, weights: Gemma3) -> int:
        """Return the number of neurons of a layer."""
        return weights.architecture.d_mlp

    def _gates(self, layer: LayerWeights, weights: Gemma3, x_nD: Tensor, feature_n: Tensor) -> Tensor:
        return weights.activation((x_nD * layer.w_gate[feature_n]).sum(-1))

    def _strongest(self, layer_cache: LayerCache, weights: Gemma3, positions: Tensor) -> tuple[Active, Tensor]:
        """Return the strongest k neurons of each position, and their gates (n,)."""
        layer = weights.layer(layer_cache.layer)
        x_pD = layer_cache.mlp_in_PD[positions]
        gate_pM = weights.activation(x_pD @ layer.w_gate.T)
        activation_pM = gate_pM * (x_pD @ layer.w_up.T)
        length_M = (layer.w_down.T * layer.norm_mlp_out_D).norm(dim=1)
        strength_pM = activation_pM.abs() * length_M
        strongest = strength_pM.topk(min(self.k, strength_pM.shape[1]), dim=1).indices.sort(dim=1).values
        row = torch.arange(len(x_pD), device=x_pD.device).repeat_interleave(strongest.shape[1])
        feature_n = strongest.flatten()
        alive = activation_pM[row, feature_n] != 0
        row, feature_n = row[alive], feature_n[alive]
        activation_n = activation_pM[row, feature_n]
        # With its gate frozen a neuron is linear, so that its pre-activation is its activation.
        return Active(positions[row], feature_n, activation_n, activation_n), gate_pM[row, feature_n]

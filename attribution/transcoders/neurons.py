"""The model's own MLP neurons as features: exact, no download, not sparse."""

import torch
from torch import Tensor

from ..weights import Gemma3Weights, LayerPass
from .base import Encoded, Transcoders

DEFAULT_K = 32


class NeuronTranscoders(Transcoders):
    """Each MLP neuron as a feature whose gate is frozen, so that it is linear in the MLP's input.

    `a = gelu(gate) * up` (signed); reads `gelu(gate) * w_up[n]`, writes `a * w_down[:, n]` through
    the frozen post-feedforward norm. The k neurons with the largest `|a| * norm(write direction)`
    of each layer and position are nodes; the rest stay in the error node, so conservation holds
    for every k.
    """

    kind = "neurons"

    def __init__(self, k: int = DEFAULT_K):
        if k < 1:
            raise ValueError(f"neurons:{k} asks for no neuron at all; ask for at least 1 per layer and position")
        self.k = k
        self.name = f"neurons:{k}"

    def encode(self, done: LayerPass, weights: Gemma3Weights, positions: Tensor) -> Encoded:
        """The strongest k neurons of each position; see the class."""
        layer = weights.layer(done.layer)
        x_pD = done.mlp_in_PD[positions]
        gate_pM = weights.activation(x_pD @ layer.w_gate.T)
        activation_pM = gate_pM * (x_pD @ layer.w_up.T)
        decoder_MD = layer.w_down.T * layer.norm_mlp_out_D
        strength_pM = activation_pM.abs() * decoder_MD.norm(dim=1)
        strongest = strength_pM.topk(min(self.k, strength_pM.shape[1]), dim=1).indices.sort(dim=1).values
        row, feature_n = (
            torch.arange(len(x_pD), device=x_pD.device).repeat_interleave(strongest.shape[1]),
            strongest.flatten(),
        )
        alive = activation_pM[row, feature_n] != 0
        row, feature_n = row[alive], feature_n[alive]
        activation_n = activation_pM[row, feature_n]
        used, row_n = feature_n.unique(return_inverse=True)
        return Encoded(
            position_n=positions[row],
            feature_n=feature_n,
            activation_n=activation_n,
            pre_activation_n=activation_n,  # with its gate frozen a neuron is linear: no other pre-activation
            bias_n=torch.zeros_like(activation_n),
            encoder_UD=layer.w_up[used],
            decoder_UJD=decoder_MD[used][:, None],
            row_n=row_n,
            read_scale_n=gate_pM[row, feature_n],
            write_scale_n=activation_n * done.rms_mlp_out_P[positions[row]],
        )

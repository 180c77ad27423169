"""The dictionaries that are being trained: parameters, and what features write for a batch of tokens.

Everything is in fitted units (`Units`): inputs have mean 0, the same spread in every dimension and a
mean squared length of 1; outputs a mean squared length of D around their mean. `export` folds the units back into the weights.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cotrace.kernels.active import Active
from cotrace.kernels.decode import decode
from cotrace.kernels.encode import encode

from .config import Config
from .estimators import jump_relu, pre_activations, step
from .shards import WHOLE, Shard

FIRST_THRESHOLD = 0.1  # of jumprelu; pre-activations start with a spread of about 1


class Units(NamedTuple):
    """What inputs and outputs are measured in, by layer."""

    x_mean_LD: Tensor
    x_scale_LD: Tensor
    y_mean_LD: Tensor
    y_scale_L: Tensor

    def of_inputs(self, x_LPD: Tensor) -> Tensor:
        """Inputs in these units."""
        return (x_LPD - self.x_mean_LD[:, None]) / self.x_scale_LD[:, None]

    def of_outputs(self, y_LPD: Tensor) -> Tensor:
        """Outputs in these units."""
        return (y_LPD - self.y_mean_LD[:, None]) / self.y_scale_L[:, None, None]


class Entries(NamedTuple):
    """One layer's features that are active, or near enough to their threshold to have a gradient. n entries."""

    position_n: Tensor
    feature_n: Tensor
    activation_n: Tensor  # 0 below the threshold
    on_n: Tensor  # 1 where active, with a gradient for the threshold


class DecodedOutput(NamedTuple):
    """What a dictionary writes for a batch of tokens, and which features did."""

    y_MLPD: Tensor  # by each nested prefix of the features, all of them last
    entries: list[Entries]


class Dictionary(nn.Module):
    """Features of every layer, or a shard of them: those of one of several processes."""

    def __init__(self, config: Config, n_layers: int, d_model: int, shard: Shard = WHOLE):
        super().__init__()
        self.config, self.shard, self.n_layers = config, shard, n_layers
        self.features = shard.part(config.width)  # of each layer, by their number in the whole dictionary
        n = len(self.features)
        written = [n_layers - layer if config.kind == "clt" else 1 for layer in range(n_layers)]
        self.w_enc = nn.ParameterList(torch.zeros(n, d_model) for _ in range(n_layers))
        self.b_enc = nn.ParameterList(torch.zeros(n) for _ in range(n_layers))
        self.w_dec = nn.ParameterList(torch.zeros(n, n_written, d_model) for n_written in written)
        self.b_dec = nn.Parameter(torch.zeros(n_layers, d_model))
        self.skip = nn.Parameter(torch.zeros(n_layers, d_model, d_model)) if config.has_skip else None
        self.threshold = nn.ParameterList(
            torch.full((n,), FIRST_THRESHOLD) for _ in range(n_layers if config.activation == "jumprelu" else 0)
        )
        self.prefixes = (*config.matryoshka, config.width)

    def forward(self, x_LPD: Tensor) -> DecodedOutput:
        """What is written for inputs in fitted units, (M, L, P, D); skips and biases are of every prefix."""
        entries = [self.entries(layer, x_PD) for layer, x_PD in enumerate(x_LPD)]
        y_LPD = self.b_dec[:, None].expand_as(x_LPD)
        if self.skip is not None and self.config.in_bfloat16(x_LPD.device.type):
            with torch.autocast(x_LPD.device.type, torch.bfloat16):
                mapped_LPD = x_LPD @ self.skip
            y_LPD = y_LPD + mapped_LPD
        elif self.skip is not None:
            y_LPD = torch.baddbmm(y_LPD, x_LPD, self.skip)
        return DecodedOutput(y_LPD + self.shard.summed(self._decoded(entries, x_LPD.shape[1])), entries)

    def _decoded(self, entries: list[Entries], n_positions: int) -> Tensor:
        """What this shard's features write, for each prefix."""
        first, groups = 0, []
        for size in self.prefixes:
            inside = range(max(first, self.features.start), max(min(size, self.features.stop), self.features.start))
            groups.append(decode([self._within(found, inside) for found in entries], list(self.w_dec), n_positions))
            first = size
        return torch.stack(groups).cumsum(0)

    def _within(self, found: Entries, features: range) -> Active:
        """Entries of some features, by their row here. Those below their threshold write nothing, yet have a gradient."""
        if len(features) == len(self.features):
            return Active(found.position_n, found.feature_n, found.activation_n, found.activation_n)
        first = self.features.start
        keep_n = (found.feature_n >= features.start - first) & (found.feature_n < features.stop - first)
        activation_n = found.activation_n[keep_n]
        return Active(found.position_n[keep_n], found.feature_n[keep_n], activation_n, activation_n)

    def entries(self, layer: int, x_PD: Tensor) -> Entries:
        """One layer's features for inputs (P, D) in fitted units."""
        w_enc_FD, b_enc_F = self.w_enc[layer], self.b_enc[layer]
        position_n, feature_n, z_n = self._candidates(layer, x_PD)
        z_n = pre_activations(x_PD, w_enc_FD, b_enc_F, position_n, feature_n, z_n)
        if self.config.activation != "jumprelu":
            return Entries(position_n, feature_n, z_n, torch.ones_like(z_n))
        threshold_n = self.threshold[layer][feature_n]
        activation_n = jump_relu(z_n, threshold_n, self.config.bandwidth)
        return Entries(position_n, feature_n, activation_n, step(z_n, threshold_n, self.config.bandwidth))

    @torch.no_grad()
    def _candidates(self, layer: int, x_PD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features that are active or have a gradient for their threshold; for TopK the largest of all shards."""
        coarse_PD = x_PD.bfloat16() if self.config.in_bfloat16(x_PD.device.type) else x_PD
        weights, k = (coarse_PD, self.w_enc[layer].T, self.b_enc[layer]), round(self.config.target_l0)
        if self.config.activation == "jumprelu":
            found = encode(*weights, threshold_F=self.threshold[layer] - self.config.bandwidth / 2)
        elif self.config.activation == "topk":
            found = self.shard.largest_of_position(encode(*weights, k=k), k, len(x_PD))
        else:
            found = self.shard.largest(encode(*weights, batch_k=k), k * len(x_PD))
        return found.position_n, found.feature_n, found.pre_activation_n.to(x_PD)

"""`Dictionary`: the parameters of transcoders in training, and their output for a batch of tokens.

Inputs and outputs are normalized (`Normalization`): inputs have mean 0, the same spread in every dimension and a mean
squared length of 1; outputs have a mean squared length of D around their mean. `export` folds the normalization back
into the weights.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cotrace.kernels.active import Active
from cotrace.kernels.decode import decode
from cotrace.kernels.encode import encode

from .config import TrainingConfig
from .estimators import heaviside, jump_relu, pre_activations
from .shards import SINGLE_PROCESS, Shard

INITIAL_THRESHOLD = 0.1  # of jumprelu; pre-activations start with a standard deviation of about 1


class Normalization(NamedTuple):
    """Means and scales of the MLP inputs and outputs of each layer."""

    x_mean_LD: Tensor
    x_scale_LD: Tensor
    y_mean_LD: Tensor
    y_scale_L: Tensor

    def normalize_inputs(self, x_LPD: Tensor) -> Tensor:
        """Return normalized inputs (L, P, D)."""
        return (x_LPD - self.x_mean_LD[:, None]) / self.x_scale_LD[:, None]

    def normalize_outputs(self, y_LPD: Tensor) -> Tensor:
        """Return normalized outputs (L, P, D)."""
        return (y_LPD - self.y_mean_LD[:, None]) / self.y_scale_L[:, None, None]


class SparseActivations(NamedTuple):
    """n entries of one layer: features that are active, or close enough to their threshold to have a gradient."""

    position_n: Tensor
    feature_n: Tensor
    activation_n: Tensor  # 0 below the threshold
    is_active_n: Tensor  # 1 where active, else 0, with a gradient for the threshold


class DecodedOutput(NamedTuple):
    """The output of a dictionary for a batch of tokens, and the active features of each layer."""

    y_MLPD: Tensor  # for each of M nested prefixes of the features; the last one has all features
    active: list[SparseActivations]


class Dictionary(nn.Module):
    """The features of every layer or, with several processes, this process's shard of them."""

    def __init__(self, config: TrainingConfig, n_layers: int, d_model: int, shard: Shard = SINGLE_PROCESS):
        super().__init__()
        self.config, self.shard, self.n_layers = config, shard, n_layers
        self.features = shard.feature_range(config.width)  # in each layer, as feature ids of the whole dictionary
        n = len(self.features)
        output_layers = [n_layers - layer if config.kind == "clt" else 1 for layer in range(n_layers)]
        self.w_enc = nn.ParameterList(torch.zeros(n, d_model) for _ in range(n_layers))
        self.b_enc = nn.ParameterList(torch.zeros(n) for _ in range(n_layers))
        self.w_dec = nn.ParameterList(torch.zeros(n, n_outputs, d_model) for n_outputs in output_layers)
        self.b_dec = nn.Parameter(torch.zeros(n_layers, d_model))
        self.skip = nn.Parameter(torch.zeros(n_layers, d_model, d_model)) if config.has_skip else None
        self.threshold = nn.ParameterList(
            torch.full((n,), INITIAL_THRESHOLD) for _ in range(n_layers if config.activation == "jumprelu" else 0)
        )
        self.prefixes = (*config.matryoshka, config.width)

    def forward(self, x_LPD: Tensor) -> DecodedOutput:
        """Return the outputs (M, L, P, D) for normalized inputs (L, P, D); every prefix includes skips and biases."""
        active = [self.encode(layer, x_PD) for layer, x_PD in enumerate(x_LPD)]
        y_LPD = self.b_dec[:, None].expand_as(x_LPD)
        if self.skip is not None and self.config.uses_bfloat16(x_LPD.device.type):
            with torch.autocast(x_LPD.device.type, torch.bfloat16):
                mapped_LPD = x_LPD @ self.skip
            y_LPD = y_LPD + mapped_LPD
        elif self.skip is not None:
            y_LPD = torch.baddbmm(y_LPD, x_LPD, self.skip)
        features_MLPD = self.shard.sum_with_gradient(self._decode_prefixes(active, x_LPD.shape[1]))
        return DecodedOutput(y_LPD + features_MLPD, active)

    def _decode_prefixes(self, active: list[SparseActivations], n_positions: int) -> Tensor:
        """Return the output (M, L, P, D) of this shard's features for each prefix."""
        first, groups = 0, []
        for size in self.prefixes:
            inside = range(max(first, self.features.start), max(min(size, self.features.stop), self.features.start))
            selected = [self._select_features(entries, inside) for entries in active]
            groups.append(decode(selected, list(self.w_dec), n_positions))
            first = size
        return torch.stack(groups).cumsum(0)

    def _select_features(self, entries: SparseActivations, features: range) -> Active:
        """Return the entries of a range of features, by their row in this shard.

        Entries below their threshold add nothing to the output, but have a gradient.
        """
        if len(features) == len(self.features):
            return Active(entries.position_n, entries.feature_n, entries.activation_n, entries.activation_n)
        first = self.features.start
        keep_n = (entries.feature_n >= features.start - first) & (entries.feature_n < features.stop - first)
        activation_n = entries.activation_n[keep_n]
        return Active(entries.position_n[keep_n], entries.feature_n[keep_n], activation_n, activation_n)

    def encode(self, layer: int, x_PD: Tensor) -> SparseActivations:
        """Return the active features of one layer for normalized inputs (P, D)."""
        w_enc_FD, b_enc_F = self.w_enc[layer], self.b_enc[layer]
        position_n, feature_n, z_n = self._find_candidates(layer, x_PD)
        z_n = pre_activations(x_PD, w_enc_FD, b_enc_F, position_n, feature_n, z_n)
        if self.config.activation != "jumprelu":
            return SparseActivations(position_n, feature_n, z_n, torch.ones_like(z_n))
        threshold_n = self.threshold[layer][feature_n]
        activation_n = jump_relu(z_n, threshold_n, self.config.bandwidth)
        is_active_n = heaviside(z_n, threshold_n, self.config.bandwidth)
        return SparseActivations(position_n, feature_n, activation_n, is_active_n)

    @torch.no_grad()
    def _find_candidates(self, layer: int, x_PD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features that are active or have a gradient for their threshold; for TopK the largest of all shards."""
        rounded_PD = x_PD.bfloat16() if self.config.uses_bfloat16(x_PD.device.type) else x_PD
        weights, k = (rounded_PD, self.w_enc[layer].T, self.b_enc[layer]), round(self.config.target_l0)
        if self.config.activation == "jumprelu":
            active = encode(*weights, threshold_F=self.threshold[layer] - self.config.bandwidth / 2)
        elif self.config.activation == "topk":
            active = self.shard.topk_per_position(encode(*weights, k=k), k, len(x_PD))
        else:
            active = self.shard.topk_of_batch(encode(*weights, batch_k=k), k * len(x_PD))
        return active.position_n, active.feature_n, active.pre_activation_n.to(x_PD)

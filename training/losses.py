"""The training loss: reconstruction error and, for JumpReLU, a sparsity penalty."""

from typing import NamedTuple

import torch
from torch import Tensor

from .config import TrainingConfig
from .dictionary import DecodedOutput, SparseActivations
from .shards import Shard


class Losses(NamedTuple):
    """The terms of the loss, weights included."""

    reconstruction: Tensor
    sparsity: Tensor

    @property
    def total(self) -> Tensor:
        """Return the sum of the terms."""
        return self.reconstruction + self.sparsity


def compute_losses(decoded: DecodedOutput, y_LPD: Tensor, config: TrainingConfig, shard: Shard) -> Losses:
    """Return the loss of a batch in normalized units.

    The reconstruction error is the mean over nested prefixes (Matryoshka SAEs, Bussmann et al. 2025) of the sum over
    layers of the fraction of variance unexplained.
    """
    error_M = (decoded.y_MLPD - y_LPD).square().mean((2, 3)).sum(1)
    if config.activation != "jumprelu":
        return Losses(error_M.mean(), y_LPD.new_zeros(()))
    penalties = [sparsity_penalty(active, y_LPD.shape[1], config, shard) for active in decoded.active]
    return Losses(error_M.mean(), config.sparsity * torch.stack(penalties).sum())


def sparsity_penalty(active: SparseActivations, n_positions: int, config: TrainingConfig, shard: Shard) -> Tensor:
    """Return one layer's penalty on the number of active features and on features that are active often.

    `(L0 / L0* - 1)^2` is the quadratic penalty that draws L0 to its target L0* (Rajamanoharan et al. 2024, section 4,
    as in Gemma Scope 2). `sum_f p_f^2 / p_0 / L0*` is the quadratic frequency penalty (Smith et al. 2025), where p_f is
    the share of tokens on which a feature is active and p_0 is `config.frequency_scale`.
    """
    n_features = len(shard.feature_range(config.width))
    rate_F = active.is_active_n.new_zeros(n_features).index_add(0, active.feature_n, active.is_active_n) / n_positions
    l0, frequency = shard.sum_with_gradient(torch.stack([rate_F.sum(), rate_F.square().sum() / config.frequency_scale]))
    return (l0 / config.target_l0 - 1).square() + frequency / config.target_l0

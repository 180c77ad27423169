"""What training makes small."""

from typing import NamedTuple

import torch
from torch import Tensor

from .config import Config
from .dictionary import DecodedOutput, Entries
from .shards import Shard


class Losses(NamedTuple):
    """Parts of the loss, each with the weight it has in the sum."""

    reconstruction: Tensor
    sparsity: Tensor

    @property
    def total(self) -> Tensor:
        """What the gradient is taken of."""
        return self.reconstruction + self.sparsity


def losses(written: DecodedOutput, y_LPD: Tensor, config: Config, shard: Shard) -> Losses:
    """Loss of a batch in fitted units.

    The reconstruction error is the mean over nested prefixes (Matryoshka SAEs, Bussmann et al. 2025)
    of the sum over layers of the fraction of variance unexplained.
    """
    error_M = (written.y_MLPD - y_LPD).square().mean((2, 3)).sum(1)
    if config.activation != "jumprelu":
        return Losses(error_M.mean(), y_LPD.new_zeros(()))
    penalties = [penalty(found, y_LPD.shape[1], config, shard) for found in written.entries]
    return Losses(error_M.mean(), config.sparsity * torch.stack(penalties).sum())


def penalty(found: Entries, n_positions: int, config: Config, shard: Shard) -> Tensor:
    """One layer's penalty on how many features are active, and on features that are active often.

    `(L0 / L0* - 1)^2`, the quadratic penalty that draws L0 to its target (Rajamanoharan et al. 2024,
    section 4, as in Gemma Scope 2), and the quadratic frequency penalty `sum_f p_f^2 / p_0` relative
    to the target (Smith et al. 2025), where p_f is the share of tokens on which a feature is active.
    """
    on_F = found.on_n.new_zeros(len(shard.part(config.width))).index_add(0, found.feature_n, found.on_n) / n_positions
    l0, often = shard.summed(torch.stack([on_F.sum(), on_F.square().sum() / config.frequent]))
    return (l0 / config.target_l0 - 1).square() + often / config.target_l0

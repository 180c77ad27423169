"""Baselines that transcoders are compared with: an affine map of each MLP's input, and its mean output."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.language_model import LanguageModel

from .activations import collect_activations
from .initialize import RIDGE

BATCH_SEQUENCES = 32
MIN_RELATIVE_VARIANCE = 1e-9  # lower bound of an input's variance, relative to the mean variance


class AffineBaseline:
    """The least-squares affine map of each MLP's input to its output, `y = mean_y + (x - mean_x) @ map`.

    Without a map it returns the mean output (mean ablation).
    """

    def __init__(self, name: str, mean_x_LD: Tensor, mean_y_LD: Tensor, map_LDD: Tensor | None):
        self.name, self.mean_x_LD, self.mean_y_LD, self.map_LDD = name, mean_x_LD, mean_y_LD, map_LDD

    def reset(self, n_positions: int) -> None:
        """Do nothing: this replacement carries no state from layer to layer."""

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        """Return the output (P, D) that replaces the MLP's."""
        mean_D = self.mean_y_LD[layer].to(x_PD)
        if self.map_LDD is None:
            return mean_D.expand_as(x_PD)
        return mean_D + (x_PD - self.mean_x_LD[layer].to(x_PD)) @ self.map_LDD[layer].to(x_PD)


@torch.no_grad()
def fit_baselines(
    model: LanguageModel, sequences_SP: np.ndarray, advance: Callable[..., None] = lambda steps=1: None
) -> tuple[AffineBaseline, AffineBaseline]:
    """Fit mean ablation and the affine map to sequences of token ids (S, P).

    Sums are float64 and are added up batch by batch, so memory does not grow with the number of sequences.
    """
    arch, device = model.architecture, model.weights.device
    sums = torch.zeros(2, arch.n_layers, arch.d_model, dtype=torch.float64, device=device)
    products = torch.zeros(2, arch.n_layers, arch.d_model, arch.d_model, dtype=torch.float64, device=device)
    n_tokens = 0
    for start in range(0, len(sequences_SP), BATCH_SEQUENCES):
        batch = collect_activations(model, sequences_SP[start : start + BATCH_SEQUENCES], "transcoder", advance)
        n_tokens += batch.x_LND.shape[1]
        for layer, (x_ND, y_ND) in enumerate(zip(*batch, strict=True)):
            x_ND, y_ND = x_ND.double(), y_ND.double()
            sums[:, layer] += torch.stack([x_ND.sum(0), y_ND.sum(0)])
            products[:, layer] += torch.stack([x_ND.T @ x_ND, x_ND.T @ y_ND])
    mean_x_LD, mean_y_LD = sums / n_tokens
    square_LDD = products[0] / n_tokens - mean_x_LD[:, :, None] * mean_x_LD[:, None]
    cross_LDD = products[1] / n_tokens - mean_x_LD[:, :, None] * mean_y_LD[:, None]
    map_LDD = _solve_ridge(square_LDD, cross_LDD)
    mean = AffineBaseline("mean ablation", mean_x_LD, mean_y_LD, None)
    return mean, AffineBaseline("affine map", mean_x_LD, mean_y_LD, map_LDD)


def _solve_ridge(square_LDD: Tensor, cross_LDD: Tensor) -> Tensor:
    """Return the ridge solution, with a penalty in proportion to each input's variance."""
    diagonal_LD = square_LDD.diagonal(dim1=1, dim2=2)
    diagonal_LD.mul_(1 + RIDGE)
    # Gemma's norms switch some inputs off: without this term the system would be singular.
    diagonal_LD.add_(MIN_RELATIVE_VARIANCE * diagonal_LD.mean(1, keepdim=True))
    return torch.linalg.solve(square_LDD, cross_LDD)

"""What transcoders are compared with: an affine map of each MLP's input, and its mean output."""

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.language_model import LanguageModel

from .activations import examples
from .initialize import RIDGE

SEQUENCES_AT_ONCE = 32
SMALLEST = 1e-9  # of the mean variance: what an input without any counts as


class Affine:
    """The affine map of least squared error from each MLP's input to its output, `y = mean + (x - mean_x) @ map`;
    without a map, the mean output alone.

    """

    def __init__(self, name: str, mean_x_LD: Tensor, mean_y_LD: Tensor, map_LDD: Tensor | None):
        self.name, self.mean_x_LD, self.mean_y_LD, self.map_LDD = name, mean_x_LD, mean_y_LD, map_LDD

    def begin(self, n_positions: int) -> None:
        """Nothing is carried from layer to layer."""

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        """What stands in for the MLP's output."""
        mean_D = self.mean_y_LD[layer].to(x_PD)
        if self.map_LDD is None:
            return mean_D.expand_as(x_PD)
        return mean_D + (x_PD - self.mean_x_LD[layer].to(x_PD)) @ self.map_LDD[layer].to(x_PD)


@torch.no_grad()
def fit_baselines(
    model: LanguageModel, sequences_SP: np.ndarray, advance=lambda steps=1: None
) -> tuple[Affine, Affine]:
    """Mean ablation and affine map, fitted to the sequences; sums in float64, so any number of them."""
    arch, device = model.architecture, model.weights.device
    sums = torch.zeros(2, arch.n_layers, arch.d_model, dtype=torch.float64, device=device)
    products = torch.zeros(2, arch.n_layers, arch.d_model, arch.d_model, dtype=torch.float64, device=device)
    n_tokens = 0
    for start in range(0, len(sequences_SP), SEQUENCES_AT_ONCE):
        found = examples(model, sequences_SP[start : start + SEQUENCES_AT_ONCE], "transcoder", advance)
        n_tokens += found.x_LND.shape[1]
        for layer, (x_ND, y_ND) in enumerate(zip(*found, strict=True)):
            x_ND, y_ND = x_ND.double(), y_ND.double()
            sums[:, layer] += torch.stack([x_ND.sum(0), y_ND.sum(0)])
            products[:, layer] += torch.stack([x_ND.T @ x_ND, x_ND.T @ y_ND])
    mean_x_LD, mean_y_LD = sums / n_tokens
    square_LDD = products[0] / n_tokens - mean_x_LD[:, :, None] * mean_x_LD[:, None]
    cross_LDD = products[1] / n_tokens - mean_x_LD[:, :, None] * mean_y_LD[:, None]
    diagonal_LD = square_LDD.diagonal(dim1=1, dim2=2)
    diagonal_LD.mul_(1 + RIDGE)  # in proportion to each input's own variance
    diagonal_LD.add_(SMALLEST * diagonal_LD.mean(1, keepdim=True))  # Gemma's norms switch some inputs off
    map_LDD = torch.linalg.solve(square_LDD, cross_LDD)
    return Affine("mean ablation", mean_x_LD, mean_y_LD, None), Affine("affine map", mean_x_LD, mean_y_LD, map_LDD)

"""Replacements of a model's MLPs that an evaluation can measure: the interface, and transcoders."""

from typing import Protocol

import torch
from torch import Tensor

from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.kernels.active import Active
from cotrace.kernels.decode import decode


class MLPReplacement(Protocol):
    """A function that replaces the MLP of every layer."""

    name: str

    def reset(self, n_positions: int) -> None:
        """Start a batch of tokens; `output` is called next for each layer in order."""

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        """Return the output (P, D) that replaces the MLP's for its inputs (P, D)."""


class TranscoderReplacement:
    """Transcoders from files in place of the MLPs; a CLT's features also write to later layers."""

    def __init__(self, transcoders: FileTranscoders, n_layers: int):
        self.name, self.transcoders, self.n_layers = transcoders.name, transcoders, n_layers
        self.active: list[Active] = []  # of the layers so far
        self._outputs: list[Tensor] = []  # into each layer, from the features of the layers so far

    def reset(self, n_positions: int) -> None:
        """Forget the features of the batch before."""
        self.active, self._outputs = [], []

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        """Return the output (P, D) of this layer's and earlier layers' features, with skip and bias."""
        if layer == 0:
            self._outputs = [torch.zeros_like(x_PD)] * self.n_layers
        active, _, row_n, decoder_UJD = self.transcoders.active(layer, x_PD)
        self.active.append(active)
        n_later = decoder_UJD.shape[1] - 1
        nothing = Active(*(column[:0] for column in active))
        later = [nothing] * n_later, [decoder_UJD[:0, :1]] * n_later
        y_JPD = decode([active._replace(feature_n=row_n), *later[0]], [decoder_UJD, *later[1]], len(x_PD))
        for j, y_PD in enumerate(y_JPD):
            self._outputs[layer + j] = self._outputs[layer + j] + y_PD
        skip_DD, bias_D = self.transcoders.skip(layer, x_PD), self.transcoders.output_bias(layer, x_PD)
        y_PD = self._outputs[layer] if bias_D is None else self._outputs[layer] + bias_D
        return y_PD if skip_DD is None else y_PD + x_PD @ skip_DD

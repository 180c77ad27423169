"""Replacements of a model's MLPs that an evaluation can measure: the interface, and transcoders."""

from typing import Protocol

from torch import Tensor

from cotrace.attribution.transcoders.decoding import DecodedOutputs
from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.kernels.active import Active


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
        self._decoded = DecodedOutputs(n_layers)

    def reset(self, n_positions: int) -> None:
        """Forget the features of the batch before."""
        self.active, self._decoded = [], DecodedOutputs(self.n_layers)

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        """Return the output (P, D) of this layer's and earlier layers' features, with skip and bias."""
        active, _, row_n, decoder_UJD = self.transcoders.active(layer, x_PD)
        self.active.append(active)
        self._decoded.add(layer, active, row_n, decoder_UJD, len(x_PD))
        skip_DD, bias_D = self.transcoders.skip(layer, x_PD), self.transcoders.output_bias(layer, x_PD)
        y_PD = self._decoded[layer]
        assert y_PD is not None
        y_PD = y_PD if bias_D is None else y_PD + bias_D
        return y_PD if skip_DD is None else y_PD + x_PD @ skip_DD

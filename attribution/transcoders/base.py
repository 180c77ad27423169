"""The interface of transcoders, and the active features that they return."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotrace.attribution.models.forward import LayerCache
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import Feature
from cotrace.kernels.active import Active, FeatureIndex, look_up


@dataclass(frozen=True)
class LayerFeatures:
    """Active features of one layer with their encoders and decoders: n features, U distinct ones.

    A feature reads `read_scale_n * encoder_UD[row_n]` at the layer's MLP input and adds
    `write_scale_n * decoder_UJD[row_n, j]` to the MLP output of layer + j, for every j < J.

    Attributes:
        position_n: positions; features are sorted by position, then by feature.
        feature_n: numbers of the features in the layer.
        activation_n: activations.
        pre_activation_n: what the encoder computes, with its bias, before the activation function.
        bias_n: encoder biases.
        encoder_UD: encoder vectors of the distinct features.
        decoder_UJD: their decoder vectors for J layers, their own first.
        row_n: each feature's row in `encoder_UD` and `decoder_UJD`.
        read_scale_n: factors of the encoder vectors.
        write_scale_n: factors of the decoder vectors.
    """

    position_n: Tensor
    feature_n: Tensor
    activation_n: Tensor
    pre_activation_n: Tensor
    bias_n: Tensor
    encoder_UD: Tensor
    decoder_UJD: Tensor
    row_n: Tensor
    read_scale_n: Tensor
    write_scale_n: Tensor

    @property
    def decode_input(self) -> Active:
        """The input of `decode` for these features: rows of `decoder_UJD`, with `write_scale_n` as activations."""
        return Active(self.position_n, self.row_n, self.write_scale_n, self.pre_activation_n)

    def output_vectors(self, j: int) -> Tensor:
        """Return each feature's output vector at layer + j, (n, D)."""
        return self.write_scale_n[:, None] * self.decoder_UJD[self.row_n, j]


class Transcoders(ABC):
    """Sparse features of every MLP of a model: cross-layer or per-layer transcoders, or the MLP's own neurons.

    Attributes:
        name: path, Hub id or name, as given by the user.
        kind: "clt", "per-layer" or "neurons".
        revision: commit on the Hub, or None.
        part_of_mlp: whether features are parts of the MLP, so that the model itself computes their outputs.
    """

    name: str
    kind: str
    revision: str | None = None
    part_of_mlp = False

    @abstractmethod
    def encode(self, layer_cache: LayerCache, weights: Gemma3, positions: Tensor) -> LayerFeatures:
        """Return the active features of one layer at the given positions (ascending), with encoders and decoders."""

    @abstractmethod
    def active_at(self, layer_cache: LayerCache, weights: Gemma3, positions: Tensor) -> Active:
        """Return the active features of one layer at the given positions, without encoders and decoders."""

    def activations(self, active: Active, layer_cache: LayerCache, weights: Gemma3, index: FeatureIndex) -> Tensor:
        """Return activations (n,) of any features, given those that `active_at` returned; zero for inactive ones."""
        return look_up(active, index)

    @abstractmethod
    def encoders(self, layer_cache: LayerCache, weights: Gemma3, index: FeatureIndex) -> Tensor:
        """Return the encoder vectors of features, scaled as they read the layer's MLP input, (n, D)."""

    @abstractmethod
    def decoders(self, layer: int, feature_U: Tensor, weights: Gemma3) -> Tensor:
        """Return the decoders of features at their layer and, in a CLT, each later one, (U, J, D)."""

    def write_scale(self, layer_cache: LayerCache, position_n: Tensor) -> Tensor | None:
        """Return a factor (n,) of the decoders at some positions; None is 1."""
        return None

    @abstractmethod
    def width(self, layer: int, weights: Gemma3) -> int:
        """Return the number of features of a layer."""

    def check_feature(self, feature: Feature, weights: Gemma3) -> None:
        """Raise ArgumentError for a layer that the model does not have, or a feature that its layer does not have."""
        check_layer(feature, weights.architecture.n_layers)
        width = self.width(feature.layer, weights)
        if not 0 <= feature.feature < width:
            raise ArgumentError(f"{feature}: layer {feature.layer} has {width:,} features, 0 … {width - 1}")

    def skip(self, layer: int, like: Tensor) -> Tensor | None:
        """Return a layer's affine skip (D, D), used as `x @ W`, in the dtype and on the device of `like`; or None."""
        return None

    def output_bias(self, layer: int, like: Tensor) -> Tensor | None:
        """Return a layer's decoder bias (D,), in the dtype and on the device of `like`; or None."""
        return None

    def remainder(
        self, layer_cache: LayerCache, decoded_PD: Tensor | None, skip: Tensor | None, open_p: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what decoded features and the skip leave of an MLP's output: the rest, and the decoder bias, both (P, D).

        Args:
            layer_cache: the layer, with the input and the output of its MLP.
            decoded_PD: the sum of the decoded features; None is zero.
            skip: what `skip` returns for the layer.
            open_p: the positions that have the bias: those that are not masked.
        """
        rest_PD = layer_cache.mlp_out_PD.clone() if decoded_PD is None else layer_cache.mlp_out_PD - decoded_PD
        if skip is not None:
            rest_PD -= layer_cache.mlp_in_PD @ skip
        bias_PD, bias_D = torch.zeros_like(rest_PD), self.output_bias(layer_cache.layer, rest_PD)
        if bias_D is not None:
            bias_PD[open_p] = bias_D
        return rest_PD.sub_(bias_PD), bias_PD

    def describe(self) -> dict[str, Any]:
        """Return the metadata that graph files record."""
        return {"name": self.name, "kind": self.kind, "revision": self.revision, "sha256": self.content_hash()}

    def content_hash(self) -> str | None:
        """Return the SHA-256 over the contents of all files; None without files."""
        return None


def check_layer(node: Any, n_layers: int) -> None:
    """Raise ArgumentError for a node in a layer that the model does not have."""
    if not 0 <= node.layer < n_layers:
        raise ArgumentError(f"{node}: the model has no layer {node.layer}; its layers are 0 … {n_layers - 1}")

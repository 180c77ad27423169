"""What tracing needs of transcoders, whatever file they come from."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cotrace.attribution.models.forward import LayerCache
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.kernels.active import Active, FeatureIndex, look_up


@dataclass(frozen=True)
class Encoded:
    """Active features of one layer, sorted by (position, feature). n features, U distinct ones.

    A feature reads `read_scale_n * encoder_UD[row_n]` at the layer's MLP input and writes
    `write_scale_n * decoder_UJD[row_n, j]` to the residual stream at the MLP output of layer + j, for
    every j < J.
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
    def decoded(self) -> Active:
        """The features as rows of `decoder_UJD` and what multiplies them."""
        return Active(self.position_n, self.row_n, self.write_scale_n, self.pre_activation_n)

    def written(self, j: int) -> Tensor:
        """Vectors written at the MLP output of layer + j, (n, D)."""
        return self.write_scale_n[:, None] * self.decoder_UJD[self.row_n, j]


class Transcoders(ABC):
    """One basis of features for every MLP of a model."""

    name: str
    kind: str  # "clt", "per-layer" or "neurons"
    revision: str | None = None
    inside = False  # whether the features are parts of the MLP, where the model itself writes what they write

    @abstractmethod
    def encode(self, done: LayerCache, weights: Gemma3, positions: Tensor) -> Encoded:
        """Active features of one layer at the given positions (ascending)."""

    @abstractmethod
    def active_at(self, done: LayerCache, weights: Gemma3, positions: Tensor) -> Active:
        """As `encode`, without what the features read and write."""

    def activations(self, active: Active, done: LayerCache, weights: Gemma3, sites: FeatureIndex) -> Tensor:
        """Activations (n,) of any features, by what `active` returned: zero where they are not active."""
        return look_up(active, sites)

    @abstractmethod
    def readers(self, done: LayerCache, weights: Gemma3, sites: FeatureIndex) -> Tensor:
        """What features read at the layer's MLP input, (n, D)."""

    @abstractmethod
    def decoders(self, layer: int, feature_U: Tensor, weights: Gemma3) -> Tensor:
        """What features write at a layer and, in a CLT, each later one, (U, J, D)."""

    def write_scale(self, done: LayerCache, position_n: Tensor) -> Tensor | None:
        """What multiplies an activation besides the decoder, (n,); None is 1."""
        return None

    @abstractmethod
    def width(self, layer: int, weights: Gemma3) -> int:
        """Features of a layer."""

    def skip(self, layer: int, like: Tensor) -> Tensor | None:
        """Affine skip of a layer, used as `x @ W`, (D, D) in the dtype and on the device of `like`."""
        return None

    def output_bias(self, layer: int, like: Tensor) -> Tensor | None:
        """Decoder bias of a layer, (D,)."""
        return None

    def describe(self) -> dict[str, Any]:
        """What a graph file records about the transcoders."""
        return {"name": self.name, "kind": self.kind, "revision": self.revision, "sha256": self.content_hash()}

    def content_hash(self) -> str | None:
        """SHA-256 over the files' contents; None where there are no files."""
        return None

"""`SparseDictionary`: sparse features of one site of a model, an SAE at each of some layers or a crosscoder of several.

Knows nothing about tokens: it encodes and decodes vectors of its site.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.hashing import content_hash
from cotrace.attribution.models.sites import Site, site_width
from cotrace.attribution.transcoders.formats import Activation
from cotrace.common.errors import ArgumentError, FileError
from cotrace.kernels.active import Active
from cotrace.kernels.decode import decode
from cotrace.kernels.encode import encode

from .files import DictionaryFile, DictionaryTensors

SCAN_FEATURES = 4096  # decoders that are read at once to find the layers that they write to


class SparseDictionary:
    """SAEs of one site, one for each of some layers, or a crosscoder of the residual stream after several layers.

    An SAE reconstructs what it reads, `x ≈ b_dec + sum of activation times decoder vector` (JumpReLU: Rajamanoharan et al.
    2024). A crosscoder (Lindsey et al. 2024, "Sparse Crosscoders") has an encoder for each of its layers, whose features have
    a decoder vector for every layer; in the weakly causal ones of Gemma Scope 2 it is zero for layers before their own.

    Attributes:
        name: path or Hub id, as given by the user.
        kind: "sae" or "crosscoder".
        site: the site that it reads and reconstructs.
        layers: its layers, ascending; a feature belongs to the layer whose encoder it has.
        widths: the number of features of each of `layers`.
        revision: commit on the Hub, or None.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        site: Site,
        files: Sequence[DictionaryFile],
        activation: Activation,
        *,
        revision: str | None = None,
    ):
        self.name, self.kind, self.site, self.revision, self.activation = name, kind, site, revision, activation
        self._files = {file.layer: file for file in sorted(files)}
        self.layers = tuple(self._files)
        self.widths: tuple[int, ...] = ()
        self._has_threshold = activation.name not in ("relu", "topk")
        self._written: dict[int, tuple[int, ...]] = {}

    def check(self, arch: Architecture) -> None:
        """Raise FileError unless all files have finite small tensors, and all tensors have shapes that fit the model."""
        width, n_written = site_width(arch, self.site), len(self.layers) if self.kind == "crosscoder" else 0
        self.widths = tuple(file.check(width, n_written, self._has_threshold) for file in self._files.values())

    def width(self, layer: int) -> int:
        """Return the number of features of a layer. Raises ArgumentError for a layer without features."""
        if layer not in self._files:
            listed = ", ".join(map(str, self.layers))
            raise ArgumentError(f"{self.name} has no layer {layer}; its layers are {listed}")
        return self.widths[self.layers.index(layer)]

    def check_feature(self, layer: int, feature: int) -> None:
        """Raise ArgumentError for a feature that the dictionary does not have."""
        width = self.width(layer)
        if not 0 <= feature < width:
            raise ArgumentError(f"L{layer}#{feature}: layer {layer} has {width:,} features, 0 … {width - 1}")

    def encode(self, layer: int, x_PX: Tensor) -> Active:
        """Return the active features of a layer for vectors (P, X) of its site, in float32, float64 or bfloat16."""
        tensors = self._tensors(layer)
        try:
            return encode(x_PX, tensors.w_enc_XF, tensors.b_enc_F, threshold_F=tensors.threshold_F, k=self.activation.k)
        except ValueError as error:
            raise FileError(f"{error} at layer {layer}: check the encoder in {self._files[layer].path}") from error

    def decode(self, active: Mapping[int, Active], n_positions: int) -> dict[int, Tensor]:
        """Return the reconstructions (P, X) of every written layer, in the dtype of the activations.

        Args:
            active: what `encode` returned for each layer; all of `layers` for a crosscoder.
            n_positions: number P of vectors.
        """
        if self.kind == "crosscoder":
            parts = [self._decoded(layer, active[layer], n_positions) for layer in self.layers]
            total_JPX = torch.stack(parts).sum(0)
            return {layer: total_JPX[j] + self.bias(layer, total_JPX) for j, layer in enumerate(self.layers)}
        decoded = {layer: self._decoded(layer, features, n_positions)[0] for layer, features in active.items()}
        return {layer: x_PX + self.bias(layer, x_PX) for layer, x_PX in decoded.items()}

    def bias(self, layer: int, like: Tensor) -> Tensor:
        """Return the decoder bias (X,) of a layer, in the dtype and on the device of `like`."""
        return self._tensors(layer).b_dec_X.to(like)

    def encoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return the encoder vectors (U, X) of features of a layer, in float32."""
        return self._tensors(layer).w_enc_XF[:, feature_U.cpu()].T.float()

    def decoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return the decoder vectors (U, J, X) of features of a layer, one for each of `written_layers`, in float32."""
        rows_UJX = self._decoders(layer, feature_U).float()
        written = [self._decoder_layers(layer).index(other) for other in self.written_layers(layer)]
        return rows_UJX[:, written]

    def written_layers(self, layer: int) -> tuple[int, ...]:
        """Return the layers that features of a layer write to: those where some decoder vector is not zero."""
        if layer not in self._written:
            w_dec_FJX, layers = self._tensors(layer).w_dec_FJX, self._decoder_layers(layer)
            written_J = torch.zeros(len(layers), dtype=torch.bool)
            for rows_FJX in w_dec_FJX.split(SCAN_FEATURES):
                written_J |= (rows_FJX != 0).any(-1).any(0)
                if written_J.all():
                    break
            self._written[layer] = tuple(each for each, is_written in zip(layers, written_J, strict=True) if is_written)
        return self._written[layer]

    def describe(self) -> dict[str, Any]:
        """Return the metadata that feature stores record."""
        return {"name": self.name, "kind": self.kind, "site": self.site, "sha256": self.content_hash()}

    def content_hash(self) -> str:
        """Return the SHA-256 over the contents of all files."""
        return content_hash([file.path for file in self._files.values()])

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.layers))
        return f"<{self.kind} {self.name} of {self.site}, layers {layers}: {sum(self.widths):,} features>"

    def _decoder_layers(self, layer: int) -> tuple[int, ...]:
        return self.layers if self.kind == "crosscoder" else (layer,)

    def _decoded(self, layer: int, active: Active, n_positions: int) -> Tensor:
        """Return the sums of decoder vectors, (J, P, X)."""
        feature_U, row_n = active.feature_n.unique(return_inverse=True)
        rows_UJX = self._decoders(layer, feature_U).to(active.activation_n)
        flat_PY = decode([active._replace(feature_n=row_n)], [rows_UJX.flatten(1)], n_positions)[0]
        return flat_PY.unflatten(-1, rows_UJX.shape[1:]).transpose(0, 1)

    def _decoders(self, layer: int, feature_U: Tensor) -> Tensor:
        rows_UJX = self._tensors(layer).w_dec_FJX[feature_U.cpu()]  # files are read on the CPU
        if not rows_UJX.isfinite().all():
            raise FileError(f"decoder rows in {self._files[layer].path} are NaN or infinite; download the file again")
        return rows_UJX

    def _tensors(self, layer: int) -> DictionaryTensors:
        self.width(layer)
        return self._files[layer].tensors(self._has_threshold)

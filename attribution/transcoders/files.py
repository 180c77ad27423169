"""Transcoders in safetensors files, read one layer at a time through a memory map."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.file_kinds import not_safetensors
from cotrace.attribution.models.forward import LayerCache
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.hashing import content_hash
from cotrace.common.errors import FileError
from cotrace.kernels.active import Active, FeatureIndex
from cotrace.kernels.encode import encode

from .base import LayerFeatures, Transcoders
from .formats import Activation, FileFormat, LayerTensors


class ActiveDecoders(NamedTuple):
    """Active features sorted by (position, feature), n of them, and the decoders of the U distinct ones."""

    active: Active
    feature_U: Tensor
    row_n: Tensor  # row of each feature in decoder_UJD
    decoder_UJD: Tensor  # J: the feature's own layer and, in a CLT, each later one


class FileTranscoders(Transcoders):
    """A cross-layer transcoder (CLT) or per-layer transcoders in files.

    `check` reads all headers and small tensors, so that shapes are known to fit before anything is computed.
    Encoding reads one layer's encoder, and the decoder rows of its active features.
    """

    def __init__(
        self, name: str, layout: FileFormat, files: list[list[Path]], *, revision: str | None, activation: Activation
    ):
        self.name, self.kind, self.revision = name, layout.kind, revision
        self._layout, self._files, self.activation = layout, files, activation
        self._has_threshold = activation.name not in ("relu", "topk")
        self._widths: list[int] = []  # of each layer, from `check`

    def check(self, arch: Architecture) -> None:
        """Raise FileError unless every layer has finite small tensors, and all tensors have shapes that fit the model."""
        self._widths = []
        for layer in range(arch.n_layers):
            shapes = self._shapes(layer)
            self._require_tensors(layer, shapes)
            width = max(shapes[next(n for n, s in self._layout.expected(layer).items() if s == "F")], default=0)
            sizes = {"L": arch.n_layers, "J": arch.n_layers - layer, "F": width, "D": arch.d_model}
            for name, letters in self._layout.expected(layer).items():
                expected = [sizes[letter] for letter in letters]
                if name in shapes and shapes[name] != expected:
                    raise FileError(
                        f"{self.name} does not fit the model ({arch}): {name} of {self._where(layer)} has shape "
                        f"{tuple(shapes[name])} and the model needs {tuple(expected)}; choose transcoders made for it"
                    )
            self._check_small(layer)
            self._widths.append(width)

    @property
    def n_features(self) -> int:
        """Number of features of the widest layer; known after `check`."""
        return max(self._widths)

    def _require_tensors(self, layer: int, shapes: dict[str, list[int]]) -> None:
        required = [r.format(i=layer) for r in self._layout.required if self._has_threshold or r != "threshold"]
        absent = [name for name in required if name not in shapes]
        if absent:
            raise FileError(f"{self._where(layer)} has no tensor {', '.join(absent)}; it has {', '.join(shapes)}")
        if "k" in shapes and self.activation.k is None:  # how circuit-tracer saves TopK
            raise FileError(
                f"{self._where(layer)} is a TopK transcoder; add a config.yaml with activation: topk and its k"
            )

    def _check_small(self, layer: int) -> None:
        tensors = self.tensors(layer)
        for name in ("b_enc_F", "b_dec_D", "threshold_F", "skip_DD"):
            tensor = getattr(tensors, name)
            if tensor is not None and not tensor.isfinite().all():
                raise FileError(f"{name} of {self._where(layer)} has NaN or infinite values; download the file again")

    def active(self, layer: int, x_PD: Tensor) -> ActiveDecoders:
        """Return the active features of one layer for MLP inputs (P, D), with their decoders."""
        return self._active(layer, self.tensors(layer), x_PD)

    def encode(self, layer_cache: LayerCache, weights: Gemma3, positions: Tensor) -> LayerFeatures:
        """Return the active features of one layer; reads its encoder and the decoder rows of active features."""
        tensors = self.tensors(layer_cache.layer)
        x_pD = layer_cache.mlp_in_PD[positions]
        active, feature_U, row_n, decoder_UJD = self._active(layer_cache.layer, tensors, x_pD)
        return LayerFeatures(
            position_n=positions[active.position_n],
            feature_n=active.feature_n,
            activation_n=active.activation_n,
            pre_activation_n=active.pre_activation_n,
            bias_n=tensors.b_enc_F.to(x_pD)[active.feature_n],
            encoder_UD=tensors.w_enc_DF[:, feature_U.cpu()].T.to(x_pD),
            decoder_UJD=decoder_UJD,
            row_n=row_n,
            read_scale_n=torch.ones_like(active.activation_n),
            write_scale_n=active.activation_n,
        )

    def active_at(self, layer_cache: LayerCache, weights: Gemma3, positions: Tensor) -> Active:
        """Return the active features of one layer; reads its encoder only."""
        active = self._encode(layer_cache.layer, self.tensors(layer_cache.layer), layer_cache.mlp_in_PD[positions])
        return active._replace(position_n=positions[active.position_n])

    def encoders(self, layer_cache: LayerCache, weights: Gemma3, index: FeatureIndex) -> Tensor:
        """Return encoder vectors, (n, D)."""
        feature_U, row_n = index.feature_n.unique(return_inverse=True)
        return self.tensors(layer_cache.layer).w_enc_DF[:, feature_U.cpu()].T.to(layer_cache.mlp_in_PD)[row_n]

    def decoders(self, layer: int, feature_U: Tensor, weights: Gemma3) -> Tensor:
        """Return decoder rows, (U, J, D)."""
        like = torch.empty(0, device=weights.device, dtype=weights.dtype)
        return self._decoders(layer, self.tensors(layer), feature_U, like)

    def width(self, layer: int, weights: Gemma3) -> int:
        """Return the number of features of a layer."""
        return self._widths[layer]

    def skip(self, layer: int, like: Tensor) -> Tensor | None:
        """Return a layer's affine skip (D, D), or None."""
        skip = self.tensors(layer).skip_DD
        return None if skip is None else skip.to(like)

    def output_bias(self, layer: int, like: Tensor) -> Tensor | None:
        """Return a layer's decoder bias, (D,)."""
        return self.tensors(layer).b_dec_D.to(like)

    def content_hash(self) -> str:
        """Return the SHA-256 over the contents of all files."""
        return content_hash([path for paths in self._files for path in paths])

    def _encode(self, layer: int, tensors: LayerTensors, x_PD: Tensor) -> Active:
        try:
            return encode(x_PD, tensors.w_enc_DF, tensors.b_enc_F, threshold_F=tensors.threshold_F, k=self.activation.k)
        except ValueError as error:
            raise FileError(f"{error} at layer {layer}: check the encoder in {self._where(layer)}") from error

    def _active(self, layer: int, tensors: LayerTensors, x_PD: Tensor) -> ActiveDecoders:
        active = self._encode(layer, tensors, x_PD)
        feature_U, row_n = active.feature_n.unique(return_inverse=True)
        return ActiveDecoders(active, feature_U, row_n, self._decoders(layer, tensors, feature_U, x_PD))

    def _decoders(self, layer: int, tensors: LayerTensors, feature_U: Tensor, like: Tensor) -> Tensor:
        decoder_UJD = tensors.w_dec_FJD[feature_U.cpu()].to(like)  # files are read on the CPU
        if not decoder_UJD.isfinite().all():
            raise FileError(f"decoder rows in {self._where(layer)} are NaN or infinite; download the file again")
        return decoder_UJD

    def _where(self, layer: int) -> str:
        return ", ".join(
            path.name if path.stem != "params" else f"{path.parent.name}/{path.name}" for path in self._files[layer]
        )

    def tensors(self, layer: int) -> LayerTensors:
        """Return all tensors of one layer, as views of its files."""
        tensors: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for path in self._files[layer]:
                file = stack.enter_context(_open(path))
                tensors |= {name: file.get_tensor(name) for name in file.keys()}
        read = self._layout.read(tensors, layer)
        return read if self._has_threshold else read._replace(threshold_F=None)

    def _shapes(self, layer: int) -> dict[str, list[int]]:
        shapes: dict[str, list[int]] = {}
        for path in self._files[layer]:
            with _open(path) as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}
        return shapes


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise not_safetensors(path, error) from error

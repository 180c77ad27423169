"""File formats of transcoders: file names, tensor names and shapes of each, in one table (`FORMATS`)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from cotrace.common.errors import FileError


class LayerTensors(NamedTuple):
    """One layer's transcoder in one orientation; memory-mapped views, never copies.

    J is the number of layers a feature writes to, its own first.
    """

    w_enc_DF: Tensor
    b_enc_F: Tensor
    w_dec_FJD: Tensor
    b_dec_D: Tensor
    threshold_F: Tensor | None
    skip_DD: Tensor | None  # used as x @ skip


class Activation(NamedTuple):
    """Activation function in a config: "jumprelu", "relu" or "topk" with its k; "" if the tensors decide."""

    name: str = ""
    k: int | None = None


Tensors = dict[str, Tensor]


def _gemma_scope(t: Tensors, decoder_FJD: Tensor) -> LayerTensors:
    threshold, skip = t.get("threshold"), t.get("affine_skip_connection")
    return LayerTensors(t["w_enc"], t["b_enc"], decoder_FJD, t["b_dec"], threshold, skip)


def _gemma_scope_clt(t: Tensors, layer: int) -> LayerTensors:
    return _gemma_scope(t, t["w_dec"][:, layer:])


def _packed_clt(t: Tensors, layer: int) -> LayerTensors:
    return _gemma_scope(t, t["w_dec"])


def _gemma_scope_per_layer(t: Tensors, layer: int) -> LayerTensors:
    return _gemma_scope(t, t["w_dec"][:, None])


def _circuit_tracer_clt(t: Tensors, layer: int) -> LayerTensors:
    named = {name.removesuffix(f"_{layer}"): tensor for name, tensor in t.items()}
    return LayerTensors(
        named["W_enc"].T, named["b_enc"], named["W_dec"], named["b_dec"], named.get("threshold"), named.get("W_skip")
    )


def _circuit_tracer_per_layer(t: Tensors, layer: int) -> LayerTensors:
    skip = t.get("W_skip")
    threshold = t.get("activation_function.threshold")
    skip = None if skip is None else skip.T
    return LayerTensors(t["W_enc"].T, t["b_enc"], t["W_dec"][:, None], t["b_dec"], threshold, skip)


@dataclass(frozen=True)
class FileFormat:
    """One file format.

    Attributes:
        name: for messages.
        kind: "clt" or "per-layer".
        path: matches the path of a file; groups `set` (its folder), `layer` and, in some formats, `variant`.
        read: converts the tensors of a layer to `LayerTensors`.
        required: names of tensors that must be there; `{i}` is the layer.
        shapes: shapes of tensors by name, in the letters L, F, D and J = L - layer.
        files_per_layer: file names of a layer, to name missing ones.
    """

    name: str
    kind: str
    path: re.Pattern[str]
    read: Callable[[Tensors, int], LayerTensors]
    required: tuple[str, ...]
    shapes: dict[str, str]
    files_per_layer: tuple[str, ...]

    def expected(self, layer: int) -> dict[str, str]:
        """Return the tensor names of a layer with their shapes in letters."""
        return {name.format(i=layer): shape for name, shape in self.shapes.items()}


_SCOPE = {"w_enc": "DF", "b_enc": "F", "b_dec": "D", "threshold": "F", "affine_skip_connection": "DD"}
_SCOPE_REQUIRED = ("w_enc", "w_dec", "b_enc", "b_dec", "threshold")

FORMATS = (
    FileFormat(
        name="Gemma Scope 2 CLT",
        kind="clt",
        path=re.compile(r"(?:(?P<set>.*)/)?params_layer_(?P<layer>\d+)\.safetensors"),
        read=_gemma_scope_clt,
        required=_SCOPE_REQUIRED,
        shapes={**_SCOPE, "w_dec": "FLD"},
        files_per_layer=("params_layer_{i}.safetensors",),
    ),
    FileFormat(  # Gemma Scope 2's tensors, w_dec without the zeros of earlier layers, in any precision
        name="packed CLT",
        kind="clt",
        path=re.compile(r"(?:(?P<set>.*)/)?packed_layer_(?P<layer>\d+)\.safetensors"),
        read=_packed_clt,
        required=_SCOPE_REQUIRED,
        shapes={**_SCOPE, "w_dec": "FJD"},
        files_per_layer=("packed_layer_{i}.safetensors",),
    ),
    FileFormat(
        name="Gemma Scope 2 per layer",
        kind="per-layer",
        path=re.compile(r"(?:(?P<set>.*)/)?layer_(?P<layer>\d+)_(?P<variant>[^/]+)/params\.safetensors"),
        read=_gemma_scope_per_layer,
        required=_SCOPE_REQUIRED,
        shapes={**_SCOPE, "w_dec": "FD"},
        files_per_layer=("layer_{i}_{variant}/params.safetensors",),
    ),
    FileFormat(
        name="circuit-tracer CLT",
        kind="clt",
        path=re.compile(r"(?:(?P<set>.*)/)?W_(?:enc|dec)_(?P<layer>\d+)\.safetensors"),
        read=_circuit_tracer_clt,
        required=("W_enc_{i}", "W_dec_{i}", "b_enc_{i}", "b_dec_{i}"),
        shapes={
            "W_enc_{i}": "FD",
            "W_dec_{i}": "FJD",
            "b_enc_{i}": "F",
            "b_dec_{i}": "D",
            "threshold_{i}": "F",
            "W_skip_{i}": "DD",
        },
        files_per_layer=("W_enc_{i}.safetensors", "W_dec_{i}.safetensors"),
    ),
    FileFormat(
        name="circuit-tracer per layer",
        kind="per-layer",
        path=re.compile(r"(?:(?P<set>.*)/)?layer_(?P<layer>\d+)\.safetensors"),
        read=_circuit_tracer_per_layer,
        required=("W_enc", "W_dec", "b_enc", "b_dec"),
        shapes={
            "W_enc": "FD",
            "W_dec": "FD",
            "b_enc": "F",
            "b_dec": "D",
            "activation_function.threshold": "F",
            "W_skip": "DD",
        },
        files_per_layer=("layer_{i}.safetensors",),
    ),
)


@dataclass
class TranscoderSet:
    """The files of one set of transcoders, by layer, with paths relative to the folder that was listed."""

    name: str
    format: FileFormat
    variant: str = ""
    files: dict[int, list[str]] = field(default_factory=dict)

    def missing(self, n_layers: int) -> list[str]:
        """Return the names of missing files of layers 0 … n_layers - 1."""
        wanted = [
            pattern.format(i=layer, variant=self.variant)
            for layer in range(n_layers)
            for pattern in self.format.files_per_layer
            if len(self.files.get(layer, ())) < len(self.format.files_per_layer)
        ]
        present = [path for paths in self.files.values() for path in paths]
        return [name for name in wanted if not any(path == name or path.endswith(f"/{name}") for path in present)]


def find_sets(paths: Iterable[str]) -> dict[str, TranscoderSet]:
    """Group a listing of file paths into sets of transcoders, by name.

    A Gemma Scope 2 per-layer set is named by its folder and the part after `layer_{i}_`, for
    instance `transcoder_all/width_16k_l0_small_affine`; every other set by its folder. Raises
    FileError for two formats in one folder.
    """
    sets: dict[str, TranscoderSet] = {}
    for path in sorted(paths):
        for candidate in FORMATS:
            match = candidate.path.fullmatch(path)
            if match:
                parts = match.groupdict()
                variant = parts.get("variant") or ""
                name = "/".join(part for part in (parts["set"], variant) if part)
                found = sets.setdefault(name, TranscoderSet(name, candidate, variant))
                if found.format is not candidate:
                    raise FileError(
                        f"{name or 'the folder'} mixes files of {found.format.name} and {candidate.name}; "
                        "put each set into its own folder"
                    )
                found.files.setdefault(int(parts["layer"]), []).append(path)
                break
    return sets

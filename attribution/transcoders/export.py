"""Write transcoders to files: in the layout of Gemma Scope 2, or packed into 8 and 16 bits."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from cotrace.common.errors import ArgumentError, FileError
from cotrace.common.files import PART_SUFFIX, hidden_beside, publish_folder
from cotrace.common.progress import Progress

from .files import FileTranscoders
from .formats import LayerTensors

LAYOUTS = ("gemma-scope-2", "packed")
DECODER_TYPE = torch.float8_e4m3fn
BATCH_FEATURES = 4096


def scope_tensors(layer: LayerTensors, index: int, n_layers: int, kind: str) -> dict[str, Tensor]:
    """Return a layer's tensors as Gemma Scope 2 stores them, in float32.

    A CLT's decoders are (F, L, D), zero before their own layer.
    """
    n_features, n_written, width = layer.w_dec_FJD.shape
    if kind == "clt":
        assert index + n_written == n_layers
        w_dec = torch.zeros(n_features, n_layers, width)
        w_dec[:, index:] = layer.w_dec_FJD
    else:
        w_dec = layer.w_dec_FJD[:, 0].float()
    return _named(layer, layer.w_enc_DF.float(), w_dec, torch.float32)


def packed_tensors(layer: LayerTensors) -> dict[str, Tensor]:
    """Return a JumpReLU CLT layer's tensors in about a quarter of the bytes.

    Decoders (F, J, D) are stored as 8-bit floats (`float8_e4m3fn`), the encoder as bfloat16, vectors as float32. Each
    feature's decoder is scaled so that its largest element is the largest 8-bit float; encoder, bias and threshold
    are divided by the same scale, which leaves the function unchanged. Rounding costs about 0.07% of a decoder's
    variance.
    """
    w_dec_FJD = torch.empty(layer.w_dec_FJD.shape, dtype=DECODER_TYPE)
    scale_F = torch.ones(len(w_dec_FJD))
    for start in range(0, len(w_dec_FJD), BATCH_FEATURES):
        some = slice(start, start + BATCH_FEATURES)
        decoder_FJD = layer.w_dec_FJD[some].float()
        largest_F = decoder_FJD.abs().amax((1, 2))
        scale_F[some] = torch.where(largest_F > 0, torch.finfo(DECODER_TYPE).max / largest_F, 1.0)
        w_dec_FJD[some] = (decoder_FJD * scale_F[some, None, None]).to(DECODER_TYPE)
    scaled = layer._replace(
        b_enc_F=layer.b_enc_F / scale_F,
        threshold_F=None if layer.threshold_F is None else layer.threshold_F / scale_F,
    )
    return _named(scaled, (layer.w_enc_DF / scale_F).to(torch.bfloat16), w_dec_FJD, torch.bfloat16)


def check_layout(layout: str, out: Path) -> None:
    """Raise ArgumentError for an unknown layout, and FileError if `out` exists and is not an empty folder."""
    if layout not in LAYOUTS:
        raise ArgumentError(f"invalid layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileError(f"{out} exists already; choose a new folder")


def write_layout(transcoders: FileTranscoders, n_layers: int, out: Path, layout: str, bars: Progress) -> None:
    """Write transcoders in another layout into a new folder, atomically, one layer in memory at a time.

    Args:
        transcoders: the source.
        n_layers: number of layers.
        out: the new folder.
        layout: "gemma-scope-2" or "packed"; only cross-layer transcoders without TopK can be packed.
        bars: shows progress.

    Raises ArgumentError for an unknown layout, or transcoders that cannot be packed, and FileError for a folder that
    is not empty, NaN or infinite values, or a full disk.
    """
    check_layout(layout, out)
    if layout == "packed" and (transcoders.kind != "clt" or transcoders.activation.k is not None):
        raise ArgumentError(f"{transcoders.name} cannot be packed: only cross-layer transcoders without TopK are")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = hidden_beside(out, PART_SUFFIX)
    try:
        with bars.phase("writing layers", n_layers) as advance:
            for index in range(n_layers):
                _write_layer(transcoders, index, n_layers, scratch, layout)
                advance()
        publish_folder(scratch, out)
    except (SafetensorError, OSError) as error:
        raise FileError(f"{out} cannot be written: {error}; choose a folder on a disk with more space") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_layer(transcoders: FileTranscoders, index: int, n_layers: int, folder: Path, layout: str) -> None:
    layer = transcoders.tensors(index)
    if layer.threshold_F is None and transcoders.activation.name == "":  # ReLU: these layouts always store a threshold
        layer = layer._replace(threshold_F=torch.zeros(len(layer.b_enc_F)))
    packed = layout == "packed"
    tensors = packed_tensors(layer) if packed else scope_tensors(layer, index, n_layers, transcoders.kind)
    if not all(tensor.float().isfinite().all() for tensor in tensors.values()):
        raise FileError(f"layer {index} of {transcoders.name} has NaN or infinite values; download the file again")
    save_layer(folder / layer_file(layout, transcoders.kind, index), tensors, _config(transcoders, index))


def save_layer(path: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write a layer's tensors to `path`, and `config` to config.json in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    (path.parent / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def hook_points(kind: str, layer: int) -> dict[str, str]:
    """Return the hook points of a layer's transcoder in the spelling of Gemma Scope 2; all layers of a CLT share a config."""
    site = "model.layers.{layer}" if kind == "clt" else f"model.layers.{layer}"
    reads = "post_feedforward_layernorm" if kind == "sae" else "pre_feedforward_layernorm"
    return {
        "hf_hook_point_in": f"{site}.{reads}.output",
        "hf_hook_point_out": f"{site}.post_feedforward_layernorm.output",
    }


def layer_file(layout: str, kind: str, layer: int, variant: str = "converted") -> str:
    """Return the path of a layer's file relative to the folder of its set."""
    if layout == "packed":
        return f"packed_layer_{layer}.safetensors"
    return f"params_layer_{layer}.safetensors" if kind == "clt" else f"layer_{layer}_{variant}/params.safetensors"


def _config(transcoders: FileTranscoders, layer: int) -> dict[str, Any]:
    name, k = transcoders.activation
    return {
        "architecture": "jump_relu" if name in ("", "jumprelu") else name,
        "width": transcoders.n_features,
        **({} if k is None else {"k": k}),
        **hook_points(transcoders.kind, layer),
        "type": "clt" if transcoders.kind == "clt" else "transcoder",
        "converted_from": transcoders.name,
    }


def _named(layer: LayerTensors, w_enc_DF: Tensor, w_dec: Tensor, skip_dtype: torch.dtype) -> dict[str, Tensor]:
    tensors = {"w_enc": w_enc_DF, "w_dec": w_dec}
    tensors |= {"b_enc": layer.b_enc_F.float(), "b_dec": layer.b_dec_D.float()}
    if layer.threshold_F is not None:
        tensors["threshold"] = layer.threshold_F.float()
    if layer.skip_DD is not None:
        tensors["affine_skip_connection"] = layer.skip_DD.to(skip_dtype)
    return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}

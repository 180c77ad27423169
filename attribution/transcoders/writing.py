"""Transcoders to files: in Gemma Scope 2's layout, which every tool of the field reads, and in few bytes."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..progress import Progress
from .files import FileTranscoders
from .formats import LayerTensors

LAYOUTS = ("gemma-scope-2", "packed")
DECODER_BITS = torch.float8_e4m3fn


def scope_tensors(layer: LayerTensors, index: int, n_layers: int, kind: str) -> dict[str, Tensor]:
    """A layer as Gemma Scope 2 stores it, float32; a CLT's decoders (F, L, D) are zero before its own layer."""
    w_dec = layer.w_dec_FJD.float()
    if kind == "clt":
        w_dec = torch.cat([w_dec.new_zeros(len(w_dec), index, w_dec.shape[2]), w_dec], 1)
        assert w_dec.shape[1] == n_layers
    else:
        w_dec = w_dec[:, 0]
    return _named(layer, layer.w_enc_DF.float(), w_dec, torch.float32)


def packed_tensors(layer: LayerTensors) -> dict[str, Tensor]:
    """A CLT's layer in about a quarter of the bytes: decoders (F, J, D) in 8 bits, encoder and skip in bfloat16.

    8-bit floats have 3 bits of fraction over a range of 2e5; each feature's decoder is scaled so that
    its largest element is the largest number there is, and the encoder, its bias and threshold the other
    way, which leaves the function as it is. What is left is rounding, about 0.07% of a decoder's variance.
    """
    largest_F = layer.w_dec_FJD.abs().flatten(1).amax(1).double()
    scale_F = torch.where(largest_F > 0, torch.finfo(DECODER_BITS).max / largest_F, 1.0)
    w_dec_FJD = (layer.w_dec_FJD * scale_F[:, None, None]).to(DECODER_BITS)
    scaled = layer._replace(
        b_enc_F=layer.b_enc_F / scale_F,
        threshold_F=None if layer.threshold_F is None else layer.threshold_F / scale_F,
    )
    return _named(scaled, (layer.w_enc_DF / scale_F).to(torch.bfloat16), w_dec_FJD, torch.bfloat16)


def write_layout(transcoders: FileTranscoders, n_layers: int, out: Path, layout: str, bars: Progress) -> None:
    """Write transcoders in another layout into a new folder, all or nothing.

    Raises ValueError for an unknown layout, for a folder with something in it, and for per-layer
    transcoders that are to be packed.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if layout == "packed" and transcoders.kind != "clt":
        raise ValueError(f"{transcoders.name} is not a cross-layer transcoder; only these are packed")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; choose a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with bars.phase("writing layers", n_layers) as advance:
            for index in range(n_layers):
                layer = transcoders.tensors(index)
                if not all(tensor.float().isfinite().all() for tensor in layer if tensor is not None):
                    raise ValueError(f"layer {index} of {transcoders.name} has NaN or infinite values")
                packed = layout == "packed"
                tensors = packed_tensors(layer) if packed else scope_tensors(layer, index, n_layers, transcoders.kind)
                path = scratch / layer_file(layout, transcoders.kind, index)
                path.parent.mkdir(parents=True, exist_ok=True)
                save_file(tensors, path)
                (path.parent / "config.json").write_text(json.dumps(_config(transcoders, index), indent=1) + "\n")
                advance()
        os.replace(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def layer_file(layout: str, kind: str, layer: int, variant: str = "converted") -> str:
    """Where a layer is, below the folder of its set."""
    if layout == "packed":
        return f"packed_layer_{layer}.safetensors"
    return f"params_layer_{layer}.safetensors" if kind == "clt" else f"layer_{layer}_{variant}/params.safetensors"


def _config(transcoders: FileTranscoders, layer: int) -> dict[str, Any]:
    name, k = transcoders.activation
    site = "model.layers.{layer}" if transcoders.kind == "clt" else f"model.layers.{layer}"
    return {
        "architecture": {"": "jump_relu", "jumprelu": "jump_relu"}.get(name, name),
        "width": transcoders.n_features,
        **({} if k is None else {"k": k}),
        "hf_hook_point_in": f"{site}.pre_feedforward_layernorm.output",
        "hf_hook_point_out": f"{site}.post_feedforward_layernorm.output",
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

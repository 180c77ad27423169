"""Low-rank adapters (LoRA) of the attention weights, in the files that peft writes: reading, and merging into a model.

Adapters of anything but attention are refused: the MLPs stay those of the model, so its transcoders still apply.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cotrace.common.errors import FileError, one_line

from .gemma3 import Gemma3

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.self_attn\.([qkvo]_proj)\.lora_([AB])\.weight")
UNSUPPORTED = (
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "fan_in_fan_out",
    "layer_replication",
    "megatron_config",
)


class LowRankChange(NamedTuple):
    """A change `up @ down` of one projection's weights."""

    up: Tensor  # (out, R)
    down: Tensor  # (R, in)


class AttentionAdapter(NamedTuple):
    """A LoRA of attention projections."""

    scale: float
    """The factor of every change."""
    changes: dict[tuple[int, str], LowRankChange]
    """By layer and projection: `q_proj`, `k_proj`, `v_proj` or `o_proj`."""


def read_adapter(folder: Path) -> AttentionAdapter:
    """Return the adapter in a folder with `adapter_config.json` and `adapter_model.safetensors`.

    Raises FileError for files that are missing or damaged, for adapters of another kind than plain LoRA, and for those
    that change more than attention.
    """
    scale = _read_scale(folder / CONFIG_FILE)
    sides: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, tensor in _read_tensors(folder / WEIGHTS_FILE).items():
        match = TENSOR.fullmatch(name)
        if match is None:
            raise FileError(
                f"{folder} changes {name}, not attention alone: train it with target_modules={[*PROJECTIONS]}"
            )
        sides.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor
    if not sides:
        raise FileError(f"{folder / WEIGHTS_FILE} holds no tensors: write the adapter again")
    return AttentionAdapter(scale, {place: _pair(folder, place, both) for place, both in sides.items()})


def merge_adapter(weights: Gemma3, adapter: AttentionAdapter, name: str) -> None:
    """Add an adapter to the attention weights of a model, in place; `name` is the adapter's in messages.

    Raises FileError for an adapter of a model of other sizes; then no weight is changed.
    """
    changes = {
        place: adapter.scale * (change.up.double() @ change.down.double()) for place, change in adapter.changes.items()
    }
    for (layer, projection), change in changes.items():
        known = layer < weights.architecture.n_layers
        shape = tuple(weights.attention_projection(layer, projection).shape) if known else None
        if shape != tuple(change.shape):
            raise FileError(
                f"{name} changes {projection} of layer {layer} by {tuple(change.shape)}, but the model has "
                f"{shape or 'no such layer'}: load the model that it was trained on"
            )
    with torch.no_grad():
        for (layer, projection), change in changes.items():
            weight = weights.attention_projection(layer, projection)
            weight.data = (weight.double() + change.to(weight.device)).to(weight.dtype)


def _read_scale(path: Path) -> float:
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        kind, rank, alpha = config["peft_type"], int(config["r"]), float(config["lora_alpha"])
        if rank < 1 or not math.isfinite(alpha):
            raise ValueError(f"r={rank}, lora_alpha={alpha}")
        special = [name for name in UNSUPPORTED if config.get(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is not the config of a LoRA ({one_line(error)}): write the adapter again") from error
    if kind != "LORA" or special or config.get("bias", "none") != "none":
        found = ", ".join(special) or kind
        raise FileError(f"{path} is not a plain LoRA ({found}): train one without it")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise FileError(f"{path} cannot be read ({one_line(error)}): write the adapter again") from error


def _pair(folder: Path, place: tuple[int, str], sides: dict[str, Tensor]) -> LowRankChange:
    """Return the two sides of a change. Raises FileError unless both are there, finite, and fit."""
    up, down = sides.get("B"), sides.get("A")
    damaged = up is None or down is None or not up.dim() == down.dim() == 2 or up.shape[1] != down.shape[0]
    if damaged or not all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in sides.values()):
        raise FileError(
            f"{folder / WEIGHTS_FILE} is damaged ({place[1]} of layer {place[0]} is incomplete or not finite): write it again"
        )
    return LowRankChange(sides["B"], sides["A"])

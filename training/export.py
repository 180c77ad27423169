"""A trained dictionary as files in the layout of Gemma Scope 2, which every tool of the field reads."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from cotrace.attribution.transcoders.export import hook_points, layer_file, save_layer, scope_tensors
from cotrace.attribution.transcoders.formats import LayerTensors

from .config import Config
from .dictionary import Units
from .trainer import Trainer

SITES = {"clt": "clt", "transcoder": "transcoder_all", "skip-transcoder": "transcoder_all", "sae": "mlp_out_all"}
L0_NAMES = ((25, "small"), (75, "medium"), (float("inf"), "big"))  # of Gemma Scope 2


def layers(trainer: Trainer) -> Iterator[LayerTensors]:
    """Layer by layer, float64: the same function with the units folded in, each feature's decoder of length 1."""
    assert trainer.units is not None
    dictionary, units = trainer.dictionary, Units(*(tensor.cpu().double() for tensor in trainer.units))
    for layer in range(dictionary.n_layers):
        last = layer + dictionary.w_dec[layer].shape[1]
        w_dec_FJD = _whole(trainer, dictionary.w_dec[layer]) * units.y_scale_L[layer:last, None]
        length_F = w_dec_FJD.flatten(1).norm(dim=1)
        length_F = torch.where(length_F > 0, length_F, 1.0)
        w_enc_DF = _whole(trainer, dictionary.w_enc[layer]).T / units.x_scale_LD[layer][:, None] * length_F
        b_enc_F = _whole(trainer, dictionary.b_enc[layer]) * length_F - units.x_mean_LD[layer] @ w_enc_DF
        b_dec_D = dictionary.b_dec[layer].detach().cpu().double() * units.y_scale_L[layer] + units.y_mean_LD[layer]
        skip_DD = None
        if dictionary.skip is not None:
            skip_DD = dictionary.skip[layer].detach().cpu().double() / units.x_scale_LD[layer][:, None]
            skip_DD = skip_DD * units.y_scale_L[layer]
            b_dec_D = b_dec_D - units.x_mean_LD[layer] @ skip_DD
        threshold_F = _whole(trainer, trainer.threshold_LF[layer]) * length_F
        yield LayerTensors(w_enc_DF, b_enc_F, w_dec_FJD / length_F[:, None, None], b_dec_D, threshold_F, skip_DD)


def export(trainer: Trainer, folder: Path, model_name: str) -> Path:
    """Write the result into a run's folder, all or nothing; returns the folder of the set.

    A CLT's decoders are stored as (features, all layers, width), zero for layers before its own.
    """
    config, n_layers = trainer.config, trainer.dictionary.n_layers
    target = folder / SITES[config.kind]
    result = target / set_name(config) if config.kind == "clt" else target
    if trainer.shard.rank:
        for _ in layers(trainer):  # the first process gathers and writes them
            pass
        return result
    scratch = folder / f".{SITES[config.kind]}.unfinished"
    shutil.rmtree(scratch, ignore_errors=True)
    for index, layer in enumerate(layers(trainer)):
        tensors = scope_tensors(layer, index, n_layers, config.kind)
        save_layer(scratch / file_name(config, index), tensors, describe(config, index, model_name))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(scratch, target)
    return result


def file_name(config: Config, layer: int) -> str:
    """A layer's file below the site's folder."""
    variant = set_name(config)
    if config.kind == "clt":
        return f"{variant}/{layer_file('gemma-scope-2', 'clt', layer)}"
    return layer_file("gemma-scope-2", config.kind, layer, variant)


def set_name(config: Config) -> str:
    """Width, L0 and skip as Gemma Scope 2 spells them."""
    width = f"{config.width // 1024}k" if config.width % 1024 == 0 else str(config.width)
    l0 = next(name for most, name in L0_NAMES if config.target_l0 <= most)
    return f"width_{width}_l0_{l0}{'_affine' if config.has_skip else ''}"


def describe(config: Config, layer: int, model_name: str) -> dict:
    """Gemma Scope 2's config of a layer, and how it was trained."""
    return {
        "model_name": model_name,
        "architecture": "jump_relu",
        "width": config.width,
        "l0": config.target_l0,
        "affine_connection": config.has_skip,
        **hook_points(config.kind, layer),
        "type": config.kind,
        "training": config.to_json(),
    }


def _whole(trainer: Trainer, part: Tensor) -> Tensor:
    return trainer.shard.whole(part.detach()).cpu().double()

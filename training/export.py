"""Export of a trained dictionary in the file layout of Gemma Scope 2."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from cotrace.attribution.transcoders.export import hook_points, layer_file, save_layer, scope_tensors
from cotrace.attribution.transcoders.formats import LayerTensors
from cotrace.common.files import publish_folder

from .config import TrainingConfig
from .dictionary import Normalization
from .trainer import Trainer

SITES = {"clt": "clt", "transcoder": "transcoder_all", "skip-transcoder": "transcoder_all", "sae": "mlp_out_all"}
L0_NAMES = ((25, "small"), (75, "medium"), (float("inf"), "big"))  # largest L0 of each name of Gemma Scope 2


def layer_tensors(trainer: Trainer) -> Iterator[LayerTensors]:
    """Yield the float64 tensors of each layer: the same function of unnormalized inputs, with decoders of length 1."""
    assert trainer.normalization is not None, "call initialize first"
    dictionary = trainer.dictionary
    norm = Normalization(*(tensor.cpu().double() for tensor in trainer.normalization))
    for layer in range(dictionary.n_layers):
        last = layer + dictionary.w_dec[layer].shape[1]
        w_dec_FJD = _gather_float64(trainer, dictionary.w_dec[layer]) * norm.y_scale_L[layer:last, None]
        length_F = w_dec_FJD.flatten(1).norm(dim=1)
        length_F = torch.where(length_F > 0, length_F, 1.0)
        w_enc_DF = _gather_float64(trainer, dictionary.w_enc[layer]).T / norm.x_scale_LD[layer][:, None] * length_F
        b_enc_F = _gather_float64(trainer, dictionary.b_enc[layer]) * length_F - norm.x_mean_LD[layer] @ w_enc_DF
        b_dec_D = dictionary.b_dec[layer].detach().cpu().double() * norm.y_scale_L[layer] + norm.y_mean_LD[layer]
        skip_DD = None
        if dictionary.skip is not None:
            skip_DD = dictionary.skip[layer].detach().cpu().double() / norm.x_scale_LD[layer][:, None]
            skip_DD = skip_DD * norm.y_scale_L[layer]
            b_dec_D = b_dec_D - norm.x_mean_LD[layer] @ skip_DD
        threshold_F = _gather_float64(trainer, trainer.threshold_LF[layer]) * length_F
        yield LayerTensors(w_enc_DF, b_enc_F, w_dec_FJD / length_F[:, None, None], b_dec_D, threshold_F, skip_DD)


def export_transcoders(trainer: Trainer, folder: Path, model_name: str) -> Path:
    """Write the transcoders into a run's folder, replacing older ones when all files are written; return their folder.

    A CLT's decoders are stored as (features, all layers, width) with zeros for layers before the feature's own.
    """
    config, n_layers = trainer.config, trainer.dictionary.n_layers
    target = folder / SITES[config.kind]
    result = target / set_name(config) if config.kind == "clt" else target
    if trainer.shard.rank:
        for _ in layer_tensors(trainer):  # takes part in the gathers; the first process writes the files
            pass
        return result
    scratch = folder / f".{SITES[config.kind]}.unfinished"
    shutil.rmtree(scratch, ignore_errors=True)  # left by a killed process
    for index, layer in enumerate(layer_tensors(trainer)):
        tensors = scope_tensors(layer, index, n_layers, config.kind)
        save_layer(scratch / layer_path(config, index), tensors, layer_config(config, index, model_name))
    publish_folder(scratch, target, replace=True)
    return result


def layer_path(config: TrainingConfig, layer: int) -> str:
    """Return the path of a layer's file below the site's folder."""
    variant = set_name(config)
    if config.kind == "clt":
        return f"{variant}/{layer_file('gemma-scope-2', 'clt', layer)}"
    return layer_file("gemma-scope-2", config.kind, layer, variant)


def set_name(config: TrainingConfig) -> str:
    """Return Gemma Scope 2's name for the width, L0 and skip, such as `width_16k_l0_medium_affine`."""
    width = f"{config.width // 1024}k" if config.width % 1024 == 0 else str(config.width)
    l0 = next(name for largest, name in L0_NAMES if config.target_l0 <= largest)
    return f"width_{width}_l0_{l0}{'_affine' if config.has_skip else ''}"


def layer_config(config: TrainingConfig, layer: int, model_name: str) -> dict:
    """Return the `config.json` of a layer: Gemma Scope 2's entries, and all training settings."""
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


def _gather_float64(trainer: Trainer, part: Tensor) -> Tensor:
    return trainer.shard.gather(part.detach()).cpu().double()

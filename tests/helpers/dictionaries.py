"""SAEs and crosscoders in exactly the layout of Gemma Scope 2, and a reference in plain float64 mathematics.

Paths, config entries, tensor names, shapes and dtypes are those of the repositories `google/gemma-scope-2-…` on the Hub.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny import LAYERS, WIDTH
from torch import Tensor

HEADS_WIDTH = 24  # 4 heads of 6 in the tiny model
FEATURES = 32
HOOKS = {
    "resid_post": "model.layers.{}.output",
    "mlp_out": "model.layers.{}.post_feedforward_layernorm.output",
    "attn_out": "model.layers.{}.self_attn.o_proj.input",
    "crosscoder": "model.layers.{}.output",
}


def random_tensors(seed: int, width: int, decoder: tuple[int, ...], features: int = FEATURES) -> dict[str, Tensor]:
    """Return the tensors of one layer; about a third of the features are active."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> Tensor:
        return torch.randn(shape, generator=generator) * std

    return {
        "w_enc": normal(width, features, std=0.3),
        "b_enc": normal(features, std=0.1),
        "threshold": normal(features, std=0.5).abs(),
        "w_dec": normal(features, *decoder, std=0.3),
        "b_dec": normal(width, std=0.2),
    }


def write_sae(
    root: Path, site: str, layer: int, variant: str = "width_16k_l0_small", folder: str = "", **tensors: Tensor
) -> Path:
    """Write an SAE of a site, in the folder of its site unless another is given; return its folder."""
    width = HEADS_WIDTH if site == "attn_out" else WIDTH
    content = random_tensors(layer, width, (width,)) | tensors
    place = root / (folder or site) / f"layer_{layer}_{variant}"
    hook = HOOKS[site].format(layer)
    write_files(place, {"params.safetensors": content}, config(hook, content["w_dec"].shape[0], "sae"))
    return place


def write_crosscoder(root: Path, layers: tuple[int, ...] = (0, 2), variant: str = "width_65k_l0_medium") -> Path:
    """Write a weakly causal crosscoder: decoders of layers before a feature's own are zero; return its folder."""
    files = {}
    for index in range(len(layers)):
        tensors = random_tensors(50 + index, WIDTH, (len(layers), WIDTH))
        tensors["w_dec"][:, :index] = 0
        files[f"params_layer_{index}.safetensors"] = tensors
    place = root / "crosscoder" / f"layer_{'_'.join(map(str, layers))}_{variant}"
    hook = HOOKS["crosscoder"].format("{" + ",".join(map(str, layers)) + "}")
    write_files(place, files, config(hook, len(layers) * FEATURES, "crosscoder"))
    return place


def config(hook: str, width: int, kind: str) -> dict:
    """Return the entries of config.json."""
    return {
        "hf_hook_point_in": hook,
        "hf_hook_point_out": hook,
        "width": width,
        "model_name": "google/gemma-3-270m-pt",
        "architecture": "jump_relu",
        "l0": 60,
        "affine_connection": False,
        "type": kind,
    }


def write_files(place: Path, files: dict[str, dict[str, Tensor]], entries: dict) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, tensors in files.items():
        save_file({key: tensor.float().contiguous() for key, tensor in tensors.items()}, place / name)
    (place / "config.json").write_text(json.dumps(entries))


def read_layer(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file in float64."""
    return {name: tensor.double() for name, tensor in load_file(path).items()}


def encoded(t: dict[str, Tensor], x_PX: Tensor) -> tuple[Tensor, Tensor]:
    """Return activations and pre-activations (P, F): JumpReLU of the encoder."""
    z_PF = x_PX @ t["w_enc"] + t["b_enc"]
    return torch.where(z_PF > t["threshold"], z_PF.relu(), 0.0), z_PF


def site_values(hf_model, site: str, ids: list[int]) -> list[Tensor]:
    """Return the values (P, X) of a site at every layer, taken by hooks from Hugging Face's own forward pass."""
    found: list[Tensor] = []
    handles = []
    for layer in hf_model.model.layers:
        if site == "attn_out":
            handle = layer.self_attn.o_proj.register_forward_pre_hook(lambda _m, args: found.append(args[0][0]))
        else:
            module = layer if site in ("resid_post", "crosscoder") else layer.post_feedforward_layernorm
            handle = module.register_forward_hook(
                lambda _m, _a, out: found.append((out if isinstance(out, Tensor) else out[0])[0])
            )
        handles.append(handle)
    with torch.no_grad():
        hf_model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    assert len(found) == LAYERS
    return found

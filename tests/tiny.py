"""Tiny random Gemma 3 models and transcoders in the file layouts that users have."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

LAYERS, WIDTH, FEATURES, VOCABULARY = 3, 20, 24, 40
KINDS = {  # kind: (layout, tensors that its files lack)
    "clt": ("scope-clt", ["skip"]),
    "clt-affine": ("scope-clt", []),
    "per-layer": ("scope-per-layer", ["skip"]),
    "per-layer-affine": ("scope-per-layer", []),
    "ct-clt": ("ct-clt", ["skip"]),
    "ct-clt-relu": ("ct-clt", ["skip", "threshold"]),
    "ct-per-layer": ("ct-per-layer", []),
    "neurons": ("", []),
}
SET = {"scope-clt": "clt/width_24_l0_medium", "scope-per-layer": "transcoder_all", "ct-clt": "", "ct-per-layer": ""}


def write_model(folder: Path, **changes) -> Path:
    """Write a model with both attention kinds, a window of 4, grouped KV heads and non-trivial norms."""
    sizes = {
        "num_hidden_layers": LAYERS,
        "hidden_size": WIDTH,
        "intermediate_size": 30,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "vocab_size": VOCABULARY,
        "sliding_window": 4,
        "query_pre_attn_scalar": 6,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "pad_token_id": 0,
    }
    torch.manual_seed(7)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**{**sizes, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3 if "norm" in name else 0.5)
    model.save_pretrained(folder)
    return folder


def write_transcoders(folder: Path, kind: str) -> str:
    """Write random transcoders of a kind; return the argument for `cotrace.load`."""
    if kind == "neurons":
        return "neurons:5"
    layout, left_out = KINDS[kind]
    layers = without(random_layers(seed=len(kind)), *left_out)
    if "threshold" in left_out:  # with ReLU a lower bias keeps about the same number active
        layers = [{**tensors, "b_enc": tensors["b_enc"] - 0.5} for tensors in layers]
    return str(write_layers(folder, layout, layers))


def random_layers(seed: int = 0, width: int = WIDTH, layers: int = LAYERS) -> list[dict[str, torch.Tensor]]:
    """Yield the tensors of each layer in Gemma Scope's orientation; `w_dec` is (F, layers from its own on, D)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 0.3) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * std

    return [
        {
            "w_enc": normal(width, FEATURES),
            "b_enc": normal(FEATURES),
            "threshold": normal(FEATURES, std=1.5).abs(),
            "w_dec": normal(FEATURES, layers - layer, width),
            "b_dec": normal(width),
            "skip": normal(width, width, std=0.1),
        }
        for layer in range(layers)
    ]


def write_layers(folder: Path, layout: str, layers: list[dict[str, torch.Tensor]], variant: str = "") -> Path:
    """Write transcoders in one of the four layouts; leave `threshold` or `skip` out of a layer for none."""
    for number, tensors in enumerate(layers):
        for name, content in _files(layout, number, len(layers), tensors, variant).items():
            save(content, folder / name)
    return folder


def _files(layout: str, i: int, n_layers: int, t: dict[str, torch.Tensor], variant: str) -> dict[str, dict]:
    """Return the file names of one layer with their tensors."""
    if layout.startswith("scope"):
        names = {"w_enc": "w_enc", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
        content = {to: t[name] for name, to in {**names, "skip": "affine_skip_connection"}.items() if name in t}
        if layout == "scope-per-layer":
            path = f"transcoder_all/layer_{i}_width_24_l0_small{variant}/params.safetensors"
            return {path: {**content, "w_dec": t["w_dec"][:, 0]}}
        padded = torch.full(
            (t["w_dec"].shape[0], n_layers, t["w_dec"].shape[2]), float("nan")
        )  # earlier layers: unused
        padded[:, i:] = t["w_dec"]
        return {f"{SET[layout]}{variant}/params_layer_{i}.safetensors": {**content, "w_dec": padded}}
    small = {"W_enc": t["w_enc"].T, "b_enc": t["b_enc"], "b_dec": t["b_dec"]}
    if layout == "ct-clt":
        small |= {name: t[name] for name in ("threshold",) if name in t}
        encoder = {f"{name}_{i}": tensor for name, tensor in small.items()}
        return {f"W_enc_{i}.safetensors": encoder, f"W_dec_{i}.safetensors": {f"W_dec_{i}": t["w_dec"]}}
    small["W_dec"] = t["w_dec"][:, 0]
    if "threshold" in t:
        small["activation_function.threshold"] = t["threshold"]
    if "skip" in t:
        small["W_skip"] = t["skip"].T
    return {f"layer_{i}.safetensors": small}


def without(layers: list[dict[str, torch.Tensor]], *names: str) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor for name, tensor in t.items() if name not in names} for t in layers]


def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def prompt(length: int = 11) -> list[int]:
    """Return token ids longer than the sliding window, one of them twice."""
    return [2, 7, 31, 7, *range(10, 10 + length - 4)][:length]

"""Tiny random Gemma 3 models and transcoders, written as the files that users have."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

LAYERS, WIDTH, FEATURES, VOCABULARY = 3, 20, 24, 40
KINDS = ("clt", "clt-affine", "per-layer", "per-layer-affine", "ct-clt", "ct-clt-relu", "ct-per-layer", "neurons")


def write_model(folder: Path, **changes) -> Path:
    """A model with both attention kinds, a window of 4, grouped KV heads and non-trivial norms."""
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
    """Random transcoders of a kind; returns what `cotrace.load` takes for them."""
    if kind == "neurons":
        return "neurons:5"
    generator = torch.Generator().manual_seed(len(kind))
    for layer in range(LAYERS):
        _write_layer(folder, kind, layer, _random_layer(generator, layer, cross="clt" in kind))
    return str(folder)


def _random_layer(generator: torch.Generator, layer: int, cross: bool) -> dict[str, torch.Tensor]:
    def normal(*shape: int, std: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * std

    outputs = LAYERS - layer if cross else 1
    return {
        "w_enc": normal(WIDTH, FEATURES, std=0.3),
        "b_enc": normal(FEATURES, std=0.3),
        "threshold": normal(FEATURES).abs() * 1.5,
        "w_dec": normal(FEATURES, outputs, WIDTH, std=0.3),
        "b_dec": normal(WIDTH, std=0.3),
        "skip": normal(WIDTH, WIDTH, std=0.1),
    }


def _write_layer(folder: Path, kind: str, layer: int, t: dict[str, torch.Tensor]) -> None:
    scope = {name: t[name] for name in ("w_enc", "b_enc", "b_dec", "threshold")}
    if kind.endswith("affine"):
        scope["affine_skip_connection"] = t["skip"]
    if kind.startswith("clt"):
        padded = torch.zeros(FEATURES, LAYERS, WIDTH)
        padded[:, layer:] = t["w_dec"]
        _save({**scope, "w_dec": padded}, folder / f"params_layer_{layer}.safetensors")
    elif kind.startswith("per-layer"):
        _save({**scope, "w_dec": t["w_dec"][:, 0]}, folder / f"layer_{layer}_width_24_l0_small/params.safetensors")
    elif kind.startswith("ct-clt"):
        encoder = {"W_enc": t["w_enc"].T, "b_enc": t["b_enc"] - 0.5, "b_dec": t["b_dec"]}
        if kind == "ct-clt":
            encoder["threshold"] = t["threshold"]
        _save({f"{n}_{layer}": v for n, v in encoder.items()}, folder / f"W_enc_{layer}.safetensors")
        _save({f"W_dec_{layer}": t["w_dec"]}, folder / f"W_dec_{layer}.safetensors")
    else:
        named = {"W_enc": t["w_enc"].T, "b_enc": t["b_enc"], "b_dec": t["b_dec"], "W_dec": t["w_dec"][:, 0]}
        named |= {"activation_function.threshold": t["threshold"], "W_skip": t["skip"].T}
        _save(named, folder / f"layer_{layer}.safetensors")


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def prompt(length: int = 11) -> list[int]:
    """Token ids longer than the sliding window, one of them twice."""
    return [2, 7, 31, 7, *range(10, 10 + length - 4)][:length]

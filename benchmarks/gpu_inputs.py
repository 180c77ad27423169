"""Models, prompts and transcoders of `benchmarks.gpu_check`: real ones, and random ones that need no download."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from .prompts import LICENSE_FILE, TEXT
from .transcoders import CALIBRATION_TOKENS, DECODER_DECAY, decoder_scales, encoder

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # tiny models are those of the tests

RANDOM = "random"
SEED = 0
SIZES_OF_270M = {
    "num_hidden_layers": 18,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "sliding_window": 512,
    "query_pre_attn_scalar": 256,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
    "pad_token_id": 0,
}


def tiny_model(folder: Path, device: str, kind: str = "clt-affine") -> Any:
    """Return a tiny random model with tiny random transcoders, as the tests have them."""
    import tiny

    import cotrace

    model = folder / "tiny-model"
    if not model.exists():
        tiny.write_model(model)
    spec = tiny.write_transcoders(folder / f"tiny-{kind}", kind)
    return cotrace.load(model, spec, device=device, dtype="float32", progress=False)


def random_model_folder(folder: Path) -> Path:
    """Write a model of random weights with the sizes of Gemma 3 270M, once; return its folder."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    path = folder / "random-model"
    if not path.exists():
        torch.manual_seed(SEED)
        Gemma3ForCausalLM(Gemma3TextConfig(**SIZES_OF_270M)).to(torch.bfloat16).save_pretrained(path)
    return path


def random_ids(model: Any, length: int) -> list[int]:
    """Return BOS and random token ids."""
    random = np.random.default_rng(SEED)
    return [2, *random.integers(3, model.architecture.vocab_size, length - 1).tolist()]


def text_ids(model: Any, length: int) -> list[int]:
    """Return BOS and the first tokens of the benchmark's text."""
    ids = model.tokenize(f"{TEXT}\n\n{' '.join(LICENSE_FILE.read_text().split())}")
    if len(ids) < length:
        raise ValueError(f"the text has {len(ids)} tokens, fewer than {length}")
    return ids[:length]


@torch.no_grad()
def write_random_clt(model: Any, ids: list[int], out: Path, features: int, active: float) -> Path:
    """Write a random CLT in bfloat16 whose thresholds fit the model's activations on a prompt; return its folder.

    It is that of `benchmarks.transcoders`, without a skip, in a layout without unused decoder rows.
    """
    inputs, outputs = _mlp_activations(model, ids[:CALIBRATION_TOKENS])
    encoders = [encoder(inputs[layer], features, active, layer) for layer in range(len(inputs))]
    scales = decoder_scales(outputs, np.array([tensors.pop("energy") for tensors in encoders]), DECODER_DECAY)
    out.mkdir(parents=True, exist_ok=True)
    device = model.weights.device
    for layer, tensors in enumerate(encoders):
        named = {"W_enc": tensors["w_enc"].T, "b_enc": tensors["b_enc"], "threshold": tensors["threshold"]}
        named["b_dec"] = outputs[layer].mean(axis=0)
        content = {f"{name}_{layer}": torch.from_numpy(np.ascontiguousarray(t)) for name, t in named.items()}
        save_file(content, out / f"W_enc_{layer}.safetensors")
        generator = torch.Generator(device).manual_seed(layer)
        shape = (features, len(encoders) - layer, model.architecture.d_model)
        decay = DECODER_DECAY ** torch.arange(shape[1], device=device)
        size_J = torch.from_numpy(scales[layer:]).to(device) * decay / shape[2] ** 0.5
        w_dec = torch.randn(shape, generator=generator, device=device) * size_J.float()[:, None]
        save_file({f"W_dec_{layer}": w_dec.bfloat16().cpu()}, out / f"W_dec_{layer}.safetensors")
    return out


def _mlp_activations(model: Any, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return MLP inputs and outputs (L, P, D) of a prompt, without position 0."""
    from cotrace.attribution.models.forward import ForwardPass

    weights = model.weights
    token_ids = torch.tensor(ids, device=weights.device)
    caches = list(ForwardPass(weights, weights.embed(token_ids), keep_patterns=False))
    inputs, outputs = ([getattr(c, name)[1:] for c in caches] for name in ("mlp_in_PD", "mlp_out_PD"))
    return torch.stack(inputs).float().cpu().numpy(), torch.stack(outputs).float().cpu().numpy()

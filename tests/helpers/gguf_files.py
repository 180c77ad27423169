"""Write tiny Gemma 3 models as GGUF files, as converters write them, and the equal model of the library."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

STORED = {  # names in the library's layer, and in GGUF
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}
KEYS: dict[str, Any] = {  # what a converter writes for `model`, without the prefix of the architecture
    "context_length": 128,
    "embedding_length": 24,
    "block_count": 6,
    "feed_forward_length": 20,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.sliding_window": 4,
    "rope.freq_base": 1e6,
}


def model(**changes: Any) -> Gemma3ForCausalLM:
    """Return a random model of the library with the sizes of `KEYS`."""
    rotary = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    sizes = {
        "vocab_size": 40,
        "hidden_size": 24,
        "intermediate_size": 20,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 128,
        "sliding_window": 4,
        "rope_parameters": rotary,
    }
    torch.manual_seed(3)
    built = Gemma3ForCausalLM(Gemma3TextConfig(**{**sizes, **changes}, attn_implementation="eager")).eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            parameter.normal_(std=0.3 if "norm" in name else 0.5)
    return built


def write(path: Path, source: Gemma3ForCausalLM, *, without: tuple[str, ...] = (), **changes: Any) -> Path:
    """Write a model as GGUF without a tokenizer; `changes` are keys of the architecture, `__` for a point."""
    library = pytest.importorskip("gguf", reason="needs: pip install 'cotrace[gguf]'")
    writer = library.GGUFWriter(path, "gemma3")
    values = {**KEYS, **{key.replace("__", "."): value for key, value in changes.items()}}
    for key, value in values.items():
        if key not in without:
            add(writer, key, value)
    for name, tensor in tensors(source).items():
        if name not in without:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: Any, key: str, value: Any) -> None:
    """Add a value to a `GGUFWriter`; keys that do not start with `general` or `split` get the architecture's prefix."""
    name = key if key.startswith(("general.", "split.")) else f"gemma3.{key}"
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds.get(type(value), writer.add_array)(name, value)


def tensors(source: Gemma3ForCausalLM) -> dict[str, torch.Tensor]:
    """Return the tensors that a GGUF of the model holds; norms are stored as the factor, 1 + weight."""
    named = {"token_embd": source.model.embed_tokens.weight, "output_norm": source.model.norm.weight}
    if not source.config.tie_word_embeddings:
        named["output"] = source.lm_head.weight
    for index, layer in enumerate(source.model.layers):
        for module, stored in STORED.items():
            named[f"blk.{index}.{stored}"] = layer.get_submodule(module).weight
    return {f"{name}.weight": (tensor + 1 if "norm" in name else tensor).detach() for name, tensor in named.items()}

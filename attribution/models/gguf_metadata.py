"""Read the architecture and the list of tensors of a Gemma 3 in GGUF by the rules of llama.cpp.

A GGUF file states some values of the architecture; llama.cpp derives the others (sliding layers, their rotary base,
the attention scale of 27B). The rules are those of `gemma3` in its loader and its converter. Every key of the
architecture is read, known to change nothing, or refused by name: a value that is ignored gives other logits.
"""

import math
from typing import Any, NamedTuple

from transformers import Gemma3TextConfig

from cotrace.common.errors import CotraceError, FileError, first_line

ARCHITECTURE = "gemma3"
PREFIX = f"{ARCHITECTURE}."
LAYERS_OF_27B = 62  # llama.cpp recognises this size by its number of layers
RELEASED_HEAD_WIDTH = 256  # of all other sizes
SLIDING_PERIOD = 6  # every sixth layer has full attention
SLIDING_ROPE_BASE = 10_000.0
DEFAULT_ROPE_BASE = 10_000.0  # of llama.cpp; converters always write the base of Gemma 3, 1,000,000
# Keys without effect on the language model: notes for other rotary scalings, and the parts of a vision model.
NO_EFFECT = ("rope.scaling.original_context_length", "rope.scaling.finetuned")
NO_EFFECT_PREFIXES = ("vision.", "mm.", "audio.")
OTHER_PARTS = ("v.", "mm.", "a.")  # tensors of a vision or audio tower beside the language model


class StoredTensor(NamedTuple):
    """A tensor that a GGUF must hold: its name in Hugging Face's model, its shape, and whether it is a norm's factor."""

    name: str
    shape: tuple[int, ...]
    is_norm: bool


_LAYER_TENSORS = {  # name in GGUF: (name in Hugging Face's layer, shape in letters)
    "attn_norm": ("input_layernorm", "D"),
    "attn_q": ("self_attn.q_proj", "QD"),
    "attn_k": ("self_attn.k_proj", "KD"),
    "attn_v": ("self_attn.v_proj", "KD"),
    "attn_output": ("self_attn.o_proj", "DQ"),
    "attn_q_norm": ("self_attn.q_norm", "H"),
    "attn_k_norm": ("self_attn.k_norm", "H"),
    "post_attention_norm": ("post_attention_layernorm", "D"),
    "ffn_norm": ("pre_feedforward_layernorm", "D"),
    "ffn_gate": ("mlp.gate_proj", "MD"),
    "ffn_up": ("mlp.up_proj", "MD"),
    "ffn_down": ("mlp.down_proj", "DM"),
    "post_ffw_norm": ("post_feedforward_layernorm", "D"),
}


class Metadata:
    """The architecture's keys of one file, which remembers the keys that were read.

    Args:
        reader: a `gguf.GGUFReader`.
        path: the file's name for messages.
    """

    def __init__(self, reader: Any, path: Any):
        self.path = path
        self._values = {
            key.removeprefix(PREFIX): field.contents() for key, field in reader.fields.items() if key.startswith(PREFIX)
        }
        self._unread = set(self._values)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or `default`. A list of equal values, one for each layer, is returned as one value."""
        value = self.get_list_or_value(key, default)
        if not isinstance(value, list):
            return value
        if len(set(value)) != 1:
            raise self.refusal(key, value, "the same value in all layers")
        return value[0]

    def get_list_or_value(self, key: str, default: Any = None) -> Any:
        """Return a value as it is stored, or `default`."""
        self._unread.discard(key)
        return self._values.get(key, default)

    def require(self, key: str) -> Any:
        """Return a value. Raises FileError where it is missing or zero."""
        value = self.get(key)
        if not value or (isinstance(value, float) and not math.isfinite(value)):
            raise FileError(f"{self.path} does not state {PREFIX}{key}, so it is no complete Gemma 3; convert it again")
        return value

    def demand(self, key: str, supported: Any) -> None:
        """Raise FileError where a key has another value than the one that is supported."""
        value = self.get(key, supported)
        close = isinstance(value, float) and math.isclose(value, supported, rel_tol=1e-6)
        if value != supported and not close:
            raise self.refusal(key, value, repr(supported))

    def refusal(self, key: str, value: Any, supported: str) -> FileError:
        """Return the error for a value that would give other logits."""
        return FileError(
            f"{self.path} sets {PREFIX}{key} = {value!r} and cotrace supports {supported} only; "
            "use a GGUF of an unmodified Gemma 3, or pass its safetensors"
        )

    def refuse_unread(self) -> None:
        """Raise FileError for the first key that was not read and may have an effect."""
        for key in sorted(self._unread):
            if key not in NO_EFFECT and not key.startswith(NO_EFFECT_PREFIXES):
                raise FileError(
                    f"{self.path} sets {PREFIX}{key} = {self._values[key]!r}, which cotrace does not know and which may "
                    "change the model; pass the model's safetensors instead"
                )


def read_config(reader: Any, path: Any) -> Gemma3TextConfig:
    """Return the config that the metadata of a GGUF determines.

    Args:
        reader: a `gguf.GGUFReader`.
        path: the file's name for messages.

    Raises FileError for values that are missing, contradict one another or are not supported, and for unknown keys.
    """
    try:
        return Gemma3TextConfig(**_config_values(reader, Metadata(reader, path)))
    except CotraceError:
        raise
    except Exception as error:  # values of wrong types, for which the library raises other errors
        raise FileError(f"the metadata of {path} is not that of a Gemma 3: {first_line(error)}") from error


def _config_values(reader: Any, meta: Metadata) -> dict[str, Any]:
    """Return the arguments of the config."""
    n_layers, n_heads, d_model = (meta.require(k) for k in ("block_count", "attention.head_count", "embedding_length"))
    if n_layers > len(reader.tensors):  # checked before anything of that length is made
        raise FileError(
            f"{meta.path} states {n_layers} layers and holds {len(reader.tensors)} tensors; download it again"
        )
    d_head = meta.get("attention.key_length") or d_model // n_heads
    values = {
        "vocab_size": _vocab_size(reader, meta),
        "hidden_size": d_model,
        "intermediate_size": meta.require("feed_forward_length"),
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": meta.get("attention.head_count_kv") or n_heads,
        "head_dim": d_head,
        "query_pre_attn_scalar": _attention_scalar(meta, d_head, n_layers, d_model // n_heads),
        "rms_norm_eps": meta.require("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": meta.require("context_length"),
        **_attention_layers(meta, n_layers),
        "rope_parameters": _rotary(meta),
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        **_special_tokens(reader),
    }
    _demand_plain(meta, d_head)
    meta.refuse_unread()
    return values


def read_tensors(config: Gemma3TextConfig) -> dict[str, StoredTensor]:
    """Return the tensors that a GGUF of this config holds, by their names in the file."""
    sizes = {
        "D": config.hidden_size,
        "H": config.head_dim,
        "Q": config.head_dim * config.num_attention_heads,
        "K": config.head_dim * config.num_key_value_heads,
        "M": config.intermediate_size,
        "V": config.vocab_size,
    }
    named = {"token_embd": ("model.embed_tokens", "VD"), "output_norm": ("model.norm", "D")}
    if not config.tie_word_embeddings:
        named["output"] = ("lm_head", "VD")
    for layer in range(config.num_hidden_layers):
        for stored, (name, letters) in _LAYER_TENSORS.items():
            named[f"blk.{layer}.{stored}"] = (f"model.layers.{layer}.{name}", letters)
    return {
        f"{stored}.weight": StoredTensor(f"{name}.weight", tuple(sizes[letter] for letter in letters), "norm" in stored)
        for stored, (name, letters) in named.items()
    }


def check_tensors(reader: Any, tensors: dict[str, StoredTensor], path: Any) -> None:
    """Raise FileError unless the file holds exactly these tensors, in these shapes; parts of a vision tower may be there."""
    stored = {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in reader.tensors}
    absent = [name for name in tensors if name not in stored]
    if absent:
        raise FileError(f"{path} lacks {len(absent)} tensors, among them {', '.join(absent[:3])}; download it again")
    unknown = [name for name in stored if name not in tensors and not name.startswith(OTHER_PARTS)]
    if unknown:
        raise FileError(
            f"{path} holds {len(unknown)} tensors that a Gemma 3 does not have, among them {', '.join(unknown[:3])}; "
            "use a GGUF of an unmodified Gemma 3"
        )
    for name, tensor in tensors.items():
        if stored[name] != tensor.shape:
            raise FileError(
                f"{name} of {path} has shape {stored[name]} and its metadata say {tensor.shape}; convert it again"
            )


def _vocab_size(reader: Any, meta: Metadata) -> int:
    """Return the number of rows of the embedding; raise FileError where the metadata state another number."""
    rows = next((int(tensor.shape[-1]) for tensor in reader.tensors if tensor.name == "token_embd.weight"), 0)
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    if rows and tokens is not None and len(tokens.data) != rows:
        raise FileError(
            f"{meta.path} has {len(tokens.data)} tokens and {rows} rows of token_embd.weight; convert the model again"
        )
    if rows:
        meta.demand("vocab_size", rows)
    return rows or meta.get("vocab_size") or 1  # a missing embedding is reported with the other tensors


def _attention_layers(meta: Metadata, n_layers: int) -> dict[str, Any]:
    """Return the kind of each layer and the window; a file without a window has full attention in every layer."""
    window = meta.get("attention.sliding_window") or 0
    pattern = meta.get_list_or_value("attention.sliding_window_pattern", SLIDING_PERIOD)
    if isinstance(pattern, list) and len(pattern) != n_layers:
        raise meta.refusal("attention.sliding_window_pattern", pattern, f"one value for each of {n_layers} layers")
    # Layer i is sliding unless it is the last of its period; a period of 0 makes all layers sliding.
    sliding = pattern if isinstance(pattern, list) else [not pattern or (i + 1) % pattern for i in range(n_layers)]
    kinds = ["sliding_attention" if window and slides else "full_attention" for slides in sliding]
    return {"layer_types": kinds, "sliding_window": window or None}


def _rotary(meta: Metadata) -> dict[str, dict[str, Any]]:
    """Return the rotary parameters: linear scaling is that of full-attention layers; sliding layers have their own base."""
    kind = meta.get("rope.scaling.type", "linear")
    old_factor = meta.get("rope.scale_linear", 0.0)
    factor = meta.get("rope.scaling.factor", old_factor) or 1.0
    if kind not in ("none", "linear"):
        raise meta.refusal("rope.scaling.type", kind, "'none' and 'linear'")
    if not 0 < factor < math.inf:
        raise meta.refusal("rope.scaling.factor", factor, "positive factors")
    full = {"rope_type": "default", "rope_theta": float(meta.get("rope.freq_base", DEFAULT_ROPE_BASE))}
    if kind == "linear" and factor != 1:
        full |= {"rope_type": "linear", "factor": float(factor)}
    sliding_base = float(meta.get("rope.freq_base_swa", SLIDING_ROPE_BASE))
    return {"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": sliding_base}}


def _attention_scalar(meta: Metadata, d_head: int, n_layers: int, per_head: int) -> int:
    """Return `query_pre_attn_scalar`, the inverse square of the attention scale.

    Converters do not write it, because llama.cpp derives it from the sizes. That is right for the released sizes;
    for others the config's default is 256 whatever the head's width, so only a stated scale decides.
    """
    scale, is_27b = meta.get("attention.scale"), n_layers == LAYERS_OF_27B
    if scale is None and not is_27b and d_head != RELEASED_HEAD_WIDTH:
        raise FileError(
            f"{meta.path} does not state its attention scale (query_pre_attn_scalar): {PREFIX}attention.scale is absent, and "
            f"heads of width {d_head} in {n_layers} layers are those of no released Gemma 3; pass the model's safetensors"
        )
    if scale is None:
        return per_head if is_27b else d_head
    if not 0 < scale < math.inf:
        raise meta.refusal("attention.scale", scale, "positive scales")
    scalar = round(scale**-2)
    if not math.isclose(scalar**-0.5, scale, rel_tol=1e-6):
        raise meta.refusal("attention.scale", scale, "inverse square roots of integers")
    return scalar


def _demand_plain(meta: Metadata, d_head: int) -> None:
    """Raise FileError for options that no released Gemma 3 has."""
    head_widths = ("attention.value_length", "attention.key_length_swa", "attention.value_length_swa")
    for key in (*head_widths, "rope.dimension_count", "rope.dimension_count_swa"):
        meta.demand(key, d_head)
    for key in ("final_logit_softcapping", "attn_logit_softcapping", "attention.clamp_kqv", "attention.max_alibi_bias"):
        meta.demand(key, 0.0)
    for key in ("rope.scaling.attn_factor", "residual_scale", "logit_scale"):
        meta.demand(key, 1.0)
    for key in ("expert_count", "expert_used_count", "attention.shared_kv_layers", "pooling_type"):
        meta.demand(key, 0)
    meta.demand("attention.causal", True)
    # Files of another converter name the bases so.
    for other, key in (("rope.local.freq_base", "rope.freq_base_swa"), ("rope.global.freq_base", "rope.freq_base")):
        default = SLIDING_ROPE_BASE if "swa" in key else DEFAULT_ROPE_BASE
        meta.demand(other, meta.get(key, default))


def _special_tokens(reader: Any) -> dict[str, int | None]:
    """Return the ids of special tokens that the file states."""
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    fields = {ours: reader.fields.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in names.items()}
    return {ours: None if field is None else field.contents() for ours, field in fields.items()}

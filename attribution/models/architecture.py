"""Sizes of a Gemma 3 model, read from its config and checked before any weight is loaded."""

from dataclasses import dataclass
from typing import Any

from cotrace.common.errors import ArgumentError

from .checkpoint import check_not_quantised

SUPPORTED_MODEL_TYPES = ("gemma3_text", "gemma3")


@dataclass(frozen=True)
class Architecture:
    """Sizes and options of a Gemma 3 language model, all from its config."""

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    vocab_size: int
    layer_types: tuple[str, ...]
    sliding_window: int
    norm_eps: float
    attention_scale: float
    activation: str
    embedding_scale: float
    tied_unembedding: bool

    def window(self, layer: int) -> int | None:
        """Return how many positions a query of this layer attends to, its own included; None is all."""
        return self.sliding_window if self.layer_types[layer] == "sliding_attention" else None

    def __str__(self) -> str:
        return f"{self.n_layers} layers, width {self.d_model}"


def read_architecture(config: Any) -> Architecture:
    """Return the architecture of a Hugging Face config; of a multimodal one, that of its language model.

    Raises ArgumentError for another model family, and for options that cotrace does not implement, and FileError for
    quantised weights.
    """
    if getattr(config, "model_type", None) not in SUPPORTED_MODEL_TYPES:
        raise ArgumentError(
            f"this is a {getattr(config, 'model_type', 'unknown')!r} checkpoint and cotrace traces Gemma 3 only; "
            "pass a Gemma 3 model such as gemma-3-270m or google/gemma-3-1b-it"
        )
    check_not_quantised(config)
    text = config.get_text_config()
    _check_options(text)
    return Architecture(
        n_layers=text.num_hidden_layers,
        d_model=text.hidden_size,
        n_heads=text.num_attention_heads,
        n_kv_heads=text.num_key_value_heads,
        d_head=text.head_dim,
        d_mlp=text.intermediate_size,
        vocab_size=text.vocab_size,
        layer_types=tuple(text.layer_types),
        sliding_window=text.sliding_window,
        norm_eps=text.rms_norm_eps,
        attention_scale=text.query_pre_attn_scalar**-0.5,
        activation=text.hidden_activation,
        embedding_scale=text.hidden_size**0.5,
        tied_unembedding=bool(config.tie_word_embeddings and text.tie_word_embeddings),
    )


def _check_options(text: Any) -> None:
    """Raise ArgumentError for options that would make traces wrong; no released Gemma 3 sets them."""
    unsupported = {
        "final_logit_softcapping": "the logits are no longer linear in the residual stream",
        "attn_logit_softcapping": "attention would be computed differently",
        "attention_bias": "attention projections would carry constants",
        "use_bidirectional_attention": "positions would see later ones",
    }
    for name, consequence in unsupported.items():
        if getattr(text, name, None):
            raise ArgumentError(
                f"the model's config sets {name}={getattr(text, name)!r}, so {consequence}; "
                "cotrace does not support this: use an unmodified Gemma 3"
            )
    if not text.query_pre_attn_scalar > 0:
        raise ArgumentError(
            f"the model's config sets query_pre_attn_scalar={text.query_pre_attn_scalar!r}, whose root scales attention; "
            "correct it to a positive number"
        )
    unknown = set(text.layer_types) - {"sliding_attention", "full_attention"}
    if unknown or len(text.layer_types) != text.num_hidden_layers:
        raise ArgumentError(
            f"the model's layer_types {text.layer_types} are not those of a Gemma 3; check its config.json"
        )

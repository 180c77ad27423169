"""What a Gemma 3 configuration says about its architecture, checked before any weight is read."""

from dataclasses import dataclass
from typing import Any

from cotrace.common.errors import CotraceError

SUPPORTED = ("gemma3_text", "gemma3")


@dataclass(frozen=True)
class Architecture:
    """Sizes and switches of a Gemma 3 language model; every one comes from its config."""

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
        """How many positions, its own included, a position of this layer sees; None is all."""
        return self.sliding_window if self.layer_types[layer] == "sliding_attention" else None

    def __str__(self) -> str:
        return f"{self.n_layers} layers, width {self.d_model}"


def read_architecture(config: Any) -> Architecture:
    """Read the facts of a Hugging Face config (of `Gemma3Config` its language part).

    Raises:
        ValueError: another model family, or a switch that the frozen replacement does not model.
    """
    if getattr(config, "model_type", None) not in SUPPORTED:
        raise CotraceError(
            f"this is a {getattr(config, 'model_type', 'unknown')!r} checkpoint and cotrace traces Gemma 3 only; "
            "pass a Gemma 3 model such as gemma-3-270m or google/gemma-3-1b-it"
        )
    text = config.get_text_config()
    _refuse_unmodelled(text)
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


def _refuse_unmodelled(text: Any) -> None:
    """Gemma 3 releases have none of these; a checkpoint that does would be traced wrongly."""
    unmodelled = {
        "final_logit_softcapping": "the logits are no longer linear in the residual stream",
        "attn_logit_softcapping": "attention would be computed differently",
        "attention_bias": "attention projections would carry constants",
        "use_bidirectional_attention": "positions would see later ones",
    }
    for name, consequence in unmodelled.items():
        if getattr(text, name, None):
            raise CotraceError(
                f"the model's config sets {name}={getattr(text, name)!r}, so {consequence}; "
                "no released Gemma 3 does, and cotrace does not model it: use an unmodified Gemma 3"
            )
    unknown = set(text.layer_types) - {"sliding_attention", "full_attention"}
    if unknown or len(text.layer_types) != text.num_hidden_layers:
        raise CotraceError(
            f"the model's layer_types {text.layer_types} are not those of a Gemma 3; check its config.json"
        )

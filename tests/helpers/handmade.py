"""Tiny Gemma 3 models whose attention is written by hand: a token's type decides which type of token it reads.

A token is a word with a space in front. Values come in three types: " v3" in steps and answers, " q3" in questions, " h3" in
hints. A head attends equally to all visible tokens of one type, to BOS if there is none, copies which value they hold, and
writes it where the value " v3" is predicted. MLPs do nothing.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.tokenizer import PromptTokenizer

N_VALUES, HEAD = 10, 32
TYPES = ["value", "question", "hint", "so", "answer", "bos", "other"]
MARKERS = {" so": "so", " answer": "answer", " start": "other", " hint": "other", " ;": "other", " ...": "other"}
VALUES = {"value": " v", "question": " q", "hint": " h"}
WORDS = ["<bos>", *MARKERS, *(f"{prefix}{i}" for prefix in VALUES.values() for i in range(N_VALUES))]
# Dimensions of the residual stream: a constant, types, one per value for each type of value and for scratch, one per marker.
FIRST = {name: 8 + i * N_VALUES for i, name in enumerate(["value", "question", "hint", "scratch"])}
WIDTH = 56


@dataclass
class Layer:
    """One head: tokens of a type in `reads` attend to tokens of the type it names; all others attend to BOS."""

    reads: dict[str, str]
    source: tuple[str, ...] = ("value",)
    target: str = "value"
    window: int | None = None


READER = [Layer({"answer": "value", "so": "value"})]
LAST_STEP_READER = [Layer({"answer": "value", "so": "value"}, window=4)]
IGNORER = [Layer({"answer": "question", "so": "question"}, ("question",))]
HINT_FOLLOWER = [Layer({"answer": "hint", "so": "question"}, ("question", "hint"))]
SCRATCH = [Layer({"so": "question"}, ("question",), "scratch"), Layer({"answer": "so"}, ("scratch",))]


def model(layers: list[Layer], dtype: torch.dtype = torch.float64) -> SimpleNamespace:
    """Return a model with the parts that `ModelLike` names."""
    windows = [layer.window for layer in layers if layer.window is not None]
    config = Gemma3TextConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=8,
        num_hidden_layers=len(layers),
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HEAD,
        query_pre_attn_scalar=HEAD,
        sliding_window=windows[0] if windows else 64,
        layer_types=["full_attention" if layer.window is None else "sliding_attention" for layer in layers],
        pad_token_id=0,
    )
    hf_model = Gemma3ForCausalLM(config).to(dtype)
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter.zero_()
        hf_model.model.embed_tokens.weight.copy_(_embeddings())
        for layer, block in zip(layers, hf_model.model.layers, strict=True):
            _write(layer, block)
    return SimpleNamespace(weights=Gemma3(hf_model.eval(), dtype), tokenizer=tokenizer())


def tokenizer(words: list[str] = WORDS, pattern: str = r" ?\S+") -> PromptTokenizer:
    """Return a tokenizer of words, each with the space in front of it."""
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<bos>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    inner.decoder = decoders.Fuse()
    return PromptTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", unk_token="<bos>"), len(words), 0
    )


def _embeddings() -> torch.Tensor:
    table = torch.zeros(len(WORDS), WIDTH)
    table[:, 0] = 1
    for i, word in enumerate(WORDS):
        kind = "bos" if i == 0 else MARKERS.get(word) or next(k for k, v in VALUES.items() if word.startswith(v))
        table[i, 1 + TYPES.index(kind)] = 1
        table[i, FIRST[kind] + int(word[2:]) if kind in VALUES else FIRST["scratch"] + N_VALUES + i % 8] = 1
    return table


def _write(layer: Layer, block) -> None:
    """Write one layer's attention; its MLP stays zero."""
    attention = block.self_attn
    for kind in TYPES:
        read = layer.reads.get(kind, "bos")
        attention.q_proj.weight[_slow(read), 1 + TYPES.index(kind)] = 1
        for other in TYPES:
            missed = 0.0 if kind == "bos" else -1.0  # BOS is read where there is nothing else to read
            attention.k_proj.weight[_slow(other), 1 + TYPES.index(kind)] = 1.0 if other == kind else missed
    for name in layer.source:
        for i in range(N_VALUES):
            attention.v_proj.weight[i, FIRST[name] + i] = 1
            attention.v_proj.weight[N_VALUES, FIRST[name] + i] = 1  # that there is a value
    for i in range(N_VALUES):
        attention.o_proj.weight[FIRST[layer.target] + i, i] = 1
    if layer.target == "value":
        attention.o_proj.weight[1 + TYPES.index("value"), N_VALUES] = 1
    attention.q_norm.weight.fill_(1)
    attention.k_norm.weight.fill_(1)
    block.post_attention_layernorm.weight.fill_(3)


def _slow(kind: str) -> int:
    """Return a dimension of the head that the rotary embedding hardly turns."""
    return HEAD // 2 - 1 - TYPES.index(kind)

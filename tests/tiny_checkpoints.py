"""Tiny checkpoints as users have them: with tokenizers, multimodal, and damaged ones."""

import json
from pathlib import Path

import tiny
import torch
from safetensors.torch import load_file
from tiny import save
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, PreTrainedTokenizerFast

WORDS = ("user", "model", "\n", "The", " opposite", " of", " hot", " is", " cold", "hot", "cold")
SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role not in ('user', 'assistant') %}{{ raise_exception('roles are user and assistant') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def edit(path: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of a safetensors file; None removes one. Replaces the file: others may have mapped it."""
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors |= {name: tensor for name, tensor in changes.items() if tensor is not None}
    kept = {name: tensor for name, tensor in tensors.items() if changes.get(name, tensor) is not None}
    path.unlink()
    save(kept, path)


def truncate(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(len(content) * share)])


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_tokenizer(folder: Path, chat_template: str | None = CHAT_TEMPLATE, words: tuple[str, ...] = WORDS) -> Path:
    """Write a word tokenizer that keeps spaces and line breaks, with Gemma's special tokens."""
    vocabulary = {word: number for number, word in enumerate((*SPECIALS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?\S+"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        chat_template=chat_template,
    )
    fast.save_pretrained(folder)
    return folder


def write_multimodal(folder: Path) -> Path:
    """Write a Gemma 3 with a vision tower, as the 4B and larger checkpoints have."""
    text = Gemma3TextConfig(
        num_hidden_layers=2,
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=tiny.VOCABULARY,
        sliding_window=4,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0,
    )
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 16, "patch_size": 8, "vision_use_head": False}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=39)
    torch.manual_seed(1)
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    model.save_pretrained(folder)
    return folder

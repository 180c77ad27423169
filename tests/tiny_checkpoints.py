"""Builders of tiny checkpoints in every layout that users have, and of damaged ones."""

import json
from pathlib import Path

import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, PreTrainedTokenizerFast

LAYERS, WIDTH, FEATURES = tiny.LAYERS, tiny.WIDTH, tiny.FEATURES
SET = {"scope-clt": "clt/width_24_l0_medium", "scope-per-layer": "transcoder_all", "ct-clt": "", "ct-per-layer": ""}
WORDS = ("user", "model", "\n", "The", " opposite", " of", " hot", " is", " cold", "hot", "cold")
SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role not in ('user', 'assistant') %}{{ raise_exception('roles are user and assistant') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def random_layers(seed: int = 0, width: int = WIDTH, layers: int = LAYERS) -> list[dict[str, torch.Tensor]]:
    """One layer's tensors each, in Gemma Scope's orientation; `w_dec` is (F, layers from its own on, D)."""
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
    """File names of one layer with their tensors."""
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


def write_tokenizer(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """A word tokenizer that keeps spaces and line breaks, with Gemma's special tokens."""
    vocabulary = {word: number for number, word in enumerate((*SPECIALS, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?\S+"), "isolated")
    words.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words,
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
    """A Gemma 3 with a vision tower, as the 4B and larger checkpoints are."""
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

"""Recognise checkpoints whose weights are not those of a plain Gemma 3, by file names, config and tensor headers.

Quantised weights, adapters that are not merged, pickles and files of other tools cannot be traced, or would be traced
without a part of them. Each is refused with what it is and what to do, before any weight is read.
"""

import json
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from cotrace.common.errors import FileError, first_line

from .file_kinds import not_safetensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
USE_ORIGINAL = "use the original checkpoint, or dequantise it and save it as bfloat16 safetensors"
MERGE = "merge it: PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(folder)"
PLAIN_DTYPES = ("F64", "F32", "F16", "BF16")
OTHER_FILES = {  # pattern of names, where there are no safetensors: what they are, and what to do
    "adapter_model*": ("an adapter, not a model", f"{MERGE}, then pass that folder"),
    "*.gguf": ("GGUF files", "pass one of them instead of the folder"),
    "pytorch_model*.bin": (
        "pickled weights (pytorch_model.bin), which can run code when they are read",
        "if you trust them, save them as safetensors: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new)",
    ),
    "*.pt*": ("weights of torch.save", "convert the model to a Hugging Face folder with safetensors"),
    "*.ckpt": ("a checkpoint of a trainer", "convert the model to a Hugging Face folder with safetensors"),
    "*.h5": ("TensorFlow weights", "convert the model to a Hugging Face folder with safetensors"),
    "*.msgpack": ("Flax weights", "convert the model to a Hugging Face folder with safetensors"),
    "*.npz": ("NumPy or MLX weights", "convert the model to a Hugging Face folder with safetensors"),
    "*.onnx": ("an ONNX export", "pass the Hugging Face folder that it was made from"),
    "*.task": ("a LiteRT bundle", "pass the Hugging Face folder that it was made from"),
    "params_layer_*.safetensors": ("transcoders, not a model", "pass the folder as --transcoders or transcoders="),
    "W_enc_*.safetensors": ("transcoders, not a model", "pass the folder as --transcoders or transcoders="),
    "layer_*.safetensors": ("transcoders, not a model", "pass the folder as --transcoders or transcoders="),
}
QUANTISED_TENSOR = re.compile(
    r"[._](qweight|qzeros|g_idx|qdata|scales|biases|absmax|nested_absmax|quant_map|quant_state|SCB|W_q|codebooks|"
    r"input_scale|output_scale|(weight_)?(packed|scale|scale_inv|scale_2|zero_point|scale_and_zero))(\.|$)"
)
ADAPTER_TENSOR = re.compile(
    r"(^|[._])(lora|ia3|hada|lokr|oft|boft|vera)_|\.base_layer\.|modules_to_save|lora_magnitude"
)
# Tensors that the language model does not need: of the vision tower, and rotary frequencies, which follow the config.
UNUSED_TENSOR = re.compile(r"vision_tower\.|multi_modal_projector\.|rotary_emb\.inv_freq$")


class Header(NamedTuple):
    """A tensor as the header of a safetensors file states it."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def check_file_names(name: str, paths: Iterable[str]) -> None:
    """Raise FileError if the files of a folder are those of an adapter, of another format, or of transcoders.

    Args:
        name: the model's name for messages.
        paths: the names of the files in its folder.
    """
    names = set(paths)
    has_weights = WEIGHTS in names or INDEX in names
    if "adapter_config.json" in names:
        if has_weights:
            raise FileError(f"{name} holds an adapter (adapter_config.json) beside the model; {MERGE}, or move it away")
        raise FileError(f"{name} holds an adapter, not a model; {MERGE}, then pass that folder")
    if "hf_quant_config.json" in names:
        raise FileError(f"{name} is stored quantised (hf_quant_config.json); {USE_ORIGINAL}")
    if has_weights:
        return
    for pattern, (what, cure) in OTHER_FILES.items():
        if any(fnmatch(each, pattern) for each in names):
            raise FileError(f"{name} holds {what}; {cure}")


def check_not_quantised(config: Any) -> None:
    """Raise FileError if a Hugging Face config says that its weights are stored quantised."""
    for each in (config, config.get_text_config()):
        for key in ("quantization_config", "compression_config", "quantization"):
            if quantised := getattr(each, key, None):
                raise FileError(f"the checkpoint is stored quantised ({_method(quantised)}); {USE_ORIGINAL}")


def _method(quantised: Any) -> str:
    stated = quantised if isinstance(quantised, dict) else getattr(quantised, "__dict__", {})
    method = stated.get("quant_method") or next((k for k in ("load_in_4bit", "load_in_8bit") if stated.get(k)), "")
    name = "bitsandbytes" if str(method).startswith("load_in") else str(getattr(method, "value", method))
    bits = stated.get("bits") or next((n for n in (4, 8) if stated.get(f"load_in_{n}bit")), None)
    return ", ".join(filter(None, [name, f"{bits} bits" if bits else ""])) or "quantization_config"


def check_tensors(name: str, folder: Path, config: Any) -> None:
    """Raise FileError unless the safetensors of a folder hold plain weights, whose embedding fits the config.

    Reads headers only, and the unembedding where it is stored although the config says that it is the embedding.
    """
    headers = read_headers(name, folder)
    for tensor, header in headers.items():
        if ADAPTER_TENSOR.search(tensor):
            raise FileError(f"{name} holds tensors of an adapter that is not merged ({tensor}); {MERGE}")
        if QUANTISED_TENSOR.search(tensor) or header.dtype not in PLAIN_DTYPES:
            raise FileError(f"{name} is stored quantised ({tensor} is {header.dtype}); {USE_ORIGINAL}")
    text = config.get_text_config()
    embedding = next((header for tensor, header in headers.items() if tensor.endswith("embed_tokens.weight")), None)
    expected = (text.vocab_size, text.hidden_size)
    if embedding is not None and embedding.shape != expected:
        raise FileError(
            f"the embedding of {name} has shape {embedding.shape} and its config.json says {expected} (vocab_size, "
            "hidden_size); use the config that was saved with these weights"
        )
    _check_tied(name, headers, config)


def _check_tied(name: str, headers: dict[str, Header], config: Any) -> None:
    """Raise FileError if the unembedding differs from the embedding although the config ties them."""
    if not config.tie_word_embeddings:
        return
    ends = [t for end in ("lm_head.weight", "embed_tokens.weight") for t in headers if t.endswith(end)]
    if len(ends) == 2 and not torch.equal(*(_read(headers[tensor].file, tensor) for tensor in ends)):
        raise FileError(
            f"{name} stores a separate lm_head.weight and its config.json says tie_word_embeddings; set that to false"
        )


def read_headers(name: str, folder: Path) -> dict[str, Header]:
    """Return the headers of all tensors of a folder's model. Raises FileError for missing or damaged files."""
    headers = {}
    for path in _weight_files(name, folder):
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                for tensor in file.keys():
                    part = file.get_slice(tensor)
                    headers[tensor] = Header(path, part.get_dtype(), tuple(part.get_shape()))
        except (OSError, SafetensorError, ValueError) as error:
            raise FileError(f"cannot load the weights of {name}: {not_safetensors(path, error)}") from error
    return headers


def _weight_files(name: str, folder: Path) -> list[Path]:
    """Return the files that the library reads: one file, or those of the index."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.glob("*.safetensors"))
        hint = f"; it has {', '.join(others[:3])}" if others else ""
        raise FileError(f"cannot load the weights of {name}: it has no {WEIGHTS}{hint}; download them again")
    try:
        listed = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        absent = [file for file in listed if not (folder / file).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{INDEX} of {name} cannot be read ({first_line(error)}); download it again") from error
    if absent:
        raise FileError(f"cannot load the weights of {name}: {', '.join(absent[:3])} missing; download them again")
    return [folder / file for file in listed]


def _read(path: Path, tensor: str) -> torch.Tensor:
    with safe_open(path, framework="pt", device="cpu") as file:
        return file.get_tensor(tensor)


def check_report(name: str, report: dict[str, Any]) -> None:
    """Raise FileError if the library did not use every tensor, and fill every weight, when it loaded a model.

    Args:
        name: the model's name for messages.
        report: the library's loading info.
    """
    mismatched = sorted(report.get("mismatched_keys") or (), key=str)
    if mismatched:
        tensor, stored, expected = (str(part).removeprefix("torch.Size(").removesuffix(")") for part in mismatched[0])
        raise FileError(
            f"{tensor} of {name} has shape {stored} and its config.json says {expected}; use the config that was saved "
            "with these weights"
        )
    unknown = sorted(key for key in report["unexpected_keys"] if not UNUSED_TENSOR.search(key))
    absent = sorted(report["missing_keys"])  # the library fills them with random numbers
    lacking = f" and lack {', '.join(absent[:3])}" if absent else ""
    if unknown:
        raise FileError(
            f"the weights of {name} hold {len(unknown)} tensors that a Gemma 3 does not have ({', '.join(unknown[:3])})"
            f"{lacking}; tracing would ignore them: save the model as a plain Gemma 3"
        )
    if absent:
        raise FileError(f"the weights of {name} lack {', '.join(absent[:3])}; download them again")

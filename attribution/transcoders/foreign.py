"""Recognise files of other tools where transcoders are expected, and say what to do with them."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SCOPE_OR_TRAIN = "use Gemma Scope 2's transcoders, or train some with `cotrace train`"
MODULE_OUTPUT = (
    "they write to the MLP before its output norm, and tracing needs transcoders that write "
    f"post_feedforward_layernorm.output; {SCOPE_OR_TRAIN}"
)
REWRITE = "write each layer as layer_{i}.safetensors with W_enc (F,D), b_enc, W_dec (F,D) and b_dec"
# Patterns of paths: what they are, and what to do.
OTHERS = (
    (
        r"(.*/)?layers\.\d+(\.mlp)?/(sae|state)\.safetensors",
        "EleutherAI's sparse coders (layers.N.mlp/sae.safetensors)",
        MODULE_OUTPUT,
    ),
    (r"(.*/)?(sae_weights|sparsity)\.safetensors", "dictionaries of SAELens (sae_weights.safetensors)", REWRITE),
    (r"(.*/)?(trainer_\d+/)?ae\.pt", "dictionaries of dictionary_learning (ae.pt)", REWRITE),
    (r"(.*/)?params\.npz", "dictionaries of the first Gemma Scope (params.npz), which are for Gemma 2", SCOPE_OR_TRAIN),
    (r"(.*/)?adapter_model\.safetensors", "an adapter of a model", "merge it into the model and pass that as --model"),
    (
        r"(.*/)?model(-\d+-of-\d+)?\.safetensors",
        "a language model",
        "pass it as --model, and transcoders as --transcoders",
    ),
    (r".*\.gguf", "a model in GGUF", "pass it as --model, and transcoders as --transcoders"),
    (r".*\.arrow(\.zst)?", "graphs of cotrace", "open them with cotrace.open or `cotrace show`"),
    (
        r".*\.(pt|pth|bin|pkl|ckpt)",
        "weights or a graph of torch.save, such as circuit-tracer's graph.pt",
        f"if they are transcoders, {REWRITE}",
    ),
    (r".*\.npz", "NumPy arrays", REWRITE),
)
GRAPH_JSON = "a graph of Neuronpedia or circuit-tracer in JSON, not transcoders; pass the folder of the transcoders it was traced with"


def describe_others(paths: Iterable[str]) -> str | None:
    """Return what the files of a folder are, and what to do with them; None if no tool's files are recognised."""
    names = list(paths)
    for pattern, what, cure in OTHERS:
        if any(re.fullmatch(pattern, name) for name in names):
            return f"it holds {what}; {cure}"
    return None


def describe_file(path: Path) -> str | None:
    """Return what one file is that was passed as transcoders, and what to do with it; None if it is not recognised."""
    if path.suffix == ".json" and _is_graph(_read_json(path)):
        return GRAPH_JSON
    for pattern, what, cure in OTHERS:
        if re.fullmatch(pattern, path.as_posix()):
            return f"of {what}; {cure}"
    return None


def describe_json_files(folder: Path) -> str | None:
    """Return that a folder holds a graph in JSON, if one of its files is one."""
    found = next((path for path in sorted(folder.glob("*.json")) if _is_graph(_read_json(path))), None)
    return None if found is None else f"{found.name} is {GRAPH_JSON}"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _is_graph(value: Any) -> bool:
    return isinstance(value, dict) and {"nodes", "links"} <= value.keys()

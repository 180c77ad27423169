"""A loaded Gemma 3 language model: where it came from, its weights and its tokenizer."""

import os
from dataclasses import dataclass

import torch

from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress

from .architecture import Architecture, read_architecture
from .dtypes import check_dtype
from .gemma3 import Gemma3
from .loading import load_tokenizer, load_weights, quiet_transformers
from .lora import merge_adapter, read_adapter
from .model_source import ModelSource, find_model
from .tokenizer import PromptTokenizer

DTYPES = {  # name: (dtype of the stored weights, dtype of the arithmetic)
    "auto": (torch.float32, torch.float32),
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "bfloat16": (torch.bfloat16, torch.float32),
}


@dataclass(frozen=True)
class LanguageModel:
    """A Gemma 3 language model, without transcoders. `load_language_model` returns one."""

    source: ModelSource
    weights: Gemma3
    tokenizer: PromptTokenizer

    @property
    def architecture(self) -> Architecture:
        """Sizes of the model."""
        return self.weights.architecture


def load_language_model(
    model: str | os.PathLike | ModelSource, *, device: str = "auto", dtype: str = "auto", progress: bool | None = None
) -> LanguageModel:
    """Load a Gemma 3 language model; the arguments are those of `cotrace.load`, or a source that was found before.

    Raises CotraceError for a model that is missing, damaged, not a Gemma 3, or too large for the memory.
    """
    storage, compute = parse_dtype(dtype)
    torch_device = parse_device(device)
    bars = Progress(progress)
    source = model if isinstance(model, ModelSource) else find_source(model, bars)
    arch = read_architecture(source.config())
    source.require_memory(storage, torch_device)
    with quiet_transformers(), bars.phase(f"loading {source.name}"):
        hf_tokenizer = load_tokenizer(source, arch)
        weights = Gemma3(load_weights(source, storage, torch_device), compute)
        if source.adapter is not None:
            merge_adapter(weights, read_adapter(source.adapter), source.name)
    bos_id = getattr(hf_tokenizer, "bos_token_id", None)
    return LanguageModel(source, weights, PromptTokenizer(hf_tokenizer, arch.vocab_size, bos_id))


def find_source(model: str | os.PathLike, progress: Progress) -> ModelSource:
    """Return the folder of a model; download or convert it if needed."""
    with quiet_transformers(), progress.phase(f"finding {model}"):
        return find_model(model, progress.say)


def parse_dtype(dtype: str) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtypes of the stored weights and of the arithmetic. Raises ArgumentError for an unknown name."""
    return DTYPES[check_dtype(dtype)]


def parse_device(device: str) -> torch.device:
    """Return the torch device of a name; "auto" is CUDA if a device is available, else the CPU.

    Raises ArgumentError for an unknown name, and for a CUDA device that does not exist.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError(f"invalid device {device!r}: expected auto, cpu, cuda or cuda:N") from error
    if found.type not in ("cpu", "cuda"):
        raise ArgumentError(f"device {device!r} is not supported: use auto, cpu, cuda or cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ArgumentError(
            f"device {device!r} does not exist: torch sees {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    return found

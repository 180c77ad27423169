"""Load the weights and the tokenizer of a model's folder, and check them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from cotrace.common.errors import FileError, ResourceError, first_line

from .architecture import Architecture
from .checkpoint import check_report, check_tensors
from .model_source import ModelSource
from .tokenizer import check_segmentation

GEMMA_VOCAB_SIZE = 262_144  # released Gemma 3 models have at least this many tokens; models for tests have fewer


def load_weights(source: ModelSource, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the Hugging Face model of a source, in `dtype` on `device`, without its vision tower.

    Raises FileError for weights that are missing, damaged, NaN or infinite, and for those of another kind of checkpoint.
    """
    check_tensors(source.name, source.folder, source.config())
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.folder, dtype=dtype, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # damaged weights and generation configs raise errors of many kinds
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            # The files fit into memory, or they would have been refused: it is what the sizes ask for that does not.
            raise ResourceError(
                f"out of memory: {source.name} has sizes in its config.json that need more than is free; correct them, or "
                "use a smaller model"
            ) from error
        raise FileError(
            f"cannot load the weights of {source.name}: {first_line(error)}; correct its config.json and "
            "generation_config.json, or download them again"
        ) from error
    model, report = loaded
    check_report(source.name, report)
    _check_finite(source, model)
    if hasattr(model.model, "vision_tower"):
        del model.model.vision_tower
    model.requires_grad_(False)
    return torch.nn.Module.to(model.eval(), device)


def _check_finite(source: ModelSource, model: Any) -> None:
    language = getattr(model.model, "language_model", model.model)
    for name, parameter in [*language.named_parameters(), *model.lm_head.named_parameters()]:
        if not parameter.sum().isfinite() and not parameter.isfinite().all():
            raise FileError(f"{name} of {source.name} has NaN or infinite values; download the weights again")


def load_tokenizer(source: ModelSource, arch: Architecture) -> Any | None:
    """Return the Hugging Face tokenizer of a source, or None if its folder has none.

    Raises FileError for a tokenizer that cannot be read, and DependencyError if this version of transformers
    builds Gemma's tokenizer wrongly.
    """
    if not any((source.folder / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder)
        tokenizer.decode(tokenizer("The", add_special_tokens=False)["input_ids"])  # finds settings of wrong types
    except Exception as error:  # the tokenizers library raises bare exceptions for damaged files
        raise FileError(
            f"the tokenizer of {source.name} cannot be read ({first_line(error)}); download it again"
        ) from error
    if arch.vocab_size >= GEMMA_VOCAB_SIZE:
        check_segmentation(tokenizer)
    return tokenizer


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the progress bars and warnings of transformers inside the block; what matters in them is raised as errors."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()

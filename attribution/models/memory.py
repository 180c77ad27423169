"""Estimate memory and disk space before expensive steps, and turn out-of-memory errors into ResourceError."""

import ctypes
import errno
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from cotrace.common.errors import ResourceError
from cotrace.common.files import free_disk
from cotrace.common.sizes import size_text

from .architecture import Architecture
from .attention_pattern import QueryBlock, query_blocks

GIB = 2**30
LAYER_TENSORS = 3  # tensors of a pattern's size, or of the size of a layer's neurons, in use while a layer runs


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device; on a GPU including the memory that torch has reserved and does not use."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def release_freed_memory() -> None:
    """Return freed memory to the system; without this call glibc keeps blocks of less than 32 MB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def check_memory(needed: float, free: int, what: str, cure: str) -> None:
    """Raise ResourceError if `needed` bytes exceed `free` ones; the message says `what` needs them and names a `cure`."""
    if needed > free:
        raise ResourceError(f"{what} needs about {size_text(needed)} of memory and {size_text(free)} are free; {cure}")


def check_forward_memory(arch: Architecture, n_positions: int, dtype: torch.dtype, free: int) -> None:
    """Raise ResourceError if attention patterns, MLP inputs and outputs, and the logits of one position do not fit."""
    attended = _attended(arch, n_positions)
    patterns = sum(attended) + max(attended)  # the scores of one layer are in use beside its pattern
    values = patterns + arch.n_layers * n_positions * 4 * arch.d_model + 2 * arch.vocab_size
    check_memory(
        values * dtype.itemsize,
        free,
        f"a prompt of {n_positions} tokens",
        "shorten the prompt, or allow more with memory=",
    )


def layer_numel(arch: Architecture, n_positions: int) -> int:
    """Return how many numbers are in use while one layer, or the logits of one position, are computed."""
    largest = max(*_attended(arch, n_positions), n_positions * arch.d_mlp)
    return max(LAYER_TENSORS * largest, 2 * arch.vocab_size)


def patterns_numel(arch: Architecture, n_positions: int) -> int:
    """Return the size of the attention patterns of all layers, in numbers."""
    return sum(_attended(arch, n_positions))


def kv_cache_numel(arch: Architecture, n_positions: int) -> int:
    """Return the size of a `KVCache` of `n_positions` positions, in numbers."""
    windows = (arch.window(layer) for layer in range(arch.n_layers))
    cached = sum(n_positions if window is None else min(n_positions, window) for window in windows)
    return 2 * arch.n_kv_heads * arch.d_head * cached


def check_logits_memory(arch: Architecture, n_positions: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ResourceError if the logits of all positions do not fit into the free memory."""
    what = f"logits of {n_positions} positions over {arch.vocab_size:,} tokens"
    check_memory(n_positions * arch.vocab_size * dtype.itemsize, free_memory(device), what, "shorten the prompt")


def check_weights_memory(files: list[Path], stored: torch.dtype, wanted: torch.dtype, device: torch.device) -> None:
    """Raise ResourceError if a model's weights, stored in `files`, do not fit into the free memory in the wanted dtype."""
    needed = sum(path.stat().st_size for path in files) * wanted.itemsize / stored.itemsize
    check_memory(needed, free_memory(device), "the model's weights", 'use dtype="bfloat16" or a smaller model')


def check_disk_space(needed: int, what: str, cure: str) -> None:
    """Raise ResourceError if fewer than `needed` bytes are free in the folder for temporary files."""
    free = free_disk()
    if needed > free:
        raise ResourceError(
            f"{what} need {size_text(needed)} in {tempfile.gettempdir()} and {size_text(free)} are free; set TMPDIR to a "
            f"larger disk, or {cure}"
        )


def _attended(arch: Architecture, n_positions: int) -> list[int]:
    """Return the size of each layer's attention pattern, in numbers."""
    layers = (
        [_size(block) for block in query_blocks(n_positions, arch.window(layer))] for layer in range(arch.n_layers)
    )
    return [arch.n_heads * sum(sizes) for sizes in layers]


def _size(block: QueryBlock) -> int:
    return (block.queries.stop - block.queries.start) * (block.keys.stop - block.keys.start)


@contextmanager
def out_of_memory(cure: str = "shorten the prompt or use a smaller model") -> Iterator[None]:
    """Turn the out-of-memory errors of Python and torch, and the full-disk error of the system, into ResourceError.

    Also a decorator: `@out_of_memory()`.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(f"out of memory: {cure}") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):  # torch has no class for the CPU's
            raise
        raise ResourceError(f"out of memory: {cure}") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ResourceError(
            f"no space left on {error.filename or tempfile.gettempdir()}: free some, or set TMPDIR to a larger disk"
        ) from error

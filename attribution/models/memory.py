"""Estimates before the expensive part: what a trace will need, and whether it is there."""

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

from .architecture import Architecture
from .attention_pattern import QueryBlock, query_blocks

GIB = 2**30
TIMES_INSIDE = 3  # tensors as large as a pattern, or as a layer's neurons, that are there at once while it is computed


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on a GPU also what torch keeps for its own use."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def release_freed_memory() -> None:
    """Return memory that was freed to the system: glibc keeps blocks of less than 32 MB otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def check_memory(needed: float, free: int, what: str, cure: str) -> None:
    """Raise ValueError if there are fewer free bytes than needed."""
    if needed > free:
        raise ResourceError(
            f"{what} needs about {needed / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB are free; {cure}"
        )


def check_forward_memory(arch: Architecture, n_positions: int, dtype: torch.dtype, free: int) -> None:
    """Check room for the frozen patterns, MLP inputs and outputs, and the logits of one position."""
    attended = _attended(arch, n_positions)
    patterns = sum(attended) + max(attended)  # one layer's are made of scores of their size
    values = patterns + arch.n_layers * n_positions * 4 * arch.d_model + 2 * arch.vocab_size
    check_memory(values * dtype.itemsize, free, f"a prompt of {n_positions} tokens", "shorten the prompt or allow more")


def layer_numel(arch: Architecture, n_positions: int) -> int:
    """Numbers that are there at once while one layer is computed, or the logits of one position."""
    largest = max(*_attended(arch, n_positions), n_positions * arch.d_mlp)
    return max(TIMES_INSIDE * largest, 2 * arch.vocab_size)


def patterns_numel(arch: Architecture, n_positions: int) -> int:
    """Numbers in the attention patterns of all layers."""
    return sum(_attended(arch, n_positions))


def kv_cache_numel(arch: Architecture, n_positions: int) -> int:
    """Numbers in the keys and values of so many positions, as far back as later ones attend."""
    windows = (arch.window(layer) for layer in range(arch.n_layers))
    kept = sum(n_positions if window is None else min(n_positions, window) for window in windows)
    return 2 * arch.n_kv_heads * arch.d_head * kept


def check_logits_memory(arch: Architecture, n_positions: int, dtype: torch.dtype, device: torch.device) -> None:
    """Check room for the logits of every position."""
    what = f"logits of {n_positions} positions over {arch.vocab_size:,} tokens"
    check_memory(n_positions * arch.vocab_size * dtype.itemsize, free_memory(device), what, "shorten the prompt")


def check_weights_memory(files: list[Path], stored: torch.dtype, wanted: torch.dtype, device: torch.device) -> None:
    """Check room for a model's weights in the wanted dtype, by the size of its files."""
    needed = sum(path.stat().st_size for path in files) * wanted.itemsize / stored.itemsize
    check_memory(needed, free_memory(device), "the model's weights", "use dtype bfloat16 or a smaller model")


def check_disk_space(needed: int, what: str, cure: str) -> None:
    """Raise ValueError if the temporary folder has less room than `needed` bytes."""
    free = free_disk()
    if needed > free:
        raise ResourceError(
            f"{what} need {needed / GIB:.1f} GiB in {tempfile.gettempdir()} and {free / GIB:.1f} GiB are free; set TMPDIR "
            f"to a larger disk, or {cure}"
        )


def _attended(arch: Architecture, n_positions: int) -> list[int]:
    """Numbers in each layer's attention pattern."""
    of_layers = (
        [_size(span) for span in query_blocks(n_positions, arch.window(layer))] for layer in range(arch.n_layers)
    )
    return [arch.n_heads * sum(sizes) for sizes in of_layers]


def _size(span: QueryBlock) -> int:
    return (span.queries.stop - span.queries.start) * (span.keys.stop - span.keys.start)


@contextmanager
def out_of_memory(cure: str = "shorten the prompt or use a smaller model") -> Iterator[None]:
    """Raise ResourceError in place of the errors with which Python, torch and the file system run out of room.

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

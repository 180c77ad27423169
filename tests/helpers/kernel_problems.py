"""Helpers of the kernel tests: backends on devices, memory filled with NaN, error budgets, tiny tiles."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from cotrace.kernels import backends
from cotrace.kernels.encode import streaming

Result = TypeVar("Result")
NO_CUDA = "NOT TESTED: torch sees no CUDA device"


class Runner(NamedTuple):
    """A backend and the type of device it runs on."""

    backend: str
    device: str

    @property
    def interpreted(self) -> bool:
        """Return whether the kernels run in Triton's interpreter, where each program takes about a millisecond."""
        return self.backend == "triton" and backends.interpreting()


def _parameter(backend: str, device: str):
    """Return a runner as a parameter; one that cannot run here is skipped with the reason."""
    marks = []
    if device == "cuda":
        marks = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA)]
    elif obstacle := backends.obstacle(backend, device):  # Triton's interpreter is off where torch sees a CUDA device
        marks = [pytest.mark.skip(reason=f"NOT TESTED: {obstacle}")]
    return pytest.param(Runner(backend, device), id=f"{backend}-{device}", marks=marks)


_TORCH, _NUMBA, _TRITON = (_parameter(backend, "cpu") for backend in ("torch", "numba", "triton"))
_ON_CUDA = [_parameter(backend, "cuda") for backend in ("torch", "triton")]
every_backend = pytest.mark.parametrize("runner", [_TORCH, _NUMBA, _TRITON, *_ON_CUDA])
every_compiled_backend = pytest.mark.parametrize("runner", [_TORCH, _NUMBA, *_ON_CUDA])
every_backend_but_numba = pytest.mark.parametrize("runner", [_TORCH, _TRITON, *_ON_CUDA])


def examples(runner: Runner) -> int:
    """Return the number of examples of a property to run."""
    return 5 if runner.interpreted else 60


# Uninitialised memory


def poisoned(runner: Runner, call: Callable[[], Result]) -> Result:
    """Return the result of a call in which new memory is filled with NaN, so that unwritten entries are not zero."""
    if runner.backend == "numba":
        call()  # compiles, which must not see the functions that are replaced below
    with poisoned_memory():
        return call()


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill the uninitialised memory that Python code gets from torch and numpy with NaN, or the largest integer."""
    places = [
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (np, "empty"),
        (np, "empty_like"),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, _poisoning(getattr(owner, name))))
        yield


def _poisoning(allocate: Callable) -> Callable:
    def allocate_poisoned(*arguments, **options):
        fresh = allocate(*arguments, **options)
        if isinstance(fresh, Tensor):
            inexact, largest = fresh.is_floating_point(), lambda: torch.iinfo(fresh.dtype).max
            fresh.fill_(torch.nan if inexact else True if fresh.dtype == torch.bool else largest())
        elif fresh.dtype.kind in "fiu":
            fresh.fill(np.nan if fresh.dtype.kind == "f" else np.iinfo(fresh.dtype).max)
        return fresh

    return allocate_poisoned


_CLEAR = Path("/proc/self/clear_refs")


def counts_memory() -> bool:
    """Return whether the system reports the peak memory of a process."""
    return os.access(_CLEAR, os.W_OK)


def forget_peak_memory() -> int:
    """Reset `peak_memory` to the current memory of the process, and return it."""
    _CLEAR.write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """Return the peak memory of this process, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def memory_grows_by_less_than(n_bytes: int) -> Iterator[None]:
    """Assert that the memory of the process grows by less than this; not checked where the system does not report it."""
    before = forget_peak_memory() if counts_memory() else None
    yield
    if before is not None:
        grown = peak_memory() - before
        assert grown < n_bytes, f"{grown / 1e6:.0f} MB of memory were touched"


def virtual_memory(n: int, device: str) -> Tensor:
    """Return float32 numbers in untouched memory: on the CPU only written pages exist."""
    try:
        return torch.empty(n, device=device)
    except RuntimeError as error:  # also torch.OutOfMemoryError
        pytest.skip(f"NOT TESTED: no room for {n * 4 / 1e9:.1f} GB of untouched memory ({error})")


# Budgets of rounding errors


def gamma(n: int, dtype: torch.dtype) -> float:
    """Relative error of a sum of n products in dtype's sum type, in any order (Higham 2002, section 3.1).

    With the distance between neighbouring numbers, twice the unit roundoff: tensor cores cut off where
    processors round, and of float64 the reference is as far from the exact result as what it is compared with.
    """
    eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    return n * eps / (1 - n * eps)


def rounding(stored: torch.dtype, computed: torch.dtype) -> float:
    """Return the relative error of storing a sum of numbers of a type; zero where the type of the sum is stored."""
    sum_type = torch.float64 if computed == torch.float64 else torch.float32
    return torch.finfo(stored).eps if torch.finfo(stored).bits < torch.finfo(sum_type).bits else 0.0


# TF32 keeps 10 bits of a float32's mantissa, and tensor cores truncate the others: each factor is off
# by up to 2^-10, their product by (1 + 2^-10)^2 - 1.
TF32_PRODUCTS = 2 * 2.0**-10 + 2.0**-20

PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "tf32": torch.float32}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


@contextlib.contextmanager
def matrix_products_in(precision: str) -> Iterator[None]:
    """Allow or forbid TF32; on the CPU it must change nothing."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def of_products(precision: str, device: str) -> float:
    """Return the relative error that a setting allows in the products."""
    return TF32_PRODUCTS if precision == "tf32" and device == "cuda" else 0.0


# Problems


def integers(*shape: int, seed: int, largest: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return small integers: their sums of products are exact in every type, and there are many ties."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).to(dtype)


def gaussian(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return random numbers that `dtype` can store, in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype).double()


def bits(tensor: Tensor) -> Tensor:
    """Return integers that are equal where all bits are equal, also for NaN."""
    sizes = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    return tensor.detach().cpu().contiguous().view(sizes[tensor.element_size()])


def spread(tensor: Tensor, axis: int) -> Tensor:
    """Return a copy with a stride along an axis for which the last offset exceeds 32 bits; little of it is touched."""
    strides = [1] * tensor.ndim
    for other in range(tensor.ndim - 1, -1, -1):
        inner = [i for i in range(other + 1, tensor.ndim) if i != axis]
        strides[other] = strides[inner[0]] * tensor.shape[inner[0]] if inner else 1
    last = tensor.shape[axis] - 1
    strides[axis] = (1 << 31) // last + 8
    room = virtual_memory(strides[axis] * last + tensor.numel(), tensor.device.type)
    return room.as_strided(tensor.shape, strides).copy_(tensor)


@contextlib.contextmanager
def tiles(positions: int | None, features: int | None) -> Iterator[None]:
    """Encode in tiles of this size; None changes nothing."""
    if positions is None:
        yield
        return
    sizes = {
        "TILE_POSITIONS": {"cpu": positions},
        "TILE_ENTRIES": {"cpu": positions * features},
        "TILE_POSITIONS_ELSEWHERE": positions,
        "TILE_ENTRIES_ELSEWHERE": positions * features,
        "MAX_TILE_FEATURES": features,
    }
    with mock.patch.multiple(streaming, **sizes):
        yield


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Run torch and numba on n threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)

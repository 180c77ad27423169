"""Choose the backend that computes an operation: by device, or the one that the caller names."""

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

BACKENDS = ("reference", "torch", "numba", "triton")

Implementation = Callable[..., Any]


@dataclass(eq=False)
class Operation:
    """An operation and its backends. Each operation is declared in the `api.py` of its folder."""

    name: str
    backends: dict[str, Callable[[], Implementation]]
    """For each name in `BACKENDS`, a function that imports that backend and returns its implementation.

    Backends are imported when they are used, because importing Triton takes seconds and needs its package.
    """
    on_cpu: str
    """The backend on the CPU: the fastest one by measurement (docs/benchmarks.md)."""
    on_cpu_if_small: str | None = None
    """The backend on the CPU if each part is little work; None for `on_cpu`."""

    def __repr__(self) -> str:
        return f"<Operation {self.name}: {', '.join(self.backends)}; {self.on_cpu} on the CPU>"

    def implementation(self, backend: str | None, device: str, small: bool = False) -> Implementation:
        """Return the function that computes the operation on tensors on a type of device.

        Args:
            backend: one of `BACKENDS`, or None for `default_backend`.
            device: a torch device type, such as "cpu" or "cuda".
            small: whether each part is little work.

        Raises:
            ValueError: the backend does not exist or cannot run.
        """
        if backend is None:
            backend = self.default_backend(device, small)
        elif backend not in self.backends:
            raise ValueError(f"{self.name} has no backend {backend!r}; choose one of {', '.join(self.backends)}")
        elif reason := obstacle(backend, device):
            raise ValueError(f"{self.name} cannot use {backend}: {reason}")
        return self.backends[backend]()

    def default_backend(self, device: str, small: bool = False) -> str:
        """Return the backend that runs if none is named: `preferred_backend`.

        Warns on a CUDA device without Triton, where torch computes.
        """
        backend = self.preferred_backend(device, small)
        if device == "cuda" and backend != "triton":
            warnings.warn(f"{self.name} uses {backend}: {obstacle('triton', device)}", RuntimeWarning, stacklevel=4)
        return backend

    def preferred_backend(self, device: str, small: bool = False) -> str:
        """Return `on_cpu` or `on_cpu_if_small` on the CPU, triton on CUDA where it is installed, else torch."""
        if device == "cpu":
            return self.on_cpu_if_small if small and self.on_cpu_if_small else self.on_cpu
        return "triton" if device == "cuda" and obstacle("triton", device) is None else "torch"


def require_alike(operation: str, *tensors: torch.Tensor, dtypes: bool = True) -> None:
    """Raise ValueError unless tensors are on one device and, with `dtypes`, of one type."""
    devices = {str(tensor.device) for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(f"{operation} needs its tensors on one device, not on {' and '.join(sorted(devices))}")
    types = {str(tensor.dtype) for tensor in tensors}
    if dtypes and len(types) > 1:
        raise ValueError(f"{operation} needs tensors of one dtype, not {' and '.join(sorted(types))}")


def obstacle(backend: str, device: str) -> str | None:
    """Return why a backend cannot compute on a type of device, with the cure; None if it can."""
    if backend == "numba" and device != "cpu":
        return f"numba computes on the CPU and the tensors are on {device}; leave backend out"
    if backend == "triton":
        if not _has_triton():
            return "triton is not installed (pip install triton)"
        if device != "cuda" and not interpreting():
            return (
                f"it needs a CUDA device and the tensors are on {device}; its interpreter runs with TRITON_INTERPRET=1"
            )
    return None


def interpreting() -> bool:
    """Return whether Triton kernels run in its interpreter, as tests on the CPU do."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None

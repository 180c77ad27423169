"""Which implementation of an operation runs: chosen by device, or forced by name; never changed silently."""

import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch

BACKENDS = ("reference", "torch", "numba", "triton")
# What computes on the CPU, by measurement (docs/benchmarks.md): where an operation is a large matrix
# product, nothing in numba matches the vendor's.
ON_CPU = {"encode": "numba", "decode": "numba", "edge_rows": "torch", "position_rows": "numba"}
ON_CPU_IF_SMALL = {"edge_rows": "numba"}  # where a call of the vendor's product costs more than the product
FOLDERS = {"position_rows": "edge_rows"}  # of operations that share one


def implementation(operation: str, backend: str | None, device: str, small: bool = False) -> Callable[..., Any]:
    """A backend's function for an operation on tensors of a type of device.

    Without `backend` it is `chosen(...)`'s; `small` says that there is little work in each part. Raises ValueError where a backend does not exist or
    cannot run, and says why.
    """
    if backend is None:
        backend = chosen(operation, device, small)
    elif backend not in BACKENDS:
        raise ValueError(f"{operation} has no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    elif reason := obstacle(backend, device):
        raise ValueError(f"{operation} cannot use {backend}: {reason}")
    folder = FOLDERS.get(operation, operation)
    return getattr(importlib.import_module(f"cotrace.kernels.{folder}.{backend}"), operation)


def chosen(operation: str, device: str, small: bool = False) -> str:
    """The backend used where none is forced: that of `preferred`.

    A CUDA device without triton computes with torch, and a warning says so.
    """
    backend = preferred(operation, device, small)
    if device == "cuda" and backend != "triton":
        warnings.warn(f"{operation} uses {backend}: {obstacle('triton', device)}", RuntimeWarning, stacklevel=4)
    return backend


def preferred(operation: str, device: str, small: bool = False) -> str:
    """`ON_CPU` or `ON_CPU_IF_SMALL` there, triton on CUDA where it is installed, else torch."""
    if device == "cpu":
        return ON_CPU_IF_SMALL.get(operation, ON_CPU[operation]) if small else ON_CPU[operation]
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
    """Why a backend cannot compute on a type of device, with the cure; None if it can."""
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
    """Whether Triton kernels run in its interpreter, as tests on the CPU do."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None

"""Numba's compiler, with its cache where one can be kept."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
_njit: Any = numba.njit


def compiled(function: Function) -> Function:
    """Compile at the first call; remember the machine code unless no folder for it is writable."""
    try:
        return _njit(cache=True)(function)
    except RuntimeError:  # a read-only installation and no writable home: compile in every process
        return _njit(function)

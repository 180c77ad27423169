"""Numba's compiler, with its cache where one can be kept, and work in shares for its threads."""

import bisect
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
_njit: Any = numba.njit
SUMS = {"reassoc", "contract"}
_one_at_a_time = threading.Lock()


def compiled(function: Function) -> Function:
    """Compile at the first call; remember the machine code unless no folder for it is writable."""
    return _compiled(function)


def compiled_for_sums(function: Function) -> Function:
    """As `compiled`, for sums of products: in any order, and with fused multiply-adds.

    The order is fixed when it is compiled, so the same input still gives the same bits.
    """
    return _compiled(function, fastmath=SUMS)


def compiled_in_parallel(function: Function) -> Function:
    """As `compiled_for_sums`, for functions that loop over `numba.prange` shares of their work.

    Threads of Python may call such functions; they then run one after the other, since not all of
    numba's threading layers allow more.
    """
    parallel = _compiled(function, parallel=True, fastmath=SUMS)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with _one_at_a_time:
            return parallel(*arguments)

    return call  # type: ignore[return-value]


def shares(work: Sequence[int] | np.ndarray, n_shares: int) -> np.ndarray:
    """Bounds of at most `n_shares` consecutive ranges of about equal work, which cover every unit once.

    `work` is cumulative: what stands before each unit, and the total at its end.
    """
    units, total = range(len(work) - 1), work[-1] - work[0]
    inner = [work[0] + total * share / n_shares for share in range(1, n_shares)]
    # The middles are looked up, not made: this runs before every call, whose arrays may be small.
    bounds = [bisect.bisect_left(units, value, key=lambda unit: (work[unit] + work[unit + 1]) / 2) for value in inner]
    return np.array([0, *bounds, len(units)])


def _compiled(function: Function, **options: Any) -> Function:
    try:
        return _njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # a read-only installation and no writable home: compile in every process
        return _njit(nogil=True, **options)(function)

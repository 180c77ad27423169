"""Numba's compiler with a cache on disk, and the division of work among its threads."""

import bisect
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
_njit: Any = numba.njit
FASTMATH_FOR_SUMS = {"reassoc", "contract"}  # LLVM flags: any order, fused multiply-adds
_one_at_a_time = threading.Lock()


def compiled(function: Function) -> Function:
    """Return a function that is compiled at its first call; the machine code is cached where a folder is writable."""
    return _compiled(function)


def compiled_for_sums(function: Function) -> Function:
    """Return a function compiled for sums of products, which are reordered and use fused multiply-adds.

    The order is fixed at compilation, so the same input still gives the same bits.
    """
    return _compiled(function, fastmath=FASTMATH_FOR_SUMS)


def compiled_in_parallel(function: Function) -> Function:
    """Return a function compiled as `compiled_for_sums` does, whose `numba.prange` loop runs on all threads.

    Several Python threads may call it. The calls run one after another, since not all of numba's threading layers
    allow more; those of threads that numba may use alone (`numba.set_num_threads(1)`) run side by side.
    """
    parallel = _compiled(function, parallel=True, fastmath=FASTMATH_FOR_SUMS)
    alone = _compiled(function, fastmath=FASTMATH_FOR_SUMS)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if numba.get_num_threads() == 1:
            return alone(*arguments)
        with _one_at_a_time:
            return parallel(*arguments)

    return call  # type: ignore[return-value]


def shares(work: Sequence[int] | np.ndarray, n_shares: int) -> np.ndarray:
    """Return the bounds of at most `n_shares` consecutive ranges of about equal work that cover every unit once.

    `work` is cumulative: the work before each unit, then the total.
    """
    units, total = range(len(work) - 1), work[-1] - work[0]
    inner = [work[0] + total * share / n_shares for share in range(1, n_shares)]
    # Middles are computed on demand: this runs before every call, also of small arrays.
    bounds = [bisect.bisect_left(units, value, key=lambda unit: (work[unit] + work[unit + 1]) / 2) for value in inner]
    return np.array([0, *bounds, len(units)])


def _compiled(function: Function, **options: Any) -> Function:
    try:
        return _njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # a read-only installation without a writable home: compile in every process
        return _njit(nogil=True, **options)(function)

"""Threads that compute independent results side by side, each with its share of the cores.

Parallel loops inside one result make its threads wait for one another at the end of each loop. Beside busy processes
that costs several times the work. Threads that compute one result each wait only for the last of them.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numba
import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_WORKERS = 4  # with more cores, each worker uses several: a layer has few batches, and every one needs memory
_one_at_a_time = threading.Lock()  # the number of threads is a setting of the process


def n_workers() -> int:
    """Return the number of workers that share torch's threads, 1 to `MAX_WORKERS`."""
    return min(torch.get_num_threads(), MAX_WORKERS)


class Workers:
    """Threads that compute side by side, as a context manager. Outside it, and with one worker, nothing changes.

    Inside, torch and numba compute with `get_num_threads() // n` threads, without gradients. While another thread of the process is
    inside, results are computed one after another.

    Args:
        n: number of workers.
    """

    def __init__(self, n: int):
        self.n = n
        self._pool: ThreadPoolExecutor | None = None
        self._n_threads = 0

    def __repr__(self) -> str:
        return f"<Workers: {self.n}, {'idle' if self._pool is None else 'running'}>"

    def __enter__(self) -> "Workers":
        if self.n > 1 and _one_at_a_time.acquire(blocking=False):
            self._n_threads = torch.get_num_threads()
            share = max(1, self._n_threads // self.n)
            torch.set_num_threads(share)
            self._pool = ThreadPoolExecutor(self.n, "cotrace-worker", _set_up, (share,))
        return self

    def __exit__(self, *_: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            torch.set_num_threads(self._n_threads)
            _one_at_a_time.release()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the function's result for each item, in order; at most one result waits while all workers compute."""
        if self._pool is None:
            yield from map(function, items)
            return
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(self._pool.submit(function, item))
            if len(pending) > self.n:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _set_up(n_threads: int) -> None:
    """Set what torch and numba keep for each thread."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(n_threads)
    numba.set_num_threads(min(n_threads, numba.get_num_threads()))

"""Interleaved timing of calls: every round runs all of them once, in a new random order.

A machine that is noisy for a while is noisy for all of them. Times are medians. Where memory traffic decides, the
caches are filled with other data before every call.
"""

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from . import kernel_cases as cases
from .cells import Record
from .kernel_cases import COPY, PEAK, READ, SPARSIFY, Candidates, KernelSizes, Unavailable
from .measure import DONE, FAILED, MEMORY_ERRORS, OUT_OF_MEMORY, busy_seconds

LIMITS = (READ, COPY, PEAK)
THREAD_SLEEP_SECONDS = 0.002  # for the threads of the call before to go to sleep
SHORT_CALL_SECONDS = 0.002  # shorter calls are repeated within one sample
SLOW_CALL_SECONDS = 1.0
MIN_ROUNDS_TIME_FACTOR = 10  # slow calls may take this much longer to complete the minimum number of rounds
Runs = dict[str, Record]


class CallTimer:
    """Measures the seconds of calls on one kind of device."""

    def __init__(self, sizes: KernelSizes, device: str):
        self.device = device
        self._flush = torch.ones(sizes.flush_bytes // 4, device=device)

    def sample(self, call: cases.Call, calls: int = 1, cold: bool = False) -> tuple[float, Any]:
        """Return the seconds per call of `calls` calls in a row, and the last result; `cold` empties the caches first."""
        if cold:
            self._flush.sum()
        elif calls > 1:
            call()  # wakes the thread pool
        return self._on_gpu(call, calls) if self.device == "cuda" else self._on_cpu(call, calls, cold)

    def _on_cpu(self, call: cases.Call, calls: int, cold: bool) -> tuple[float, Any]:
        if cold:
            time.sleep(THREAD_SLEEP_SECONDS)
        start = time.perf_counter()
        for _ in range(calls):
            value = call()
        return (time.perf_counter() - start) / calls, value

    def _on_gpu(self, call: cases.Call, calls: int) -> tuple[float, Any]:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            value = call()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) / 1000 / calls, value


class LoadMonitor:
    """Measures the number of cores that other processes use: a large number makes times unreliable."""

    def __init__(self) -> None:
        self.start = self._now()

    def others(self) -> float:
        """Return the mean number of cores since the start."""
        wall, everything, own = (now - then for now, then in zip(self._now(), self.start, strict=True))
        return max(0.0, everything - own) / wall

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), busy_seconds(), time.process_time()


class InterleavedTiming:
    """Times candidates in random order, round by round, until a time is used up."""

    def __init__(self, timer: CallTimer, quick: bool):
        self.timer = timer
        self.seconds, self.min_rounds, self.max_rounds = (0.5, 3, 10) if quick else (6.0, 5, 30)

    def run(self, candidates: Candidates, cold: bool = False) -> Runs:
        """Return a record of each candidate."""
        runs = {name: self._first(name, candidates[name], cold) for name in candidates}
        running = [name for name in runs if runs[name]["status"] == DONE and "repeats" not in runs[name]]
        calls = {name: 1 if cold else max(1, round(SHORT_CALL_SECONDS / runs[name]["seconds"])) for name in running}
        samples: dict[str, list[float]] = {name: [] for name in running}
        busy = LoadMonitor()
        for order in self._rounds(running):
            for name in order:
                samples[name].append(self.timer.sample(candidates[name], calls[name], cold)[0])
        others = busy.others()
        for name in running:
            runs[name] |= summary(samples[name]) | {"others_cores": others}
        return runs

    def _first(self, name: str, candidate: cases.Call | Unavailable, cold: bool) -> Record:
        """Run a candidate twice, to compile it and to estimate its time; return how that ended."""
        if isinstance(candidate, Unavailable):
            return {"status": candidate.status, "detail": candidate.detail}
        try:
            seconds, value = self.timer.sample(candidate, cold=cold)
        except Exception as error:
            return self._failure(name, error)
        record = {"status": DONE, "extent": 0.0 if name in LIMITS else cases.extent(value)}
        del value
        if seconds > SLOW_CALL_SECONDS and "reference" in name:  # nothing to compile: this is the measurement
            return record | summary([seconds])
        return record | {"seconds": self.timer.sample(candidate, cold=cold)[0]}

    def _failure(self, name: str, error: Exception) -> Record:
        """Return the record of a failure that is expected: too little memory, or another project's kernel."""
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        if any(word in words for word in MEMORY_ERRORS):
            return {"status": OUT_OF_MEMORY, "detail": words}
        if name != SPARSIFY:
            raise error
        return {"status": FAILED, "detail": words}

    def _rounds(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Yield the names in a new order for every round."""
        order, shuffle, start = list(names), random.Random(0).shuffle, time.perf_counter()
        for done in range(self.max_rounds if order else 0):
            limit = self.seconds * (1 if done >= self.min_rounds else MIN_ROUNDS_TIME_FACTOR)
            if done and time.perf_counter() - start > limit:
                return
            shuffle(order)
            yield order


def summary(samples: Sequence[float]) -> Record:
    """Return median, quartiles and number of repeats."""
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75]).tolist()
    return {"seconds": middle, "quartiles": [low, high], "repeats": len(samples)}

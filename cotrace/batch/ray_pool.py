"""Workers on a Ray cluster or on this machine: a process with a model for each GPU or share of the CPUs.

Workers send graphs back and write no files, so machines need no shared file system. Models and transcoders that are
named must exist on each machine.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numba
import torch

from cotrace.common.errors import ArgumentError, CotraceError, DependencyError, ResourceError

from .prompts import BatchPrompt
from .result_store import PromptResult
from .worker import BatchConfig, ModelSpec, Worker, failed_result

CONNECT_TIMEOUT_SECONDS = 10
DEAD_WORKER_ERROR = "its worker died twice, perhaps out of memory; shorten the prompt, or use fewer workers"


class RayWorker:
    """The worker of one process."""

    def __init__(self, threads: int | None, folder: str):
        if os.path.isdir(folder):  # relative paths are relative to where the command was given
            os.chdir(folder)
        if threads is not None:  # a share of the machine for torch and numba
            torch.set_num_threads(threads)
            numba.set_num_threads(min(threads, numba.get_num_threads()))

    def load(self, spec: ModelSpec, config: BatchConfig) -> dict[str, Any]:
        """Load the model and return the settings that decide the results."""
        self.worker = Worker(spec.load(progress=False), config)
        return self.worker.settings()

    def trace(self, prompt: BatchPrompt) -> PromptResult:
        """Return the result of one prompt."""
        return self.worker.trace(prompt)


class RayWorkerPool:
    """Workers that take prompts as they become free. A worker that dies is replaced, and its prompt tried once more."""

    def __init__(self, ray: Any, spec: ModelSpec, config: BatchConfig, workers: int | None):
        self._ray, self._config = ray, config
        n_gpus = int(ray.cluster_resources().get("GPU", 0))
        on_gpu = spec.device == "cuda" or (spec.device == "auto" and n_gpus > 0)
        size = workers or (n_gpus if on_gpu else 1)
        if on_gpu and not 0 < size <= n_gpus:
            raise ResourceError(
                f"each worker needs its own GPU and Ray sees {n_gpus}; use fewer workers, or device cpu"
            )
        cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        self._threads = None if on_gpu else share_of_cpus(cpus, size)
        self._resources = {"num_gpus": 1} if on_gpu else {"num_cpus": self._threads}
        self._spec = replace(spec, device="cuda" if on_gpu else "cpu")
        self._workers = [self._start() for _ in range(size)]

    def __enter__(self) -> "RayWorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._ray.kill(worker)

    def settings(self) -> dict[str, Any]:
        """Wait until all workers have loaded the model, and return the settings that decide the results.

        Raises ArgumentError if workers differ in them.
        """
        first, *others = self._load(self._workers)
        for other in others:
            _check_equal(first, other)
        self._settings = first
        return first

    def trace_all(self, prompts: Iterator[BatchPrompt]) -> Iterator[PromptResult]:
        """Yield the result of every prompt, in the order in which they finish."""
        busy: dict[Any, tuple[Any, BatchPrompt, bool]] = {}

        def submit(worker: Any, prompt: BatchPrompt, is_retry: bool = False) -> None:
            busy[worker.trace.remote(prompt)] = worker, prompt, is_retry

        for worker, prompt in zip(self._workers, prompts, strict=False):
            submit(worker, prompt)
        while busy:
            (ended,), _ = self._ray.wait(list(busy))
            worker, prompt, is_retry = busy.pop(ended)
            result = self._result(ended)
            retry = result is None and not is_retry
            following = prompt if retry else next(prompts, None)
            if following is not None:  # submitted first: the worker runs while the result is saved
                submit(worker if result else self._replace(worker), following, retry)
            if not retry:
                yield result or failed_result(prompt, DEAD_WORKER_ERROR, 0.0)

    def _start(self) -> Any:
        return self._ray.remote(RayWorker).options(**self._resources).remote(self._threads, os.getcwd())

    def _load(self, workers: list[Any]) -> list[dict[str, Any]]:
        loading = [worker.load.remote(self._spec, self._config) for worker in workers]
        settings = [self._result(reference) for reference in loading]
        if None in settings:
            raise ResourceError("a worker died while it loaded the model, perhaps out of memory; use fewer workers")
        return settings

    def _replace(self, dead: Any) -> Any:
        self._ray.kill(dead)  # otherwise it keeps its device
        worker = self._start()
        self._workers = [worker if other is dead else other for other in self._workers]
        _check_equal(self._settings, self._load([worker])[0])
        return worker

    def _result(self, reference: Any) -> Any:
        """Return what a worker returned, or None if it died. Raises its errors."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, CotraceError):
                raise error.cause from None
            raise  # a bug, with the traceback of the worker
        except (errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
            return None


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Yield Ray, connected to a cluster; "local" starts one on this machine and stops it at the end.

    Uses the cluster that this process is already connected to, if there is one, and leaves it running.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local cluster sends no usage data
    try:
        import ray
    except ImportError as error:
        raise DependencyError('workers need Ray: `pip install "cotrace[ray]"`, or omit --workers and --ray') from error
    if ray.is_initialized():
        yield ray
        return
    _check_address(address)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(
            f"cannot join a Ray cluster at {address} ({reason}); start one with `ray start --head`"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise ArgumentError for an address where nothing answers; Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise ArgumentError(f"{address!r} is not the address of a Ray cluster: use local, auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ArgumentError(
            f"nothing answers at {address} ({error}); start a cluster with `ray start --head`"
        ) from error


def check_device(device: str) -> None:
    """Raise ArgumentError for one of several GPUs: Ray assigns them to workers."""
    if device not in ("auto", "cpu", "cuda"):
        raise ArgumentError(
            f"with workers, device must be auto, cpu or cuda, not {device!r}: Ray gives each its own GPU"
        )


def share_of_cpus(cpus: list[float], workers: int) -> int:
    """Return the largest number of CPUs that each worker can get on machines with `cpus` CPUs.

    Raises ResourceError if there are fewer CPUs than workers.
    """
    for share in range(int(sum(cpus)) // workers, 0, -1):
        if sum(int(machine) // share for machine in cpus) >= workers:
            return share
    raise ResourceError(f"{workers} workers need as many CPUs and Ray sees {int(sum(cpus))}; use fewer workers")


def _check_equal(first: dict[str, Any], other: dict[str, Any]) -> None:
    differing = [name for name in first if first[name] != other.get(name)]
    if differing:
        raise ArgumentError(f"machines of the cluster differ in {', '.join(differing)}; give all the same files")

"""Many prompts over Ray: a process with a model of its own for each GPU or share of the CPUs, here or on a cluster.

Workers send graphs back and write nothing, so machines need no file system in common; what is loaded by name
must be found on each of them.
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

from cotrace.common.errors import CotraceError

from .prompts import BatchPrompt
from .result_store import PromptResult
from .worker import BatchConfig, ModelSpec, Worker, failed

ANSWER_SECONDS = 10  # of a cluster's address
LOST = "its worker died twice, perhaps out of memory; shorten the prompt, or use fewer workers"


class RayWorker:
    """What runs in each process."""

    def __init__(self, threads: int | None, folder: str):
        if os.path.isdir(folder):  # relative paths mean what they do where the command was given
            os.chdir(folder)
        if threads is not None:  # a share of the machine, for torch and for compiled loops
            torch.set_num_threads(threads)
            numba.set_num_threads(min(threads, numba.get_num_threads()))

    def load(self, spec: ModelSpec, job: BatchConfig) -> dict[str, Any]:
        """Load the model; returns what decides the results."""
        self.engine = Worker(spec.load(progress=False), job)
        return self.engine.settings()

    def trace(self, prompt: BatchPrompt) -> PromptResult:
        """The outcome of one prompt."""
        return self.engine.trace(prompt)


class RayWorkerPool:
    """Workers that take prompts as they become free. One that dies is replaced, and its prompt tried once more."""

    def __init__(self, ray: Any, spec: ModelSpec, job: BatchConfig, workers: int | None):
        self._ray, self._job = ray, job
        n_gpus = int(ray.cluster_resources().get("GPU", 0))
        on_gpu = spec.device == "cuda" or (spec.device == "auto" and n_gpus > 0)
        size = workers or (n_gpus if on_gpu else 1)
        if on_gpu and not 0 < size <= n_gpus:
            raise CotraceError(
                f"each worker needs a GPU of its own and Ray sees {n_gpus}; use fewer workers, or device cpu"
            )
        cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        self._threads = None if on_gpu else share_of_cpus(cpus, size)
        self._needs = {"num_gpus": 1} if on_gpu else {"num_cpus": self._threads}
        self._spec = replace(spec, device="cuda" if on_gpu else "cpu")
        self._workers = [self._start() for _ in range(size)]

    def __enter__(self) -> "RayWorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._ray.kill(worker)

    def settings(self) -> dict[str, Any]:
        """What decides the results, the same for all workers. Waits until all have loaded the model."""
        first, *others = self._load(self._workers)
        for other in others:
            _require_same(first, other)
        self._settings = first
        return first

    def outcomes(self, prompts: Iterator[BatchPrompt]) -> Iterator[PromptResult]:
        """The outcome of every prompt, in the order in which they are done."""
        busy: dict[Any, tuple[Any, BatchPrompt, bool]] = {}

        def hand_out(worker: Any, prompt: BatchPrompt, again: bool = False) -> None:
            busy[worker.trace.remote(prompt)] = worker, prompt, again

        for worker, prompt in zip(self._workers, prompts, strict=False):
            hand_out(worker, prompt)
        while busy:
            (ended,), _ = self._ray.wait(list(busy))
            worker, prompt, again = busy.pop(ended)
            outcome = self._result(ended)
            retry = outcome is None and not again
            following = prompt if retry else next(prompts, None)
            if following is not None:  # handed out first, so that the worker works while the outcome is saved
                hand_out(worker if outcome else self._replace(worker), following, retry)
            if not retry:
                yield outcome or failed(prompt, LOST, 0.0)

    def _start(self) -> Any:
        return self._ray.remote(RayWorker).options(**self._needs).remote(self._threads, os.getcwd())

    def _load(self, workers: list[Any]) -> list[dict[str, Any]]:
        loading = [worker.load.remote(self._spec, self._job) for worker in workers]
        found = [self._result(one) for one in loading]
        if None in found:
            raise CotraceError("a worker died while it loaded the model, perhaps out of memory; use fewer workers")
        return found

    def _replace(self, dead: Any) -> Any:
        self._ray.kill(dead)  # or it would keep its device
        worker = self._start()
        self._workers = [worker if other is dead else other for other in self._workers]
        _require_same(self._settings, self._load([worker])[0])
        return worker

    def _result(self, reference: Any) -> Any:
        """What a worker returned, or None if it died; its errors are raised here."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, ValueError | OSError | MemoryError):
                raise error.cause from None  # users' mistakes are one line
            raise  # of the program: with the worker's traceback
        except (errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
            return None


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster (`local`: one that is started on this machine, and stopped in the end).

    One that this process is connected to already is used, and left as it is.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    try:
        import ray
    except ImportError as error:
        raise CotraceError(
            'several workers need Ray: `pip install "cotrace[ray]"`, or leave --workers and --ray out'
        ) from error
    if ray.is_initialized():
        yield ray
        return
    _require_answer(address)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        reason = str(error).splitlines()[0]
        raise CotraceError(
            f"no Ray cluster can be joined at {address} ({reason}); start one with `ray start --head`"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise ValueError for an address where nothing answers: Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise CotraceError(f"{address!r} is no address of a Ray cluster: use local, auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise CotraceError(
            f"nothing answers at {address} ({error}); start a cluster with `ray start --head`"
        ) from error


def check_device(device: str) -> None:
    """Raise ValueError for one GPU of many: Ray gives each worker its own."""
    if device not in ("auto", "cpu", "cuda"):
        raise CotraceError(f"with workers, the device is auto, cpu or cuda, and not {device!r}: Ray gives each its own")


def share_of_cpus(cpus: list[float], workers: int) -> int:
    """The most CPUs that each worker can have, on machines with so many; ValueError if there are too few."""
    for share in range(int(sum(cpus)) // workers, 0, -1):
        if sum(int(machine) // share for machine in cpus) >= workers:
            return share
    raise CotraceError(f"{workers} workers need as many CPUs and Ray sees {int(sum(cpus))}; use fewer workers")


def _require_same(first: dict[str, Any], other: dict[str, Any]) -> None:
    differing = [name for name in first if first[name] != other.get(name)]
    if differing:
        raise CotraceError(f"machines of the cluster differ in {', '.join(differing)}; give all the same files")

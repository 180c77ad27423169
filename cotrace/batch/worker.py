"""A loaded model that traces one prompt after another, whatever each of them brings."""

import inspect
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from cotrace.graphs import Graph
from cotrace.loading import load
from cotrace.model import Model

from .file_layout import CIRCUIT_FILE, partition
from .prompts import BatchPrompt, as_json
from .result_store import PromptResult

# Errors of one prompt: wrong, or too large. Any other is a mistake in the program, and stops the run.
SURVIVED = (ValueError, MemoryError, torch.OutOfMemoryError)
# Arguments of Model.trace that settings do not name: each prompt's own, and those that only rounding depends on.
INDIFFERENT = ("self", "prompt", "targets", "batch_size", "memory", "progress")


@dataclass(frozen=True)
class ModelSpec:
    """What to load, as `cotrace.load` takes it."""

    model: Any
    transcoders: Any = None
    device: str = "auto"
    dtype: str = "auto"

    def load(self, progress: bool | None = None) -> Model:
        """The loaded model."""
        return load(self.model, self.transcoders, device=self.device, dtype=self.dtype, progress=progress)


@dataclass(frozen=True)
class BatchConfig:
    """What is done with every prompt alike."""

    targets: Any  # as Model.trace takes them; of prompts that have none of their own
    chat: bool
    full: bool
    pruning: dict[str, Any]  # of Graph.prune
    options: dict[str, Any]  # of Model.trace

    def settings(self) -> dict[str, Any]:
        """What decides the results, as JSON reads it back. Raises TypeError for options that Model.trace lacks."""
        call = inspect.signature(Model.trace).bind(None, "", **self.options)
        call.apply_defaults()
        options = {name: value for name, value in call.arguments.items() if name not in INDIFFERENT}
        alike = {name: value for name, value in asdict(self).items() if name != "options"}
        return _plain({**options, **alike})


class Worker:
    """A model with a job: gives every prompt's outcome."""

    def __init__(self, model: Model, job: BatchConfig):
        self.model, self.job = model, job

    def settings(self) -> dict[str, Any]:
        """What decides the results: the job's settings, the model and the transcoders, by content."""
        source, weights = self.model.source, self.model.weights
        model = {"name": source.name, "revision": source.revision, "sha256": source.content_hash()}
        dtypes = {"computed": str(weights.dtype), "stored": str(weights.stored_dtype)}
        loaded = {"model": model, "transcoders": self.model.transcoders.describe(), "dtype": dtypes}
        return self.job.settings() | _plain(loaded)

    def outcomes(self, prompts: Iterator[BatchPrompt]) -> Iterator[PromptResult]:
        """The outcome of every prompt, one after the other."""
        return map(self.trace, prompts)

    def trace(self, prompt: BatchPrompt) -> PromptResult:
        """Trace and prune one prompt; errors of its own become its record."""
        started = time.monotonic()
        try:
            graph = self._trace(prompt)
            circuit = graph.prune(**self.job.pruning)
        except SURVIVED as error:
            return failed(prompt, describe(error), time.monotonic() - started)
        record = _record(prompt, "done", time.monotonic() - started) | _found(prompt, circuit)
        return PromptResult(record, circuit.nodes, graph.nodes if self.job.full else None)

    def _trace(self, prompt: BatchPrompt) -> Graph:
        job, content = self.job, prompt.content
        if job.chat and isinstance(content, str):
            content = [{"role": "user", "content": content}]
        targets = job.targets if prompt.targets is None else prompt.targets
        return self.model.trace(content, targets, **{**job.options, "progress": False})


def failed(prompt: BatchPrompt, error: str, seconds: float) -> PromptResult:
    """The outcome of a prompt that could not be traced."""
    return PromptResult(_record(prompt, "failed", seconds) | {"error": error})


def describe(error: BaseException) -> str:
    """An error on one line; running out of memory has no words of its own."""
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    return "out of memory; shorten the prompt, or ask for less coverage"


def _record(prompt: BatchPrompt, status: str, seconds: float) -> dict[str, Any]:
    return {"id": prompt.id, "status": status, "seconds": round(seconds, 3), "sha256": prompt.digest}


def _found(prompt: BatchPrompt, circuit: Graph) -> dict[str, Any]:
    info = circuit.info
    return {
        "file": f"{partition(prompt.id)}/{CIRCUIT_FILE}",
        "nodes": circuit.order.n_nodes,
        "edges": circuit.n_edges,
        "traced_nodes": info["traced"]["nodes"],
        "traced_edges": info["traced"]["edges"],
        "replacement": info["traced"]["scores"]["replacement"],
        "completeness": info["traced"]["scores"]["completeness"],
        "coverage": info["coverage"],
    }


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are once written and read again: tuples are lists."""
    return json.loads(as_json(settings))

"""A loaded model that traces one prompt after another."""

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cotrace.attribution.models.memory import out_of_memory
from cotrace.attribution.tracing.config import SAMPLING_OPTIONS, TraceConfig
from cotrace.common.errors import CotraceError, CotraceWarning, one_line
from cotrace.graphs import Graph
from cotrace.graphs.prune import PruneConfig
from cotrace.loading import load
from cotrace.model import Model

from .file_layout import CIRCUIT_FILE, partition
from .prompts import BatchPrompt, to_json
from .result_store import PromptResult
from .transcripts import BatchTranscript

ROUNDING_ONLY = ("batch_size", "memory")  # options that change results by rounding only


@dataclass(frozen=True)
class ModelSpec:
    """The arguments of `cotrace.load`."""

    model: Any
    transcoders: Any = None
    device: str = "auto"
    dtype: str = "auto"
    row_cache_bytes: int = 0
    features: Any = None

    def load(self, progress: bool | None = None) -> Model:
        """Load the model."""
        return load(**vars(self), progress=progress)


@dataclass(frozen=True)
class BatchConfig:
    """Options that are the same for all prompts.

    Attributes:
        targets: targets of prompts without their own, as `Model.trace` takes them.
        chat: wrap prompts that are texts as a user's turn of the model's chat template.
        full: keep the unpruned graphs too.
        trace: options of the traces.
        prune: options of the pruning.
    """

    targets: Any
    chat: bool
    full: bool
    trace: TraceConfig
    prune: PruneConfig

    def settings(self) -> dict[str, Any]:
        """Return the options that decide the results, as JSON reads them back.

        Without sampled rows, options of sampling are None, as in folders that were written before these existed.
        """
        trace = {name: value for name, value in vars(self.trace).items() if name not in ROUNDING_ONLY}
        trace |= {} if self.trace.sampled else dict.fromkeys(SAMPLING_OPTIONS)
        same = {"targets": self.targets, "chat": self.chat, "full": self.full, "pruning": vars(self.prune)}
        return json_round_trip(trace | same)


class Worker:
    """Traces prompts with one model."""

    def __init__(self, model: Model, config: BatchConfig):
        self.model, self.config = model, config

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the results: options, and hashes of the model and the transcoders."""
        return self.config.settings() | loaded_settings(self.model)

    def trace_all(self, prompts: Iterator[BatchPrompt]) -> Iterator[PromptResult]:
        """Yield the result of every prompt, in their order."""
        return map(self.trace, prompts)

    def trace(self, prompt: BatchPrompt) -> PromptResult:
        """Trace and prune one prompt. A `CotraceError` becomes its result; any other exception is a bug and is raised."""
        started = time.monotonic()
        try:
            with (
                out_of_memory("shorten the prompt, or compute fewer rows with max_features= or coverage="),
                recorded_warnings() as texts,
            ):
                graph = self._trace(prompt)
                circuit = graph.prune(**vars(self.config.prune))
        except CotraceError as error:
            return failed_result(prompt, one_line(error), time.monotonic() - started)
        record = record_of(prompt, "done", time.monotonic() - started) | _sizes_and_scores(prompt, circuit)
        if self.config.trace.sampled:
            record |= _errors(circuit)
        if texts:
            record["warnings"] = texts
        return PromptResult(record, circuit.nodes, graph.nodes if self.config.full else None)

    def _trace(self, prompt: BatchPrompt) -> Graph:
        content = prompt.content
        if self.config.chat and isinstance(content, str):
            content = [{"role": "user", "content": content}]
        targets = self.config.targets if prompt.targets is None else prompt.targets
        return self.model.trace(content, targets, **vars(self.config.trace), progress=False)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Collect the texts of `CotraceWarning`s in the list; show other warnings."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CotraceWarning)
        yield texts
    for each in caught:
        if issubclass(each.category, CotraceWarning):
            texts.append(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def loaded_settings(model: Model) -> dict[str, Any]:
    """Return what is loaded, with hashes of the model and the transcoders."""
    source, weights = model.source, model.weights
    named = {"name": source.name, "revision": source.revision, "sha256": source.content_hash()}
    dtypes = {"computed": str(weights.dtype), "stored": str(weights.stored_dtype)}
    return json_round_trip({"model": named, "transcoders": model.transcoders.describe(), "dtype": dtypes})


def failed_result(prompt: BatchPrompt | BatchTranscript, error: str, seconds: float) -> PromptResult:
    """Return the result of a prompt that could not be traced."""
    return PromptResult(record_of(prompt, "failed", seconds) | {"error": error})


def record_of(prompt: BatchPrompt | BatchTranscript, status: str, seconds: float) -> dict[str, Any]:
    """Return the entries that every record has."""
    return {"id": prompt.id, "status": status, "seconds": round(seconds, 3), "sha256": prompt.digest}


def _sizes_and_scores(prompt: BatchPrompt, circuit: Graph) -> dict[str, Any]:
    traced = circuit.info["traced"]
    return {
        "file": f"{partition(prompt.id)}/{CIRCUIT_FILE}",
        "nodes": circuit.order.n_nodes,
        "edges": circuit.n_edges,
        "traced_nodes": traced["nodes"],
        "traced_edges": traced["edges"],
        "replacement": traced["scores"]["replacement"],
        "completeness": traced["scores"]["completeness"],
        "coverage": traced["coverage"],
    }


def _errors(circuit: Graph) -> dict[str, Any]:
    """Return how exact a graph is whose rows were drawn: the largest standard error of a span's share, intervals of scores."""
    traced = circuit.info["traced"]
    intervals = {name: value for name, value in traced["scores"].items() if name.endswith("_interval")}
    return {"standard_error": traced["sampling"]["span_error"] if "sampling" in traced else 0.0, **intervals}


def json_round_trip(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as JSON reads them back: tuples are lists, and nodes their text forms."""
    return json.loads(to_json(settings))

"""`cotrace.trace_many`: trace a file or list of prompts into a folder of graphs."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cotrace.attribution.models.dtypes import DtypeName
from cotrace.attribution.tracing.config import SelectBy, TraceConfig
from cotrace.common.errors import ArgumentError, warn
from cotrace.common.progress import Progress
from cotrace.defaults import DEFAULT_MODEL
from cotrace.graphs.prune import PruneConfig
from cotrace.model import Model
from cotrace.types import PromptLike, TargetLike

from .file_layout import RECORDS, partition
from .prompts import check_prompts, read_prompts
from .ray_pool import RayWorkerPool, check_device, cluster
from .result_store import PromptResult, ResultStore, open_folder
from .worker import BatchConfig, ModelSpec, Worker

REASONS_KEPT = 5  # of failed prompts; the records have all


class BatchSummary(NamedTuple):
    """Numbers of prompts that were traced, skipped because they were done before, and failed; and why."""

    traced: int
    skipped: int
    failed: int
    records: Path
    """The file with a record of each prompt."""
    reasons: tuple[str, ...] = ()
    """Of the first prompts that failed: their ids and the reasons."""


def trace_many(
    prompts: str | os.PathLike[str] | Iterable[PromptLike | Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    model: Model | str | os.PathLike[str] = DEFAULT_MODEL,
    transcoders: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: DtypeName = "auto",
    row_cache_bytes: int = 0,
    features: str | os.PathLike[str] | None = None,
    targets: Sequence[TargetLike] | Literal["next"] | None = None,
    position: int | Sequence[int] = TraceConfig.position,
    max_targets: int = TraceConfig.max_targets,
    target_mass: float = TraceConfig.target_mass,
    coverage: float = TraceConfig.coverage,
    max_features: int | None = TraceConfig.max_features,
    max_seconds: float | None = TraceConfig.max_seconds,
    masked_positions: Sequence[int] | None = TraceConfig.masked_positions,
    batch_size: int | None = TraceConfig.batch_size,
    memory: int | None = TraceConfig.memory,
    select: SelectBy = TraceConfig.select,
    effects: bool = TraceConfig.effects,
    sampled: bool = TraceConfig.sampled,
    seed: int = TraceConfig.seed,
    standard_error: float | None = TraceConfig.standard_error,
    chat: bool = False,
    node_threshold: float = PruneConfig.node_threshold,
    edge_threshold: float = PruneConfig.edge_threshold,
    keep_errors: bool = PruneConfig.keep_errors,
    full: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    progress: bool | None = None,
) -> BatchSummary:
    """Trace many prompts into a folder. The same call continues after an interruption.

    A prompt that cannot be traced is recorded as failed, with the reason, and the others continue; the next call tries
    it again. A bug in cotrace stops the run; finished prompts stay.

    Args:
        prompts: a file of JSON lines or Parquet with the column `prompt` and, optionally, `id` and `targets`; or a list
            of prompts, or of dictionaries with these keys.
        out: the folder; created if it does not exist.
        model: what `cotrace.load` takes, or a loaded model (not with `workers` or `ray`).
        transcoders: as in `cotrace.load`; ignored with a loaded model, like the next four.
        device: as in `cotrace.load`.
        dtype: as in `cotrace.load`.
        row_cache_bytes: as in `cotrace.load`.
        features: as in `cotrace.load`: graphs have the labels of a feature store.
        targets: targets of prompts without their own, as in `Model.trace`.
        position: as in `Model.trace`.
        max_targets: as in `Model.trace`.
        target_mass: as in `Model.trace`.
        coverage: as in `Model.trace`.
        max_features: as in `Model.trace`.
        max_seconds: as in `Model.trace`.
        masked_positions: as in `Model.trace`.
        batch_size: as in `Model.trace`.
        memory: as in `Model.trace`.
        select: as in `Model.trace`.
        effects: as in `Model.trace`.
        sampled: as in `Model.trace`.
        seed: as in `Model.trace`.
        standard_error: as in `Model.trace`.
        chat: wrap prompts that are texts as a user's turn of the model's chat template.
        node_threshold: as in `Graph.prune`.
        edge_threshold: as in `Graph.prune`.
        keep_errors: as in `Graph.prune`.
        full: keep the unpruned graphs too.
        workers: number of processes, each with a model and a GPU or a share of the CPUs; needs Ray. None traces in this
            process or, on a cluster, starts a worker for each GPU.
        ray: cluster to use, "auto" or an address; None starts workers on this machine.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises:
        CotraceError: the file, the folder, the options or the model are not usable.
    """
    config = BatchConfig(
        targets,
        chat,
        full,
        TraceConfig(
            position,
            max_targets,
            target_mass,
            coverage,
            max_features,
            max_seconds,
            masked_positions,
            batch_size,
            memory,
            select,
            effects,
            sampled,
            seed,
            standard_error,
        ),
        PruneConfig(node_threshold, edge_threshold, keep_errors),
    )
    source = prompts if isinstance(prompts, str | os.PathLike) else list(prompts)  # it is read twice
    digests = check_prompts(source)
    with open_folder(Path(out)) as store:
        store.check_settings(config.settings())
        todo = store.unfinished(digests)
        waiting = (prompt for prompt in read_prompts(source) if partition(prompt.id) in todo)
        spec = ModelSpec(model, transcoders, device, dtype, row_cache_bytes, features)
        with _start_workers(spec, config, workers, ray, progress) as tracer:
            store.record_settings(tracer.settings())
            with Progress(progress).phase("tracing", len(todo)) as advance:
                failed, reasons = save_results(tracer.trace_all(waiting), store, advance)
    return BatchSummary(len(todo) - failed, len(digests) - len(todo), failed, store.path / RECORDS, reasons)


def save_results(
    results: Iterator[PromptResult], store: ResultStore, advance: Callable[..., None]
) -> tuple[int, tuple[str, ...]]:
    """Save results as they come; return the number of failed prompts, and the reasons of the first.

    Warns once if prompts had warnings.
    """
    failed, reasons, warned = 0, [], list[str]()
    for result in results:
        store.save(result)
        if result.circuit is None:
            failed += 1
            if failed <= REASONS_KEPT:
                reasons.append(f"{result.record['id']!r}: {result.record['error']}")
        warned += [f"prompt {result.record['id']!r}: {text}" for text in result.record.get("warnings", ())[:1]]
        advance(note=f"({failed} failed)" if failed else "")
    if warned:
        others = f"; warnings of {len(warned) - 1:,} more: {store.path / RECORDS}"
        warn(warned[0] + (others if len(warned) > 1 else ""))
    return failed, tuple(reasons)


@contextmanager
def _start_workers(
    spec: ModelSpec, config: BatchConfig, workers: int | None, address: str | None, progress: bool | None
) -> Iterator[Worker | RayWorkerPool]:
    """Yield a worker in this process, or a pool of Ray workers with a model each."""
    if workers is None and address is None:
        yield Worker(spec.model if isinstance(spec.model, Model) else spec.load(progress), config)
        return
    if isinstance(spec.model, Model):
        raise ArgumentError("each worker loads its own model: name it, instead of passing a loaded one")
    check_device(spec.device)
    with cluster(address or "local") as ray, RayWorkerPool(ray, spec, config, workers) as pool:
        yield pool

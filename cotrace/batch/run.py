"""Tracing many prompts as users call it: from a file to a folder of graphs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cotrace.common.errors import CotraceError
from cotrace.common.progress import Progress
from cotrace.graphs.prune import check_threshold
from cotrace.model import Model

from .file_layout import RECORDS, partition
from .prompts import check_prompts, read_prompts
from .ray_pool import RayWorkerPool, check_device, cluster
from .result_store import open_folder
from .worker import BatchConfig, ModelSpec, Worker


class BatchSummary(NamedTuple):
    """How many prompts were traced now, were done before, and failed; and the file with each one's record."""

    traced: int
    skipped: int
    failed: int
    records: Path


def trace_many(
    prompts: str | os.PathLike | Iterable[Any],
    out: str | os.PathLike,
    *,
    model: Model | str | os.PathLike = "gemma-3-270m",
    transcoders: str | os.PathLike | None = None,
    device: str = "auto",
    dtype: str = "auto",
    targets: Sequence[Any] | str | None = None,
    chat: bool = False,
    node_threshold: float = 0.8,
    edge_threshold: float = 0.98,
    full: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    progress: bool | None = None,
    **options: Any,
) -> BatchSummary:
    """Trace many prompts into a folder; the same call goes on where it was stopped.

    A prompt that cannot be traced is recorded as failed, with the reason, and the others go on; the next call
    tries it again. `ARCHITECTURE.md`, "Many prompts", says what is in the folder.

    Args:
        prompts: a file of JSON lines or Parquet with the column `prompt` and, if wanted, `id` and `targets`; or a
            list of prompts, or of dictionaries of these.
        out: the folder; made if it does not exist.
        model: what `cotrace.load` takes, or a loaded model (not with `workers` or `ray`).
        transcoders: as `cotrace.load` takes them; as `device` and `dtype`, of no effect on a loaded model.
        targets: as `Model.trace` takes them, of prompts without their own.
        chat: wrap prompts that are texts as a user's turn of the model's chat template.
        node_threshold, edge_threshold: of the pruning.
        full: also keep the graphs before pruning.
        workers: so many processes, each with a model of its own and a GPU or a share of the CPUs; needs Ray.
            Default: this process alone, or, on a cluster, a worker for each GPU.
        ray: the cluster to work on: `auto` or an address; without it, workers are started on this machine.
        progress: show progress; None shows it on a terminal.
        options: any other argument of `Model.trace`.

    Raises:
        ValueError: for what is wrong with the file, the folder, the settings or the model, with the cure.
    """
    check_threshold("node_threshold", node_threshold)
    check_threshold("edge_threshold", edge_threshold)
    pruning = {"node_threshold": node_threshold, "edge_threshold": edge_threshold}
    job = BatchConfig(targets, chat, full, pruning, options)
    source = prompts if isinstance(prompts, str | os.PathLike) else list(prompts)  # it is read twice
    settings, digests = job.settings(), check_prompts(source)
    with open_folder(Path(out)) as folder:
        folder.require_same(settings)
        todo = {name for name, digest in digests.items() if not folder.is_done(name, digest)}
        traced = failed = 0
        with _engine(ModelSpec(model, transcoders, device, dtype), job, workers, ray, progress) as engine:
            folder.settle(engine.settings())
            waiting = (prompt for prompt in read_prompts(source) if partition(prompt.id) in todo)
            with Progress(progress).phase("tracing", len(todo)) as advance:
                for outcome in engine.outcomes(waiting):
                    folder.save(outcome)
                    traced, failed = (traced, failed + 1) if outcome.circuit is None else (traced + 1, failed)
                    advance(note=f"({failed} failed)" if failed else "")
    return BatchSummary(traced, len(digests) - len(todo), failed, folder.path / RECORDS)


@contextmanager
def _engine(
    spec: ModelSpec, job: BatchConfig, workers: int | None, address: str | None, progress: bool | None
) -> Iterator[Worker | RayWorkerPool]:
    """What traces: a model in this process, or workers with a model each."""
    if workers is None and address is None:
        yield Worker(spec.model if isinstance(spec.model, Model) else spec.load(progress), job)
        return
    if isinstance(spec.model, Model):
        raise CotraceError("each worker loads a model of its own: name it, instead of passing a loaded one")
    check_device(spec.device)
    with cluster(address or "local") as ray, RayWorkerPool(ray, spec, job, workers) as crew:
        yield crew

"""Where the time of a trace of every row goes: each part of the sweep, and what it would take at the machine's rate.

    python -m benchmarks.sweep_profile --model DIR --transcoders SPEC [--tokens 64]

Times are processor times, as shares of all cores' time while rows are computed, so that the parts and the waiting add up
to 1. Batches that are computed side by side have one thread each, which is timed; otherwise the whole process is timed,
whose parallel loops belong to the part that runs them. Each consists of three: *least arithmetic* (`attribution/tracing/flops.py`) at the rate of one large matrix
product, whose sum is the share of the matrix-product rate that the sweep reaches; *more arithmetic* than that, as for
positions after a target in a batch of several, at the same rate; and the rest: products below that rate, and no products.
"""

import argparse
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.attention_pattern import AttentionPattern
from cotrace.attribution.tracing import row_builder, sweep
from cotrace.attribution.tracing.decoder_vectors import DecoderVectors
from cotrace.attribution.tracing.flops import SweepShape, count_vectors, matmul_flops_per_second, row_flops
from cotrace.attribution.tracing.row_selection import RowSelection
from cotrace.graphs import RowWriter
from cotrace.kernels.edge_rows import SourceVectors
from cotrace.kernels.workers import MAX_WORKERS

from .cells import Record, markdown
from .measure import timed
from .prompts import token_ids
from .run_cotrace import SWEEP, phases_timed

Operations = Callable[..., int]
PROJECTIONS, PATTERNS, VECTORS = "projections and skips", "attention patterns", "source vectors"
COLLECTING, POSITIONS = "scaling decoder vectors", "errors, constants and tokens"
ELEMENTWISE = "element-wise operations, copies, fresh memory"
INFLUENCE, COMPRESSING, WRITING = "influence of rows", "finding edges in rows", "writing edges"
OTHER, WAITING = "the rest of the process", "waiting"
STEPS = (PROJECTIONS, PATTERNS, VECTORS, COLLECTING, POSITIONS)  # of the sweep of a batch
PARTS = (*STEPS, ELEMENTWISE, INFLUENCE, COMPRESSING, WRITING, OTHER, WAITING)


class PartTimes:
    """Processor time and operations of each part, summed over threads.

    `clock` returns processor seconds: of the calling thread where threads compute side by side, else of the process.

    Steps of the sweep are timed inside `ELEMENTWISE`, whose time does not include them; what a step calls belongs to the step.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self._local, self._lock = threading.local(), threading.Lock()

    def __repr__(self) -> str:
        return f"<PartTimes: {dict(self.seconds)}>"

    def timing(
        self, part: str, function: Callable[..., Any], operations: Operations | None = None
    ) -> Callable[..., Any]:
        """Return the function with its time added to a part, and the operations of its arguments and its result."""
        depth = 1 if part in STEPS else 0

        def call(*args: Any, **options: Any) -> Any:
            running = self._local.__dict__.setdefault("running", [])  # parts with the seconds of their steps
            own = len(running) == depth
            if own:
                running.append([part, 0.0])
            start = self.clock()
            try:
                result = function(*args, **options)
                if operations is not None and running:
                    self._add(self.operations, running[-1][0], operations(result, *args))
                return result
            finally:
                if own:
                    spent, inside = self.clock() - start, running.pop()[1]
                    if running:
                        running[-1][1] += spent
                    self._add(self.seconds, part, spent - inside)

        return call

    def _add(self, counts: Counter[str], part: str, value: float) -> None:
        with self._lock:
            counts[part] += value  # type: ignore[assignment]


class TimedTorch:
    """The module torch as the sweep sees it, with some functions timed."""

    def __init__(self, times: PartTimes):
        self.mm = times.timing(PROJECTIONS, torch.mm, product_operations)
        self.einsum = times.timing(PATTERNS, torch.einsum, mixing_operations)

    def __repr__(self) -> str:
        return "<TimedTorch>"

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def product_operations(result: Tensor, *operands: Tensor) -> int:
    """Return the operations of a matrix product of the last two operands."""
    return 2 * result.numel() * operands[-2].shape[-1]


def mixing_operations(result: Tensor, _: str, coefficient_HTP: Tensor, head_HTd: Tensor) -> int:
    """Return the operations of a sum over H heads."""
    return 2 * result.numel() * len(head_HTd)


def vector_operations(_: None, grad_QTD: Tensor, first: int, sources: SourceVectors, rows_TC: Tensor) -> int:
    """Return the operations of edge rows."""
    groups_Q3 = sources.groups_P3[first : first + len(grad_QTD)]
    return 2 * grad_QTD[0].numel() * int((groups_Q3[:, 1] - groups_Q3[:, 0]).sum())


@contextmanager
def parts_timed(clock: Callable[[], float]) -> Iterator[PartTimes]:
    """Measure the parts of every trace inside, by a clock."""
    times = PartTimes(clock)
    functions: tuple[tuple[Any, str, str, Operations | None], ...] = (
        (torch.Tensor, "addmm_", PROJECTIONS, product_operations),
        (torch.Tensor, "__matmul__", PROJECTIONS, product_operations),
        (AttentionPattern, "add_backward", PATTERNS, None),
        (AttentionPattern, "query_rows", PATTERNS, None),
        (sweep, "edge_rows", VECTORS, vector_operations),
        (DecoderVectors, "_scaled", COLLECTING, None),
        (sweep, "position_rows", POSITIONS, None),
        (row_builder, "compute_rows", ELEMENTWISE, None),
        (RowSelection, "add_rows", INFLUENCE, None),
        (row_builder, "rows_of_block", COMPRESSING, None),
        (RowWriter, "prepend", WRITING, None),
    )
    with ExitStack() as stack:
        for owner, name, part, operations in functions:
            timed_one = times.timing(part, getattr(owner, name), operations)
            stack.enter_context(mock.patch.object(owner, name, timed_one))
        stack.enter_context(mock.patch.object(sweep, "torch", TimedTorch(times)))
        yield times


def least_operations(graph: Any, shape: SweepShape) -> dict[str, int]:
    """Return the least operations of each part for the rows of a graph."""
    features = graph.order.features
    layer, position = (graph.column(name, missing=-1)[features].astype(np.int64) for name in ("layer", "position"))
    counts_LP = np.zeros((len(shape.windows), graph.order.n_tokens), np.int64)
    np.add.at(counts_LP, (layer, position), 1)
    vectors_LP = count_vectors(counts_LP, graph.info["transcoders"]["kind"] == "clt")
    computed = graph.computed[features]
    chosen = layer[computed], position[computed]
    everything = row_flops(shape, vectors_LP, *chosen)
    without_vectors = row_flops(shape, np.zeros_like(vectors_LP), *chosen)
    patterns = row_flops(replace(shape, d_model=0), vectors_LP, *chosen)
    return {
        PROJECTIONS: without_vectors - patterns,
        PATTERNS: patterns,
        VECTORS: everything - without_vectors,
    }


def profile_trace(model: Any, tokens: list[int]) -> Record:
    """Trace every row of a prompt with one thread per core; return the parts of the sweep, and the machine's rate."""
    threads = torch.get_num_threads()
    cores = min(threads, MAX_WORKERS)
    torch.set_num_threads(cores)
    rate = matmul_flops_per_second("cpu")
    side_by_side = model.plan(tokens).batch_size.n_workers > 1
    clock = time.thread_time if side_by_side else time.process_time
    with parts_timed(clock) as times, phases_timed() as wall, phases_timed(time.process_time) as busy:
        graph, seconds = timed(lambda: model.trace(tokens, progress=False))
    rate = max(rate, matmul_flops_per_second("cpu"))
    torch.set_num_threads(threads)
    available = cores * wall[SWEEP]
    spent = dict(times.seconds) | {OTHER: busy[SWEEP] - times.seconds.total(), WAITING: available - busy[SWEEP]}
    least = least_operations(graph, SweepShape.of(model.architecture, model.transcoders))
    full = rate * wall[SWEEP]  # operations at the machine's rate
    parts = {
        part: {
            "time": spent.get(part, 0.0) / available,
            "least": least.get(part, 0) / full,
            "done": times.operations[part] / full if part in least else 0.0,
        }
        for part in PARTS
    }
    found = {"seconds": seconds, "sweep_seconds": wall[SWEEP], "cores": cores, "machine_rate": rate, "parts": parts}
    return found | {"features": graph.order.n_features, "rows": int(graph.computed[graph.order.features].sum())}


def profile_table(record: Record) -> str:
    """Return the parts as a Markdown table: shares of the cores' time, divided into arithmetic at full rate and the rest."""
    grid = [
        [
            "part of the sweep",
            "share of the time",
            "least arithmetic",
            "more arithmetic",
            "lower rate, or no arithmetic",
        ]
    ]
    rows = [[part, *_divided(shares)] for part, shares in record["parts"].items()]
    rows.append(["all", *map(sum, zip(*(values for _, *values in rows), strict=True))])
    for name, time_share, *arithmetic, rest in rows:
        cells = (f"{value:.1%}" if value else "" for value in arithmetic)
        grid.append([name, f"{time_share:.1%}", *cells, f"{rest:.1%}"])
    return markdown(grid)


def _divided(shares: Record) -> list[float]:
    """Return a part's share of the time, and what it consists of: least arithmetic, more arithmetic, and the rest."""
    return [shares["time"], shares["least"], shares["done"] - shares["least"], shares["time"] - shares["done"]]


def main() -> None:
    import cotrace

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Gemma 3 as a Hugging Face folder")
    parser.add_argument("--transcoders", required=True)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    model = cotrace.load(args.model, args.transcoders, device="cpu", dtype="float32", progress=False)
    print(profile_table(profile_trace(model, token_ids(args.model, args.tokens))))


if __name__ == "__main__":
    main()

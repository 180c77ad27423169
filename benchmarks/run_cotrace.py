"""The measured steps of cotrace, each in a separate process: `python -m benchmarks.run_cotrace trace|open|adjacency|prune`."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.attribution.tracing.flops import SweepShape, matmul_flops_per_second

from .measure import timed
from .sweep_flops import sweep_flops

SWEEP = "rows"
PHASES = {  # title of a progress bar: name of the phase in the results, the same for all programs
    "reading active features": "forward and encode",
    "collecting decoder vectors": "collecting",
    "computing rows": SWEEP,
    "finishing the graph": "finishing",
}
PRUNE_THRESHOLDS = {"node_threshold": 0.8, "edge_threshold": 0.98}
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
REPEATS = 3


def trace(args: argparse.Namespace) -> dict[str, Any]:
    """Load the model, trace a prompt within the limits, and save the graph."""
    import torch

    import cotrace

    model, load_seconds = timed(lambda: cotrace.load(args.model, args.transcoders, device=args.device, dtype="float32"))
    limits = {name: getattr(args, name) for name in ("coverage", "max_seconds") if getattr(args, name)}
    rate = matmul_flops_per_second(args.device)
    with phases_timed() as phases:
        graph, seconds = timed(lambda: model.trace(args.tokens, progress=False, **limits))
    rate = max(rate, matmul_flops_per_second(args.device))
    _, save_seconds = timed(lambda: graph.save(args.graph))
    operations = sweep_flops(graph, SweepShape.of(model.architecture, model.transcoders))
    return {
        "seconds": seconds,
        "load_seconds": load_seconds,
        "save_seconds": save_seconds,
        "phases": phases | {"rest": seconds - sum(phases.values())},
        **rate_reached(operations, phases.get(SWEEP), rate),
        "file_bytes": args.graph.stat().st_size,
        **facts(graph),
        **({"device_peak_bytes": torch.cuda.max_memory_allocated()} if args.device == "cuda" else {}),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("cotrace", "torch", "transformers")}
        | {"python": platform.python_version()},
    }


@contextmanager
def phases_timed(clock: Callable[[], float] = time.perf_counter) -> Iterator[dict[str, float]]:
    """Measure the seconds of every phase that has a progress bar, by a clock."""
    from cotrace.common.progress import Progress

    seconds: dict[str, float] = {}
    announce = Progress.phase

    @contextmanager
    def phase(self: Any, name: str, total: int | None = None) -> Iterator[Any]:
        start = clock()
        with announce(self, name, total) as step:
            yield step
        name = PHASES.get(name, name)
        seconds[name] = seconds.get(name, 0.0) + clock() - start

    Progress.phase = phase
    try:
        yield seconds
    finally:
        Progress.phase = announce


def rate_reached(operations: int, sweep_seconds: float | None, rate: float) -> dict[str, float | None]:
    """Return the operations of the rows, the machine's matrix-product rate, and the sweep's share of it."""
    share = operations / sweep_seconds / rate if sweep_seconds else None
    return {"operations": operations, "machine_rate": rate, "rate_share": share}


def facts(graph: Any) -> dict[str, Any]:
    """Return the sizes of the graph, its coverage and bound, and the share of rows that each coverage needs."""
    features, rows = graph.order.n_features, int(graph.computed[graph.order.features].sum())
    found = {"features": features, "rows": rows, "nodes": graph.order.n_nodes, "edges": graph.n_edges}
    found |= {"coverage": graph.info["traced"]["coverage"], "bound": graph.info["traced"]["bound"]}
    if rows == features:
        found["rows_needed"] = rows_needed(graph.column("influence")[graph.order.features])
    return found


def rows_needed(influence_N: np.ndarray) -> list[list[float]]:
    """Return (coverage, share of rows) pairs: the fewest rows that leave at most 1 − coverage of the influence out."""
    skipped_influence = np.cumsum(np.sort(influence_N.astype(np.float64)))
    return [
        [c, 1 - int(np.searchsorted(skipped_influence, 1 - c, "right")) / max(len(skipped_influence), 1)]
        for c in COVERAGES
    ]


def open_and_prune(args: argparse.Namespace) -> dict[str, Any]:
    """Open the saved graph with all its checks, prune it at the default thresholds, and save the pruned graph."""
    from cotrace.graphs import open_graph

    graph, open_seconds = timed(lambda: open_graph(args.graph))
    pruned, prune_seconds = timed(lambda: graph.prune(**PRUNE_THRESHOLDS))
    path = args.graph.with_name("pruned.arrow")
    pruned.save(path)
    return {
        "open_seconds": open_seconds,
        "prune_seconds": prune_seconds,
        "pruned_bytes": path.stat().st_size,
        "kept_nodes": pruned.order.n_nodes,
        "kept_edges": pruned.n_edges,
    }


def adjacency(args: argparse.Namespace) -> dict[str, Any]:
    """Write the graph as a dense matrix, as circuit-tracer stores one, and the sizes of its blocks."""
    from cotrace.graphs import open_graph

    graph = open_graph(args.graph)
    np.save(args.graph.with_name("adjacency.npy"), graph.adjacency().toarray())
    features, errors, tokens, logits = graph.order.counts
    weights = graph.target_weights[graph.order.logits].tolist()
    sizes = {"features": features, "errors": errors, "tokens": tokens, "logits": logits, "weights": weights}
    args.graph.with_name("adjacency.json").write_text(json.dumps(sizes))
    return {"nodes": graph.order.n_nodes, "edges": graph.n_edges}


def prune(args: argparse.Namespace) -> dict[str, Any]:
    """Measure influence and the selection of nodes and edges on the CSR arrays, with compiled code."""
    from cotrace.graphs import open_graph

    graph = open_graph(args.graph)
    influence, influence_seconds = repeated(graph.influence)
    kept, prune_seconds = repeated(lambda: graph.select(**PRUNE_THRESHOLDS))
    return {
        "influence_seconds": influence_seconds,
        "prune_seconds": prune_seconds,
        "influence_sum": float(influence.sum()),
        "kept_nodes": int(kept.nodes.sum()),
        "kept_edges": int(kept.edges.sum()),
    }


def repeated(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call, and the median seconds of a few more calls: the first one may compile."""
    return call(), statistics.median(timed(call)[1] for _ in range(REPEATS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    tracing = commands.add_parser("trace")
    tracing.add_argument("--model", required=True)
    tracing.add_argument("--transcoders", required=True)
    tracing.add_argument("--tokens", type=int, nargs="+", required=True)
    tracing.add_argument("--device", default="cpu")
    tracing.add_argument("--coverage", type=float)
    tracing.add_argument("--max-seconds", type=float)
    steps = {"open": open_and_prune, "adjacency": adjacency, "prune": prune}
    for command, function in ((tracing, trace), *((commands.add_parser(name), steps[name]) for name in steps)):
        command.add_argument("--graph", type=Path, required=True)
        command.add_argument("--report", type=Path, required=True)
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.report.write_text(json.dumps(args.function(args)))


if __name__ == "__main__":
    main()

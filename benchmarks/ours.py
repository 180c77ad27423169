"""cotrace's side: `python -m benchmarks.ours trace|open …`, each in a process of its own."""

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .measure import timed


def trace(args: argparse.Namespace) -> dict[str, Any]:
    """Load, trace with every feature expanded, save."""
    import torch

    import cotrace

    load = lambda: cotrace.load(args.model, args.transcoders, device="cpu", dtype="float32")  # noqa: E731
    model, load_seconds = timed(load)
    graph, seconds = timed(lambda: model.trace(args.tokens))
    _, save_seconds = timed(lambda: graph.save(args.graph))
    features, *_ = graph.order.counts
    return {
        "seconds": seconds,
        "load_seconds": load_seconds,
        "save_seconds": save_seconds,
        "file_bytes": args.graph.stat().st_size,
        "features": features,
        "nodes": graph.order.n_nodes,
        "edges": graph.n_edges,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("cotrace", "torch", "transformers")}
        | {"python": platform.python_version()},
    }


def open_and_prune(args: argparse.Namespace) -> dict[str, Any]:
    """Open the saved graph (validated in full) and prune it at the usual thresholds."""
    from cotrace.graphs import open_graph

    graph, open_seconds = timed(lambda: open_graph(args.graph))
    pruned, prune_seconds = timed(lambda: graph.prune(node_threshold=0.8, edge_threshold=0.98))
    return {
        "open_seconds": open_seconds,
        "prune_seconds": prune_seconds,
        "kept_nodes": pruned.order.n_nodes,
        "kept_edges": pruned.n_edges,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    tracing = commands.add_parser("trace")
    tracing.add_argument("--model", required=True)
    tracing.add_argument("--transcoders", required=True)
    tracing.add_argument("--tokens", type=int, nargs="+", required=True)
    opening = commands.add_parser("open")
    for command, function in ((tracing, trace), (opening, open_and_prune)):
        command.add_argument("--graph", type=Path, required=True)
        command.add_argument("--report", type=Path, required=True)
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.report.write_text(json.dumps(args.function(args)))


if __name__ == "__main__":
    main()

"""The measured steps of cotrace for sampled rows, each in a separate process: `python -m benchmarks.run_sampling trace|spread|profile`.

- `trace`: one trace of a fresh process, with the options of `Model.trace` as JSON.
- `spread`: the same prompt with several numbers of rows, drawn with several seeds or the most influential ones, in one process.
- `profile`: a trace of every row, with the processor time of each part of the sweep.
"""

import argparse
import json
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .measure import timed
from .run_cotrace import facts, phases_timed

STRONGEST = 100  # features whose names are recorded


def load(args: argparse.Namespace) -> tuple[Any, float]:
    """Return the model with its transcoders, and the seconds that loading took."""
    import cotrace

    return timed(lambda: cotrace.load(args.model, args.transcoders, device="cpu", dtype="float32", progress=False))


def trace(args: argparse.Namespace) -> dict[str, Any]:
    """Load the model and trace the prompt once; `seconds` is the whole call of `Model.trace`."""
    model, load_seconds = load(args)
    return {"load_seconds": load_seconds, **one_trace(model, args.tokens, args.options), "versions": versions()}


def one_trace(model: Any, tokens: list[int], options: dict[str, Any]) -> dict[str, Any]:
    """Trace a prompt; return its seconds, what was computed, the shares of spans, and the strongest features."""
    with phases_timed() as phases:
        graph, seconds = timed(lambda: model.trace(tokens, progress=False, **options))
    found = {"seconds": seconds, "phases": phases, **facts(graph), **graph_shares(graph)}
    return found | {"strongest": strongest(graph), "sampling": graph.info["traced"].get("sampling")}


def strongest(graph: Any) -> list[str]:
    """Return the most influential features, as `layer.position.feature`: the same in every graph of a prompt."""
    order = np.argsort(-graph.influence()[graph.order.features], kind="stable")[:STRONGEST]
    columns = (graph.column(name)[order].astype(int) for name in ("layer", "position", "feature"))
    return [".".join(map(str, name)) for name in zip(*columns, strict=True)]


def graph_shares(graph: Any) -> dict[str, Any]:
    """Return the shares of five spans and of errors, with 95% intervals, and the widest half-width and standard error."""
    table = graph.shares()
    columns = {name: table[name].to_pylist() for name in table.column_names}
    half_widths = (np.array(columns["high"]) - np.array(columns["low"])) / 2
    worst = {"half_width": float(half_widths.max()), "standard_error": max(columns["standard_error"])}
    return {"shares": columns, **worst}


def spread(args: argparse.Namespace) -> dict[str, Any]:
    """Trace with every number of rows, drawn with every seed and once the most influential ones, after a warm-up."""
    model, _ = load(args)
    model.trace(args.tokens, progress=False, max_features=0)
    return {"runs": list(spread_runs(model, args.tokens, **args.options)), "versions": versions()}


def spread_runs(model: Any, tokens: list[int], rows: list[int], seeds: int) -> Iterator[dict[str, Any]]:
    """Yield the records of the traces of `spread`."""
    for limit in rows:
        drawn = [{"sampled": True, "seed": seed} for seed in range(seeds)]
        for options in (*drawn, {}):
            chosen = {"max_features": limit, "effects": False, **options}
            yield {"options": chosen, **one_trace(model, tokens, chosen)}


def profile(args: argparse.Namespace) -> dict[str, Any]:
    """Trace every row of the prompt, and measure the parts of the sweep."""
    from .sweep_profile import profile_trace

    model, _ = load(args)
    return profile_trace(model, args.tokens) | {"versions": versions()}


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {name: version(name) for name in ("cotrace", "torch", "numba")} | {"python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (trace, spread, profile):
        command = commands.add_parser(function.__name__)
        command.add_argument("--model", required=True)
        command.add_argument("--transcoders", required=True)
        command.add_argument("--tokens", type=int, nargs="+", required=True)
        command.add_argument("--options", type=json.loads, default={}, help="as JSON")
        command.add_argument("--report", type=Path, required=True)
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.report.write_text(json.dumps(args.function(args)))


if __name__ == "__main__":
    main()

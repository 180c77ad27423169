"""Influence from rows drawn at random: how precise within a time, beside every row, the top rows, and circuit-tracer.

    python -m benchmarks.sampling --model DIR --transcoders clt=DIR shipped=gemma-3-270m-clt [--peer-python ENV/bin/python]
        [--only 512 2000] [--resume] [--quick]

Parts, in the order in which they are measured:

    512            shares of spans within 60 s, beside the most influential rows, shipped CLT
    2000           shares of spans within 5 minutes, beside the most influential rows within 60 s, shipped CLT
    strongest      the 100 strongest features of 64 tokens, beside every row, shipped CLT
    shares         shares of spans of 64 tokens, beside every row, random CLT
    peer-rows      circuit-tracer with as many rows as `shares` computed
    spread         error against seconds for several numbers of rows, drawn and most influential, 64 tokens
    profile        the parts of a sweep of every row, random CLT
    2000-top       the most influential rows within 5 minutes
    peer-patched   circuit-tracer with every row, its inner loop repaired
    peer           circuit-tracer with every row

Each program runs in a separate process; `seconds` is its attribution call, forward pass included. The result file is
rewritten after each run. Runs of parts that are not chosen are kept; `--resume` measures only what the file lacks. Where
the file lacks `peer`, the table takes its seconds from results/trace.json, and says so. `--quick` tries everything with
short prompts.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .baselines import CIRCUIT_TRACER, HERE, PATCHED, TraceCase, trace_process
from .cells import Record, target_words
from .measure import DONE, machine, run
from .prompts import token_ids
from .sampling_targets import targets
from .trace import absolute, transcoders

RESULT = HERE / "results" / "sampling.json"
QUICK_RESULT = HERE.parent / "build" / "sampling-quick.json"
TRACE, SPREAD, PROFILE = "trace", "spread", "profile"  # steps of benchmarks.run_sampling
ROWS_OF_SHARES = 1400  # random CLT, 64 tokens: half-widths of shares below 0.01
ROWS_OF_STRONGEST = 700  # shipped CLT, 64 tokens
SEEDS = 3
# `max_seconds` of a sampled trace that may take 60 s or 5 minutes in all: forward pass and finishing take the rest.
SECONDS_OF_MINUTE, SECONDS_OF_FIVE_MINUTES = 44.0, 215.0


@dataclass(frozen=True)
class Case:
    """One run: its name in the result file, its program, transcoders and number of tokens, and its options."""

    name: str
    transcoders: str
    tokens: int
    options: dict[str, Any] = field(default_factory=dict)
    program: str = TRACE

    def quick(self) -> "Case":
        """Return a case that tries the same with a short prompt."""
        options = dict(self.options)
        if "max_seconds" in options:
            options["max_seconds"] = min(3.0, options["max_seconds"])
        if self.program == SPREAD:
            options |= {"rows": [300], "seeds": 2}
        return Case(self.name, self.transcoders, {64: 8, 512: 16, 2000: 24}[self.tokens], options, self.program)


def drawn(**limits: float) -> dict[str, Any]:
    """Return the options of a sampled trace."""
    return {"sampled": True, **limits}


WITHOUT_EFFECTS = {"effects": False}  # which circuit-tracer does not compute
SPREAD_OPTIONS = {"rows": [500, 1000, 2000], "seeds": SEEDS}
PARTS: dict[str, tuple[Case, ...]] = {
    "512": (
        Case("drawn_512", "shipped", 512, drawn(max_seconds=SECONDS_OF_MINUTE)),
        Case("top_512", "shipped", 512, {"max_seconds": 60.0}),
    ),
    "2000": (
        Case("drawn_2000", "shipped", 2000, drawn(max_seconds=SECONDS_OF_FIVE_MINUTES)),
        Case("top_2000_minute", "shipped", 2000, {"max_seconds": 60.0}),
    ),
    "strongest": (
        Case("drawn_shipped", "shipped", 64, drawn(max_features=ROWS_OF_STRONGEST)),
        Case("every_shipped", "shipped", 64),
    ),
    "shares": (
        Case("drawn_random", "clt", 64, drawn(max_features=ROWS_OF_SHARES) | WITHOUT_EFFECTS),
        Case("every_random", "clt", 64, WITHOUT_EFFECTS),
    ),
    "peer-rows": (Case("peer_rows", "clt", 64, {"max_feature_nodes": ROWS_OF_SHARES}, CIRCUIT_TRACER),),
    "spread": (
        Case("spread_random", "clt", 64, SPREAD_OPTIONS, SPREAD),
        Case("spread_shipped", "shipped", 64, SPREAD_OPTIONS, SPREAD),
    ),
    "profile": (Case("profile", "clt", 64, program=PROFILE),),
    "2000-top": (Case("top_2000", "shipped", 2000, {"max_seconds": 300.0}),),
    "peer-patched": (Case("peer_patched", "clt", 64, program=PATCHED),),
    "peer": (Case("peer", "clt", 64, program=CIRCUIT_TRACER),),
}
PEER_PROGRAMS = (CIRCUIT_TRACER, PATCHED)


class SamplingBenchmark:
    """A run of the benchmark: its options, its folder and its result file."""

    def __init__(self, args: argparse.Namespace, work: Path):
        self.args, self.work = args, work
        self.result = read_result(args) or new_result(args)

    def measure(self) -> None:
        """Measure the chosen parts, without peers where their Python is not given."""
        for part in (name for name in PARTS if name in self.args.only):
            for case in PARTS[part]:
                chosen = case.quick() if self.args.quick else case
                if case.program not in PEER_PROGRAMS or self.args.peer_python:
                    self._measure(chosen)

    def _measure(self, case: Case) -> None:
        known = self.result["runs"].get(case.name, {})
        if self.args.resume and known.get("status") == DONE and known["case"] == asdict(case):
            return
        ids = token_ids(self.args.model, case.tokens)
        record = self._peer(case, ids) if case.program in PEER_PROGRAMS else self._own(case, ids)
        self.result["runs"][case.name] = {"case": asdict(case), **record}
        self.result["targets"] = [] if self.args.quick else targets(self.result["runs"])
        self.args.out.write_text(json.dumps(self.result, indent=1) + "\n")
        print(f"{case.name}: {describe(record)}", flush=True)

    def _own(self, case: Case, ids: list[int]) -> Record:
        """Run cotrace on a case."""
        command = [sys.executable, "-m", "benchmarks.run_sampling", case.program, "--model", str(self.args.model)]
        command += ["--transcoders", self.args.transcoders[case.transcoders], "--options", json.dumps(case.options)]
        return run([*command, "--tokens", *map(str, ids)], self.work, self.args.time_limit).record()

    def _peer(self, case: Case, ids: list[int]) -> Record:
        """Run circuit-tracer on a case; then compute the shares of spans from its graph with its own influence."""
        process = trace_process(
            self.args, self.work, TraceCase(case.transcoders, case.tokens, (case.program,)), case.program
        )
        limit = case.options.get("max_feature_nodes")
        inputs = process.inputs + (["--max-feature-nodes", str(limit)] if limit else [])
        record = process.run("trace", *inputs, "--tokens", *map(str, ids))
        if record["status"] == DONE:
            record["sources"] = process.run("sources")
            process.graph.unlink()
        return record


def describe(record: Record) -> str:
    """Return one line about a run."""
    if record["status"] != DONE:
        return f"{record['status']} after {record['wall_seconds']:.0f} s ({record['detail']})"
    half_width = f", half-width {record['half_width']:.4f}" if "half_width" in record else ""
    rows = f", {record['rows']:,} rows" if "rows" in record else ""
    seconds = record.get("seconds", record["wall_seconds"])
    return f"{seconds:.1f} s, peak {record['peak_bytes'] / 1e9:.1f} GB{rows}{half_width}"


def settings(args: argparse.Namespace) -> Record:
    """Return the settings for the result file; folders by their names, so that no path gets published."""
    named = {name: Path(spec).name for name, spec in args.transcoders.items()}
    return {"model": args.model.name, "transcoders": named, "peer_batch": args.peer_batch, "quick": args.quick}


def new_result(args: argparse.Namespace) -> Record:
    """Return a result without runs."""
    head = {"benchmark": "sampling", "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    return head | {"settings": settings(args), "runs": {}, "targets": []}


def read_result(args: argparse.Namespace) -> Record | None:
    """Return the result whose other runs are kept, if any. Raises ValueError if it was measured otherwise, with `--resume`."""
    if not args.out.exists():
        return None
    found = json.loads(args.out.read_text())
    if found["settings"] == settings(args) and found["machine"]["cpu"] == machine()["cpu"]:
        return found
    if args.resume:
        raise ValueError(f"{args.out} was measured with other settings or elsewhere; run without --resume")
    return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=absolute, required=True, help="Gemma 3 as a Hugging Face folder")
    add("--transcoders", nargs="+", required=True, metavar="SET=SPEC", help="the sets clt and shipped")
    add("--peer-python", type=absolute, help="Python of an environment that has circuit-tracer; default: no peers")
    add("--peer-batch", type=int, default=64)
    add("--only", nargs="+", choices=PARTS, default=tuple(PARTS))
    add("--resume", action="store_true", help="measure only what the result file lacks")
    add("--quick", action="store_true", help="short prompts; writes build/sampling-quick.json")
    add("--time-limit", type=float, default=1800, help="seconds for one process")
    add("--work", type=absolute, help="folder that keeps converted transcoders and logs; default: a temporary one")
    add("--out", type=absolute, help="result file")
    args = parser.parse_args()
    args.transcoders, args.device = transcoders(args.transcoders), "cpu"
    args.out = args.out or (QUICK_RESULT if args.quick else RESULT)
    chosen = {case.transcoders for part in args.only for case in PARTS[part]}
    if missing := chosen - set(args.transcoders):
        parser.error(f"no --transcoders for {', '.join(sorted(missing))}")
    return args


def main() -> None:
    args = arguments()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cotrace-benchmark-") as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        benchmark = SamplingBenchmark(args, work)
        benchmark.measure()
    for one in benchmark.result["targets"]:
        print(f"{'met' if one['met'] else 'NOT MET'}: {one['on']}: {target_words(one)}")


if __name__ == "__main__":
    main()

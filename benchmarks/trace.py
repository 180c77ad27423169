"""Trace the same prompts with cotrace and circuit-tracer: same model, transcoders and token ids.

    python -m benchmarks.trace --model DIR --transcoders clt=DIR per-layer=DIR shipped=gemma-3-270m-clt
        --peer-python ENV/bin/python --case clt:16 clt:64:cotrace,circuit_tracer,pruning shipped:64::900

A case is SET:TOKENS:NAMES:SECONDS; NAMES defaults to all, SECONDS to `--time-limit`. Names:

    cotrace                 computes every row
    cotrace_coverage        cotrace with `--coverage`
    cotrace_max_seconds     cotrace with `--max-seconds`
    circuit_tracer          computes every row
    circuit_tracer_patched  the gather of its inner loop replaced by one product per position
    pruning                 influence and pruning with both programs, on the adjacency that cotrace traced

Every measurement is a separate process; the programs alternate within one run. `seconds` is the attribution call alone,
`wall_seconds` the whole process, `peak_bytes` the largest resident memory of that process. The result file is rewritten
after each measurement; `--resume` keeps what it has. Without `--peer-python` only cotrace is measured. Create the
environment of circuit-tracer with `pip install circuit-tracer==0.5.0 nnsight==0.6.1`: newer versions of nnsight lack
what it imports.

The cases of the tables in docs/benchmarks.md, measured with `--max-seconds 60`:

    clt:16:cotrace,cotrace_coverage,circuit_tracer,circuit_tracer_patched
    clt:64:cotrace,cotrace_coverage,circuit_tracer,circuit_tracer_patched,pruning
    per-layer:64:cotrace,circuit_tracer:200
    shipped:16:cotrace,cotrace_coverage,circuit_tracer,circuit_tracer_patched
    clt:128:cotrace_max_seconds,circuit_tracer:120
    clt:512:cotrace_max_seconds,circuit_tracer:150
    clt:2000:cotrace_max_seconds,circuit_tracer:200
"""

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .baselines import (
    CIRCUIT_TRACER,
    COTRACE,
    COTRACE_COVERAGE,
    COTRACE_MAX_SECONDS,
    PEERS,
    PRUNING,
    SETS,
    TraceCase,
    trace_process,
)
from .cells import Record, target_words
from .measure import DONE, FAILED, OVER_TIME, machine, run
from .prompts import token_ids
from .trace_tables import case_grid, difference_cell
from .trace_targets import targets

HERE = Path(__file__).parent
RESULTS = {"cpu": "trace", "cuda": "trace-cuda"}


class TraceBenchmark:
    """A run of the benchmark: its options, its folder and its result file."""

    def __init__(self, args: argparse.Namespace, work: Path):
        self.args, self.work, self.console = args, work, Console(width=160)
        self.result = read_result(args) or new_result(args)
        self.peers = PEERS if args.peer_python else ()

    def measure(self) -> None:
        """Measure what the result file lacks."""
        for case in self.args.case:
            ids = token_ids(self.args.model, case.tokens)
            record = self._record(case, ids)
            self._trace(case, record, ids)
            for name in self.peers:
                self._compare(case, record, name)
            self._prune(case, record)
            self._show(record)
            if not self.args.work:
                shutil.rmtree(
                    trace_process(self.args, self.work, case, COTRACE).graph.parent.parent, ignore_errors=True
                )

    def _record(self, case: TraceCase, ids: list[int]) -> Record:
        """Return the record of a case in the result, which is added if it is new."""
        sha256 = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
        named = {"operation": "trace", "case": case.title, "transcoders": case.transcoders, "tokens": case.tokens}
        named |= {"token_ids_sha256": sha256}
        for known in self.result["cases"]:
            if known.items() >= named.items():
                return known
        self.result["cases"].append(named | {"runs": {}, "targets": []})
        return self.result["cases"][-1]

    def _trace(self, case: TraceCase, record: Record, ids: list[int]) -> None:
        """Trace with each program in turn; one that did not finish is not repeated."""
        runs, limit = record["runs"], case.time_limit or self.args.time_limit
        tracers = {COTRACE, COTRACE_COVERAGE, COTRACE_MAX_SECONDS, *self.peers}
        todo = [name for name in case.names if name in tracers and not is_measured(runs.get(name), limit)]
        done: dict[str, list[Record]] = {name: [] for name in todo}
        for _ in range(self.args.repeats):
            for name in todo:
                if all(one["status"] == DONE for one in done[name]):
                    done[name].append(trace_process(self.args, self.work, case, name).trace(ids))
                    runs[name] = summary(done[name])
                    self._save(record, f"{name}: {describe(done[name][-1])}")

    def _compare(self, case: TraceCase, record: Record, name: str) -> None:
        """Compare the edges of cotrace's graph with those of circuit-tracer's, if both exist."""
        if "comparison" in record["runs"].get(name, {"comparison": None}):
            return
        own, peer = (trace_process(self.args, self.work, case, one) for one in (COTRACE, name))
        if not (own.graph.exists() and peer.graph.exists()):
            return
        compared = peer.run("export")
        if compared["status"] == DONE:
            command = [sys.executable, "-m", "benchmarks.compare", "--graph", str(own.graph)]
            compared = run([*command, "--peer", str(peer.graph.parent)], own.graph.parent, own.time_limit).record()
        peer.graph.with_name("adjacency.npy").unlink(missing_ok=True)
        record["runs"][name]["comparison"] = compared
        self._save(record, f"{name}: largest edge difference {difference_cell(compared)}")

    def _prune(self, case: TraceCase, record: Record) -> None:
        """Measure influence and pruning with both programs, on the adjacency that cotrace traced."""
        own = trace_process(self.args, self.work, case, COTRACE)
        wanted = PRUNING in case.names and self.peers and "pruning" not in record
        if not wanted or not own.graph.exists() or own.run("adjacency")["status"] != DONE:
            return
        peer = replace(trace_process(self.args, self.work, case, CIRCUIT_TRACER), graph=own.graph)
        record["pruning"] = {COTRACE: own.run("prune"), CIRCUIT_TRACER: peer.run("prune")}
        own.graph.with_name("adjacency.npy").unlink()
        self._save(record, "influence and pruning measured")

    def _save(self, record: Record, message: str) -> None:
        record["targets"] = targets(record, self.args.device)
        self.args.out.write_text(json.dumps(self.result, indent=1) + "\n")
        self.console.print(f"{record['case']}, {message}", highlight=False)

    def _show(self, record: Record) -> None:
        """Print a case as a table, and its targets."""
        heading, *rows = case_grid(record, self.result["settings"])
        table = Table(title=record["case"])
        for number, title in enumerate(heading):
            table.add_column(title, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
        for one in record["targets"]:
            self.console.print(f"{'met' if one['met'] else 'NOT MET'}: {target_words(one)}")


def is_measured(record: Record | None, limit: float) -> bool:
    """Return whether a record is final: it ended, or its time limit was at least as long."""
    if record is None or record["status"] == FAILED:
        return False
    return record["status"] != OVER_TIME or record["time_limit"] >= limit


def summary(runs: list[Record]) -> Record:
    """Return median times and the largest peak memory over the repeats."""
    record = runs[-1] | {"others_cores": max(one["others_cores"] for one in runs)}
    if record["status"] != DONE:
        return record
    for name in (key for key in record if key.endswith("seconds")):
        record[name] = statistics.median(one[name] for one in runs if name in one)
    if len(runs) > 1:
        record["all_seconds"] = [one["seconds"] for one in runs]
    return record | {"peak_bytes": max(one["peak_bytes"] for one in runs)}


def describe(record: Record) -> str:
    """Return one line about a run."""
    if record["status"] != DONE:
        return f"{record['status']} after {record['wall_seconds']:.0f} s ({record['detail']})"
    others = f", other processes used {record['others_cores']:.1f} cores"
    return f"{record['seconds']:.1f} s, peak {record['peak_bytes'] / 1e9:.1f} GB, {record['edges']:,} edges{others}"


def settings(args: argparse.Namespace) -> Record:
    """Return the settings for the result file; folders by their names, so that no path gets published."""
    return {
        "model": args.model.name,
        "transcoders": {name: Path(spec).name for name, spec in args.transcoders.items()},
        "coverage": args.coverage,
        "max_seconds": args.max_seconds,
        "repeats": args.repeats,
        "peer_batch": args.peer_batch,
        "device": args.device,
        "dtype": "float32",
    }


def new_result(args: argparse.Namespace) -> Record:
    """Return a result without cases."""
    head = {"benchmark": RESULTS[args.device], "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    return head | {"settings": settings(args), "cases": []}


def read_result(args: argparse.Namespace) -> Record | None:
    """Return the result to resume, if any. Raises ValueError if it has other settings or another processor."""
    if not args.resume or not args.out.exists():
        return None
    found = json.loads(args.out.read_text())
    if found["settings"] != settings(args) or found["machine"]["cpu"] != machine()["cpu"]:
        raise ValueError(f"{args.out} was measured with other settings or elsewhere; run without --resume")
    return found


def absolute(path: str) -> Path:
    """Return an absolute path, with links kept: the Python of an environment is often a link."""
    return Path(path).absolute()


def transcoders(texts: list[str]) -> dict[str, str]:
    """Parse SET=SPEC options; paths of folders become absolute."""
    found = dict(text.split("=", 1) for text in texts)
    return {name: str(Path(spec).absolute()) if Path(spec).exists() else spec for name, spec in found.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=absolute, required=True, help="Gemma 3 as a Hugging Face folder")
    add("--transcoders", nargs="+", required=True, metavar="SET=SPEC", help=f"SET is one of {', '.join(SETS)}")
    add(
        "--case",
        nargs="+",
        type=TraceCase.parse,
        metavar="SET:TOKENS:NAMES:SECONDS",
        help="default: all sets, 16 and 64",
    )
    add("--peer-python", type=absolute, help="Python of an environment that has circuit-tracer")
    add("--peer-batch", type=int, default=64)
    add("--device", choices=RESULTS, default="cpu")
    add("--coverage", type=float, default=0.95, help="of `cotrace_coverage`")
    add("--max-seconds", type=float, default=120, help="of `cotrace_max_seconds`")
    add("--time-limit", type=float, default=1800, help="seconds for one process")
    add("--repeats", type=int, default=1)
    add("--resume", action="store_true", help="measure only what the result file lacks")
    add("--work", type=absolute, help="folder that keeps graphs and logs; default: a temporary one")
    add("--out", type=absolute, help="result file")
    args = parser.parse_args()
    args.transcoders = transcoders(args.transcoders)
    args.case = args.case or [TraceCase.parse(f"{name}:{n}") for name in args.transcoders for n in (16, 64)]
    args.out = args.out or HERE / "results" / f"{RESULTS[args.device]}.json"
    if missing := {case.transcoders for case in args.case} - set(args.transcoders):
        parser.error(f"no --transcoders for {', '.join(sorted(missing))}")
    return args


def main() -> None:
    args = arguments()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.work:
        TraceBenchmark(args, args.work).measure()
        return
    with tempfile.TemporaryDirectory(prefix="cotrace-benchmark-") as folder:
        TraceBenchmark(args, Path(folder)).measure()


if __name__ == "__main__":
    main()

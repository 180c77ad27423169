"""The programs that are measured on a case: names, command lines, and lower bounds for stopped runs."""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .cells import Record
from .measure import DONE, OVER_TIME, run

HERE = Path(__file__).parent
SETS = {"clt": "random CLT", "per-layer": "random per-layer transcoders", "shipped": "shipped CLT"}
COTRACE, COTRACE_COVERAGE, COTRACE_MAX_SECONDS = "cotrace", "cotrace_coverage", "cotrace_max_seconds"
CIRCUIT_TRACER, PATCHED = "circuit_tracer", "circuit_tracer_patched"
PRUNING = "pruning"  # no trace: influence and pruning of the same adjacency with both programs
NAMES = (COTRACE, COTRACE_COVERAGE, COTRACE_MAX_SECONDS, CIRCUIT_TRACER, PATCHED, PRUNING)
PEERS = (CIRCUIT_TRACER, PATCHED)
PROGRESS_BAR = re.compile(r"(\d+)/(\d+) \[((?:\d+:)?\d+:\d+)<")  # as circuit-tracer prints it
CONVERT_TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True)
class TraceCase:
    """One prompt length with one set of transcoders, and the programs that are measured on it."""

    transcoders: str
    tokens: int
    names: tuple[str, ...]
    time_limit: float | None = None

    @classmethod
    def parse(cls, text: str) -> "TraceCase":
        """Parse `SET:TOKENS[:NAME,NAME…[:SECONDS]]`. Raises ValueError for anything else."""
        transcoders, tokens, names, limit = (*text.split(":"), "", "", "")[:4]
        selected = tuple(names.split(",")) if names else NAMES
        if transcoders not in SETS or set(selected) - set(NAMES):
            raise ValueError(
                f"invalid case {text!r}: expected SET:TOKENS:NAMES:SECONDS with a set of {', '.join(SETS)} "
                f"and names of {', '.join(NAMES)}"
            )
        return cls(transcoders, int(tokens), selected, float(limit) if limit else None)

    @property
    def title(self) -> str:
        """Return the case in words."""
        return f"{SETS[self.transcoders]}, {self.tokens:,} tokens"


def titles(coverage: float, max_seconds: float) -> dict[str, str]:
    """Return the titles, in tables and plots, of all programs that trace."""
    return {
        COTRACE: "cotrace",
        COTRACE_COVERAGE: f"cotrace, coverage {coverage:g}",
        COTRACE_MAX_SECONDS: f"cotrace within {max_seconds:g} s",
        CIRCUIT_TRACER: "circuit-tracer",
        PATCHED: "circuit-tracer, patched",
    }


@dataclass(frozen=True)
class TraceProcess:
    """The command line of a program on one case; its graph and logs have their own folder."""

    command: list[str]
    inputs: list[str]
    graph: Path
    time_limit: float

    def run(self, step: str, *arguments: str) -> Record:
        """Run one step in a separate process and return its record."""
        self.graph.parent.mkdir(parents=True, exist_ok=True)
        command = [*self.command, step, "--graph", str(self.graph), *arguments]
        return run(command, self.graph.parent, self.time_limit).record()

    def trace(self, tokens: list[int]) -> Record:
        """Trace once, then open the graph and prune it; return both steps as one record."""
        self.graph.unlink(missing_ok=True)
        record = self.run("trace", *self.inputs, "--tokens", *map(str, tokens)) | {"time_limit": self.time_limit}
        if record["status"] != DONE:
            return record | stopped_progress(record)
        opened = self.run("open")
        renamed = {"open_status": "status", "open_detail": "detail", "open_peak_bytes": "peak_bytes"}
        names = ("open_seconds", "prune_seconds", "pruned_bytes", "kept_nodes", "kept_edges")
        record |= {new: opened[old] for new, old in renamed.items()}
        return record | {name: opened[name] for name in names if name in opened}


def trace_process(args: argparse.Namespace, work: Path, case: TraceCase, name: str) -> TraceProcess:
    """Return the process of a program on a case."""
    limit = case.time_limit or args.time_limit
    folder, model = work / f"{case.transcoders}-{case.tokens}" / name, ["--model", str(args.model)]
    device = ["--device", args.device]
    if name in PEERS:
        converted = convert_for_peer(args, work, case)
        inputs = [*model, *device, "--transcoders", str(converted), "--batch", str(args.peer_batch)]
        command = [str(args.peer_python), "-I", str(HERE / "run_circuit_tracer.py")]
        return TraceProcess(command, inputs + ["--patched"] * (name == PATCHED), folder / "graph.pt", limit)
    inputs = [*model, *device, "--transcoders", args.transcoders[case.transcoders]]
    if name == COTRACE_COVERAGE:
        inputs += ["--coverage", str(args.coverage)]
    elif name == COTRACE_MAX_SECONDS:
        inputs += ["--max-seconds", str(args.max_seconds)]
    return TraceProcess([sys.executable, "-m", "benchmarks.run_cotrace"], inputs, folder / "graph.arrow.zst", limit)


def convert_for_peer(args: argparse.Namespace, work: Path, case: TraceCase) -> Path:
    """Write a case's transcoders in circuit-tracer's layout, once per run, in a separate process; return the folder."""
    out = work / f"{case.transcoders}-for-peer"
    if not (out / "done").exists():
        spec, folder = args.transcoders[case.transcoders], ["--out", str(out), "--model", str(args.model)]
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.transcoders", "convert", "--transcoders", spec, *folder]
        result = run(command, work, CONVERT_TIMEOUT_SECONDS)
        if result.status != DONE:
            raise ValueError(f"cannot convert {spec} for circuit-tracer ({result.status}): {result.detail}")
        (out / "done").touch()
    return out


def stopped_progress(record: Record) -> Record:
    """Return a lower bound of a stopped trace's seconds and, from its progress bar, an estimate."""
    if record["status"] != OVER_TIME or "started_after" not in record:
        return {}
    at_least = record["wall_seconds"] - record["started_after"]
    shown = PROGRESS_BAR.search(record["detail"])
    if not shown or int(shown[1]) == 0:
        return {"at_least_seconds": at_least}
    done, clock = int(shown[1]) / int(shown[2]), shown[3].split(":")
    elapsed = sum(int(part) * 60**power for power, part in enumerate(reversed(clock)))
    return {"at_least_seconds": at_least, "done": done, "projected_seconds": at_least + elapsed * (1 / done - 1)}

"""Who is measured on a case: what each is called, how its process is started, what is made of how it ended."""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .cells import Record
from .measure import DONE, OVER_TIME, run

HERE = Path(__file__).parent
OURS, THEIRS = "ours", "theirs"
SETS = {"clt": "random CLT", "per-layer": "random per-layer transcoders", "shipped": "shipped CLT"}
COVERED, BUDGET, REPAIRED = "covered", "budget", "repaired"
PRUNING = "pruning"  # not one that traces: influence and pruning of one adjacency, on both sides
NAMES = (OURS, COVERED, BUDGET, THEIRS, REPAIRED, PRUNING)
PEERS = (THEIRS, REPAIRED)
PROGRESS = re.compile(r"(\d+)/(\d+) \[((?:\d+:)?\d+:\d+)<")  # as circuit-tracer's bar shows it
CONVERT_SECONDS = 1800.0


@dataclass(frozen=True)
class Case:
    """One prompt length with one set of transcoders, and who is measured on it."""

    transcoders: str
    tokens: int
    names: tuple[str, ...]
    time_limit: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Case":
        """`SET:TOKENS[:NAME,NAME…[:SECONDS]]`; raises ValueError for anything else."""
        transcoders, tokens, names, limit = (*text.split(":"), "", "", "")[:4]
        chosen = tuple(names.split(",")) if names else NAMES
        if transcoders not in SETS or set(chosen) - set(NAMES):
            raise ValueError(f"{text!r} is not SET:TOKENS:NAMES:SECONDS with a set of {SETS} and names of {NAMES}")
        return cls(transcoders, int(tokens), chosen, float(limit) if limit else None)

    @property
    def title(self) -> str:
        """In words."""
        return f"{SETS[self.transcoders]}, {self.tokens:,} tokens"


def titles(coverage: float, max_seconds: float) -> dict[str, str]:
    """What people call everyone that traces."""
    return {
        OURS: "cotrace",
        COVERED: f"cotrace, coverage {coverage:g}",
        BUDGET: f"cotrace within {max_seconds:g} s",
        THEIRS: "circuit-tracer",
        REPAIRED: "circuit-tracer, gather repaired",
    }


@dataclass(frozen=True)
class Process:
    """How a contestant's steps are started on one case; its graph and logs are in a folder of its own."""

    start: list[str]
    inputs: list[str]
    graph: Path
    time_limit: float

    def run(self, step: str, *arguments: str) -> Record:
        """One step in a process of its own."""
        self.graph.parent.mkdir(parents=True, exist_ok=True)
        command = [*self.start, step, "--graph", str(self.graph), *arguments]
        return run(command, self.graph.parent, self.time_limit).record()

    def trace(self, tokens: list[int]) -> Record:
        """Trace once, then open the graph and prune it, with the names that step has in a case's record."""
        self.graph.unlink(missing_ok=True)
        record = self.run("trace", *self.inputs, "--tokens", *map(str, tokens)) | {"time_limit": self.time_limit}
        if record["status"] != DONE:
            return record | how_far(record)
        opened = self.run("open")
        wanted = {"open_status": "status", "open_detail": "detail", "open_peak_bytes": "peak_bytes"}
        names = ("open_seconds", "prune_seconds", "pruned_bytes", "kept_nodes", "kept_edges")
        record |= {new: opened[old] for new, old in wanted.items()}
        return record | {name: opened[name] for name in names if name in opened}


def process(args: argparse.Namespace, work: Path, case: Case, name: str) -> Process:
    """How a contestant runs on a case."""
    limit = case.time_limit or args.time_limit
    folder, model = work / f"{case.transcoders}-{case.tokens}" / name, ["--model", str(args.model)]
    device = ["--device", args.device]
    if name in PEERS:
        inputs = [*model, *device, "--transcoders", str(converted(args, work, case)), "--batch", str(args.peer_batch)]
        start = [str(args.peer_python), "-I", str(HERE / "peer_circuit_tracer.py")]
        return Process(start, inputs + ["--repaired"] * (name == REPAIRED), folder / "graph.pt", limit)
    inputs = [*model, *device, "--transcoders", args.transcoders[case.transcoders]]
    inputs += {COVERED: ["--coverage", str(args.coverage)], BUDGET: ["--max-seconds", str(args.max_seconds)]}.get(
        name, []
    )
    return Process([sys.executable, "-m", "benchmarks.ours"], inputs, folder / "graph.arrow.zst", limit)


def converted(args: argparse.Namespace, work: Path, case: Case) -> Path:
    """A case's transcoders in circuit-tracer's layout, written once a run by a process of its own."""
    out = work / f"{case.transcoders}-for-peer"
    if not (out / "done").exists():
        spec, folder = args.transcoders[case.transcoders], ["--out", str(out), "--model", str(args.model)]
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.transcoders", "convert", "--transcoders", spec, *folder]
        result = run(command, work, CONVERT_SECONDS)
        if result.status != DONE:
            raise ValueError(f"cannot convert {spec} for circuit-tracer ({result.status}: {result.detail})")
        (out / "done").touch()
    return out


def how_far(record: Record) -> Record:
    """What is known of a stopped trace: seconds that it takes at least, and about, where it showed its progress."""
    if record["status"] != OVER_TIME or "started_after" not in record:
        return {}
    at_least = record["wall_seconds"] - record["started_after"]
    shown = PROGRESS.search(record["detail"])
    if not shown or int(shown[1]) == 0:
        return {"at_least_seconds": at_least}
    done, clock = int(shown[1]) / int(shown[2]), shown[3].split(":")
    elapsed = sum(int(part) * 60**power for power, part in enumerate(reversed(clock)))
    return {"at_least_seconds": at_least, "done": done, "projected_seconds": at_least + elapsed * (1 / done - 1)}

"""cotrace and circuit-tracer side by side: the same model, transcoders and token ids, every feature expanded.

    python -m benchmarks.trace --model DIR --transcoders DIR [--peer-python ENV/bin/python] [--tokens 16 64]

Every measurement is a process of its own; the sides take turns within one run. `seconds` is the
attribution call alone, `wall_seconds` the whole process, `peak_bytes` that process's largest resident
memory. Without `--peer-python` only our side is measured. The peer's environment is made with
`pip install circuit-tracer==0.5.0 nnsight==0.6.1`: newer versions of nnsight lack what it imports.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .measure import DONE, NOT_MEASURED, machine, run
from .prompts import token_ids
from .tables import ROWS, cells

HERE = Path(__file__).parent
SIDES = ("ours", "theirs")
RATIOS = ("seconds", "wall_seconds", "peak_bytes", "file_bytes", "open_seconds", "prune_seconds", "open_peak_bytes")
Record = dict[str, Any]


@dataclass
class Side:
    """One implementation: how to start it, what it reads, and where its graph and logs go."""

    start: list[str]
    inputs: list[str]
    graph: Path
    time_limit: float

    def run(self, step: str, *arguments: str) -> Record:
        """One step in a process of its own."""
        command = [*self.start, step, "--graph", str(self.graph), *arguments]
        return run(command, self.graph.parent, self.time_limit).record()

    def trace(self, tokens: list[int]) -> Record:
        """Trace once; the graph file stays."""
        return self.run("trace", *self.inputs, "--tokens", *map(str, tokens))

    def open(self) -> Record:
        """Open and prune the graph that was traced last, with the names this step has in a case's record."""
        record = self.run("open")
        wanted = {"open_status": "status", "open_detail": "detail", "open_peak_bytes": "peak_bytes"}
        names = ("open_seconds", "prune_seconds", "kept_nodes", "kept_edges")
        return {new: record[old] for new, old in wanted.items()} | {name: record.get(name) for name in names}


def our_side(args: argparse.Namespace, folder: Path) -> Side:
    inputs = ["--model", str(args.model), "--transcoders", str(args.transcoders)]
    return Side([sys.executable, "-m", "benchmarks.ours"], inputs, folder / "graph.arrow", args.peer_time_limit)


def their_side(args: argparse.Namespace, folder: Path) -> Side:
    clt = args.peer_transcoders or converted(args.transcoders, folder)
    inputs = ["--model", str(args.model), "--clt", str(clt), "--batch", str(args.peer_batch)]
    start = [str(args.peer_python), "-I", str(HERE / "peer_circuit_tracer.py")]
    return Side(start, inputs, folder / "graph.pt", args.peer_time_limit)


def converted(transcoders: Path, folder: Path) -> Path:
    """The transcoders in circuit-tracer's layout, written by a process of its own."""
    clt = folder / "clt"
    command = ["-m", "benchmarks.transcoders", "convert", "--transcoders", str(transcoders), "--out", str(clt)]
    result = run([sys.executable, *command], folder, time_limit=600)
    if result.status != DONE:
        raise ValueError(f"cannot convert {transcoders} for circuit-tracer ({result.status}: {result.detail})")
    return clt


def measure_case(sides: dict[str, Side], tokens: list[int], repeats: int, console: Console) -> Record:
    """All measurements of one prompt; a side that did not finish is not tried again."""
    runs: dict[str, list[Record]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            if all(record["status"] == DONE for record in runs[name]):
                runs[name].append(side.trace(tokens))
                console.print(f"{len(tokens)} tokens, {name}: {describe(runs[name][-1])}", highlight=False)
    records = {name: summary(runs[name], sides[name]) if name in sides else {"status": NOT_MEASURED} for name in SIDES}
    case = {"tokens": len(tokens), "token_ids": tokens, **records, "ratios": ratios(records["ours"], records["theirs"])}
    return case | {"comparison": edge_difference(sides, records)}


def summary(runs: list[Record], side: Side) -> Record:
    """Median times and the largest peak over the repeats, one opening, and every run."""
    record = {**runs[-1], "runs": runs}
    if record["status"] != DONE:
        return record
    for name in (key for key in runs[0] if key.endswith("seconds")):
        record[name] = statistics.median(one[name] for one in runs)
    record["peak_bytes"] = max(one["peak_bytes"] for one in runs)
    return record | side.open()


def ratios(ours: Record, theirs: Record) -> dict[str, float]:
    """Ours over theirs, for what both sides measured to the end."""
    if not ours["status"] == theirs["status"] == DONE:
        return {}
    return {name: ours[name] / theirs[name] for name in RATIOS if ours.get(name) and theirs.get(name)}


def edge_difference(sides: dict[str, Side], records: dict[str, Record]) -> Record:
    """What `benchmarks.compare` says of the two graphs; "not measured" where one is missing."""
    if any(records[name]["status"] != DONE for name in SIDES):
        return {"status": NOT_MEASURED}
    exported = sides["theirs"].run("export")
    if exported["status"] != DONE:
        return exported
    ours, theirs = sides["ours"].graph, sides["theirs"].graph.parent
    command = [sys.executable, "-m", "benchmarks.compare", "--graph", str(ours), "--peer", str(theirs)]
    return run(command, ours.parent, time_limit=1800).record()


def describe(record: Record) -> str:
    """One line on one run."""
    if record["status"] != DONE:
        return f"{record['status']} after {record['wall_seconds']:.0f} s ({record['detail']})"
    others = f", others kept {record['others_cores']:.1f} cores busy"
    return f"{record['seconds']:.1f} s, peak {record['peak_bytes'] / 1e9:.1f} GB, {record['edges']:,} edges{others}"


def show(case: Record, console: Console) -> None:
    """A case as a table for people."""
    table = Table(title=f"{case['tokens']} tokens")
    for title in ("", "cotrace", "circuit-tracer", "ours / theirs"):
        table.add_column(title, justify="left" if not title else "right")
    for row in ROWS:
        table.add_row(row.title, *cells(case, row))
    console.print(table)


def settings(args: argparse.Namespace) -> Record:
    """What was measured; folders by their names alone, since their places are nobody's business."""
    return {
        "model": args.model.name,
        "transcoders": args.transcoders.name,
        "repeats": args.repeats,
        "peer_batch": args.peer_batch,
        "time_limit_seconds": args.peer_time_limit,
        "dtype": "float32",
    }


def absolute(path: str) -> Path:
    """The path seen from anywhere; links stay, for an environment's Python is often one."""
    return Path(path).absolute()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=absolute, required=True, help="Gemma 3 as a Hugging Face folder")
    parser.add_argument("--transcoders", type=absolute, required=True, help="a CLT in the Gemma Scope 2 layout")
    parser.add_argument("--peer-python", type=absolute, help="Python of an environment that has circuit-tracer")
    parser.add_argument("--peer-transcoders", type=absolute, help="the same CLT in circuit-tracer's layout")
    parser.add_argument("--peer-batch", type=int, default=64)
    parser.add_argument("--peer-time-limit", type=float, default=1800, help="seconds for one process of either side")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--work", type=absolute, help="folder for graphs and logs that stays; a temporary one if left out"
    )
    parser.add_argument("--out", type=absolute, default=HERE / "results" / "trace.json")
    return parser.parse_args()


def measure(args: argparse.Namespace, work: Path) -> None:
    """Measure every case; the result file is rewritten after each, so that an interrupted run keeps what it has."""
    console = Console()
    for name in SIDES:
        (work / name).mkdir(parents=True, exist_ok=True)
    sides = {"ours": our_side(args, work / "ours")}
    if args.peer_python:
        sides["theirs"] = their_side(args, work / "theirs")
    result: Record = {"benchmark": "trace", "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    result |= {"settings": settings(args), "cases": []}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for length in args.tokens:
        case = measure_case(sides, token_ids(args.model, length), args.repeats, console)
        show(case, console)
        result["cases"].append(case)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    args = arguments()
    if args.work:
        measure(args, args.work)
        return
    with tempfile.TemporaryDirectory(prefix="cotrace-benchmark-") as folder:
        measure(args, Path(folder))


if __name__ == "__main__":
    main()

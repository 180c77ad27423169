"""cotrace and circuit-tracer side by side: the same model, transcoders and token ids.

    python -m benchmarks.trace --model DIR --transcoders clt=DIR per-layer=DIR shipped=gemma-3-270m-clt
        --peer-python ENV/bin/python --case clt:16 clt:64:ours,covered,theirs,repaired,pruning shipped:64::900

A case is SET:TOKENS:NAMES:SECONDS; left out, all names and `--time-limit`. Names: `ours` and `theirs`
compute every row, `covered` is ours with `--coverage`, `budget` ours with `--max-seconds`, `repaired`
theirs with the gather of its inner loop replaced by a product for each position; `pruning` times
influence and pruning on both sides over the adjacency that ours traced.

Every measurement is a process of its own; the sides take turns within one run. `seconds` is the
attribution call alone, `wall_seconds` the whole process, `peak_bytes` that process's largest resident
memory. The result file is rewritten after each; `--resume` keeps what it has. Without `--peer-python`
only our side is measured. The peer's environment is made with `pip install circuit-tracer==0.5.0
nnsight==0.6.1`: newer versions of nnsight lack what it imports.
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

from .cells import Record, target_words
from .contestants import BUDGET, COVERED, OURS, PEERS, PRUNING, SETS, THEIRS, Case, process
from .measure import DONE, FAILED, OVER_TIME, machine, run
from .prompts import token_ids
from .trace_tables import case_grid, difference
from .trace_targets import targets

HERE = Path(__file__).parent
RESULTS = {"cpu": "trace", "cuda": "trace-cuda"}


class Bench:
    """A run: its options, its folder, and the result file that grows with it."""

    def __init__(self, args: argparse.Namespace, work: Path):
        self.args, self.work, self.console = args, work, Console(width=160)
        self.result = earlier(args) or fresh(args)
        self.peers = PEERS if args.peer_python else ()

    def measure(self) -> None:
        """Measure of every case what is not there yet."""
        for case in self.args.case:
            ids = token_ids(self.args.model, case.tokens)
            record = self._record(case, ids)
            self._trace(case, record, ids)
            for name in self.peers:
                self._compare(case, record, name)
            self._prune(case, record)
            self._show(record)
            if not self.args.work:
                shutil.rmtree(process(self.args, self.work, case, OURS).graph.parent.parent, ignore_errors=True)

    def _record(self, case: Case, ids: list[int]) -> Record:
        """The case's record in the result."""
        sha256 = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
        named = {"operation": "trace", "case": case.title, "transcoders": case.transcoders, "tokens": case.tokens}
        named |= {"token_ids_sha256": sha256}
        for known in self.result["cases"]:
            if known.items() >= named.items():
                return known
        self.result["cases"].append(named | {"runs": {}, "targets": []})
        return self.result["cases"][-1]

    def _trace(self, case: Case, record: Record, ids: list[int]) -> None:
        """Contestants take turns; one that did not finish is not tried again."""
        runs, limit = record["runs"], case.time_limit or self.args.time_limit
        able = {OURS, COVERED, BUDGET, *self.peers}
        todo = [name for name in case.names if name in able and not is_measured(runs.get(name), limit)]
        done: dict[str, list[Record]] = {name: [] for name in todo}
        for _ in range(self.args.repeats):
            for name in todo:
                if all(one["status"] == DONE for one in done[name]):
                    done[name].append(process(self.args, self.work, case, name).trace(ids))
                    runs[name] = summary(done[name])
                    self._save(record, f"{name}: {describe(done[name][-1])}")

    def _compare(self, case: Case, record: Record, name: str) -> None:
        """What `benchmarks.compare` says of our graph and one of theirs, where both are there."""
        if "comparison" in record["runs"].get(name, {"comparison": None}):
            return
        ours, theirs = (process(self.args, self.work, case, one) for one in (OURS, name))
        if not (ours.graph.exists() and theirs.graph.exists()):
            return
        compared = theirs.run("export")
        if compared["status"] == DONE:
            command = [sys.executable, "-m", "benchmarks.compare", "--graph", str(ours.graph)]
            compared = run([*command, "--peer", str(theirs.graph.parent)], ours.graph.parent, ours.time_limit).record()
        theirs.graph.with_name("adjacency.npy").unlink(missing_ok=True)
        record["runs"][name]["comparison"] = compared
        self._save(record, f"{name}: largest edge difference {difference(compared)}")

    def _prune(self, case: Case, record: Record) -> None:
        """Influence and pruning on both sides, over the adjacency that ours traced."""
        ours = process(self.args, self.work, case, OURS)
        wanted = PRUNING in case.names and self.peers and "pruning" not in record
        if not wanted or not ours.graph.exists() or ours.run("adjacency")["status"] != DONE:
            return
        theirs = replace(process(self.args, self.work, case, THEIRS), graph=ours.graph)
        record["pruning"] = {OURS: ours.run("prune"), THEIRS: theirs.run("prune")}
        ours.graph.with_name("adjacency.npy").unlink()
        self._save(record, "influence and pruning measured")

    def _save(self, record: Record, said: str) -> None:
        record["targets"] = targets(record, self.args.device)
        self.args.out.write_text(json.dumps(self.result, indent=1) + "\n")
        self.console.print(f"{record['case']}, {said}", highlight=False)

    def _show(self, record: Record) -> None:
        """A case as a table for people, and its targets."""
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
    """Whether there is nothing more to learn: it ended, or was stopped no earlier than it would be now."""
    if record is None or record["status"] == FAILED:
        return False
    return record["status"] != OVER_TIME or record["time_limit"] >= limit


def summary(runs: list[Record]) -> Record:
    """Median times and the largest peak over the repeats."""
    record = runs[-1] | {"others_cores": max(one["others_cores"] for one in runs)}
    if record["status"] != DONE:
        return record
    for name in (key for key in record if key.endswith("seconds")):
        record[name] = statistics.median(one[name] for one in runs if name in one)
    if len(runs) > 1:
        record["all_seconds"] = [one["seconds"] for one in runs]
    return record | {"peak_bytes": max(one["peak_bytes"] for one in runs)}


def describe(record: Record) -> str:
    """One line on one run."""
    if record["status"] != DONE:
        return f"{record['status']} after {record['wall_seconds']:.0f} s ({record['detail']})"
    others = f", others kept {record['others_cores']:.1f} cores busy"
    return f"{record['seconds']:.1f} s, peak {record['peak_bytes'] / 1e9:.1f} GB, {record['edges']:,} edges{others}"


def settings(args: argparse.Namespace) -> Record:
    """What was measured; folders by their names alone, since their places are nobody's business."""
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


def fresh(args: argparse.Namespace) -> Record:
    """A result without cases."""
    head = {"benchmark": RESULTS[args.device], "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    return head | {"settings": settings(args), "cases": []}


def earlier(args: argparse.Namespace) -> Record | None:
    """The result to go on with; raises ValueError if it is of other settings or another processor."""
    if not args.resume or not args.out.exists():
        return None
    found = json.loads(args.out.read_text())
    if found["settings"] != settings(args) or found["machine"]["cpu"] != machine()["cpu"]:
        raise ValueError(f"{args.out} was measured with other settings or elsewhere; leave --resume out")
    return found


def absolute(path: str) -> Path:
    """The path seen from anywhere; links stay, for an environment's Python is often one."""
    return Path(path).absolute()


def transcoders(texts: list[str]) -> dict[str, str]:
    """`SET=SPEC` each; folders as seen from anywhere."""
    found = dict(text.split("=", 1) for text in texts)
    return {name: str(Path(spec).absolute()) if Path(spec).exists() else spec for name, spec in found.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=absolute, required=True, help="Gemma 3 as a Hugging Face folder")
    add("--transcoders", nargs="+", required=True, metavar="SET=SPEC", help=f"SET is one of {', '.join(SETS)}")
    add("--case", nargs="+", type=Case.parse, metavar="SET:TOKENS:NAMES:SECONDS", help="default: all sets, 16 and 64")
    add("--peer-python", type=absolute, help="Python of an environment that has circuit-tracer")
    add("--peer-batch", type=int, default=64)
    add("--device", choices=RESULTS, default="cpu")
    add("--coverage", type=float, default=0.95, help="of `covered`")
    add("--max-seconds", type=float, default=120, help="of `budget`")
    add("--time-limit", type=float, default=1800, help="seconds for one process of either side")
    add("--repeats", type=int, default=1)
    add("--resume", action="store_true", help="keep what the result file has")
    add("--work", type=absolute, help="folder for graphs and logs that stays; a temporary one if left out")
    add("--out", type=absolute, help="result file")
    args = parser.parse_args()
    args.transcoders = transcoders(args.transcoders)
    args.case = args.case or [Case.parse(f"{name}:{n}") for name in args.transcoders for n in (16, 64)]
    args.out = args.out or HERE / "results" / f"{RESULTS[args.device]}.json"
    if missing := {case.transcoders for case in args.case} - set(args.transcoders):
        parser.error(f"no --transcoders for {', '.join(sorted(missing))}")
    return args


def main() -> None:
    args = arguments()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.work:
        Bench(args, args.work).measure()
        return
    with tempfile.TemporaryDirectory(prefix="cotrace-benchmark-") as folder:
        Bench(args, Path(folder)).measure()


if __name__ == "__main__":
    main()

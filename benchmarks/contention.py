"""How much longer a trace takes on a busy machine, with threads that always spin and with cotrace's adaptive threads.

    python -m benchmarks.contention [--busy 0 1 2 4] [--tokens N] [--coverage C] [--repeats N]

Two processes load the same model. In one, OpenMP threads spin at the end of each parallel loop, as they do by default;
in the other they sleep while other processes compete for the cores (`kernels/threads.py`). Both trace the same prompt in turns, beside 0 and
more processes that only compute, so that a slow machine is slow for all of them. A measurement beside which other
processes kept more than `QUIET_CORES` cores busy is taken again. Writes results/contention.json.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from .cells import target
from .measure import busy_seconds, machine

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "contention.json"
# GNU OpenMP's default number of spins, which cotrace leaves alone where it is asked for.
MODES: dict[str, dict[str, str]] = {"spin": {"GOMP_SPINCOUNT": "300000"}, "adaptive": {}}
LIMITS = {1: 1.8, 2: 2.4, 4: 3.6}  # by busy processes: the trace's time over its time alone, at most
LIMIT_ALONE = 1.03
QUIET_CORES = 0.1
MAX_TRIES = 5
# Ends with its parent, should that be killed.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"


class Tracer:
    """A process that has loaded a model and traces one prompt each time it is asked to.

    It stays in this process's session: Linux may share the cores between sessions first, and only then between
    the processes of each.
    """

    def __init__(self, args: argparse.Namespace, environment: dict[str, str]):
        inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", *environment)}
        options = ["--model", args.model, "--tokens", str(args.tokens), "--coverage", str(args.coverage)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contention", "--serve", *options],
            env=inherited | environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self._answer()

    def trace(self) -> dict[str, float]:
        """Trace the prompt; return the wall time and the CPU time in seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("trace\n")
        self._process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the tracing process has ended; its error is above")
        return json.loads(line)


def serve(args: argparse.Namespace) -> None:
    """Load the model, trace once so that everything is compiled, then trace once for each line of the input."""
    import torch

    import cotrace
    from benchmarks.prompts import TEXT
    from cotrace.common.versions import package_versions

    model = cotrace.load(args.model, device="cpu", progress=False)
    token_ids = model.tokenize(TEXT)[: args.tokens]

    def trace() -> dict[str, float]:
        start, cpu_start = time.perf_counter(), time.process_time()
        model.trace(token_ids, coverage=args.coverage, progress=False)
        return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}

    trace()
    facts = {"threads": torch.get_num_threads(), "transcoders": model.transcoders.name, "versions": package_versions()}
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        print(json.dumps(trace()), flush=True)


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[list[psutil.Process]]:
    """Run `count` processes that only compute, and end them whatever happens."""
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(count):
            processes.append(psutil.Popen([sys.executable, "-S", "-c", BUSY]))
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        time.sleep(0.2)  # for their start
        yield processes


def measure(tracer: Tracer, n_busy: int) -> dict[str, float]:
    """Time one trace beside busy processes, and count the cores that other processes kept busy meanwhile."""
    with busy_processes(n_busy) as processes:
        start, busy_before, ours_before = time.perf_counter(), busy_seconds(), cpu_seconds(processes)
        run = tracer.trace()
        wall = time.perf_counter() - start
        ours = run["cpu_seconds"] + cpu_seconds(processes) - ours_before
        return run | {"others_cores": max(busy_seconds() - busy_before - ours, 0.0) / wall}


def measure_quiet(tracer: Tracer, n_busy: int) -> dict[str, float]:
    """Return the measurement that other processes disturbed least, the first that is quiet or one of `MAX_TRIES`."""
    tries: list[dict[str, float]] = []
    while not tries or (tries[-1]["others_cores"] > QUIET_CORES and len(tries) < MAX_TRIES):
        tries.append(measure(tracer, n_busy))
    return min(tries, key=lambda run: run["others_cores"])


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that processes have used in all."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def fair_ratio(n_busy: int, cores: int, threads: int) -> float:
    """Return the time over the time alone if every thread and every busy process got the same share of the cores."""
    return max(1.0, (threads + n_busy) / cores)


def summarize(runs: list[dict[str, Any]], cores: int, threads: int) -> list[dict[str, Any]]:
    """Return one row for each number of busy processes: medians, and ratios to the time alone in the same mode."""
    rows: list[dict[str, Any]] = []
    for n_busy in sorted({run["busy"] for run in runs}):
        row: dict[str, Any] = {"busy": n_busy, "limit": LIMITS.get(n_busy), "fair": fair_ratio(n_busy, cores, threads)}
        for mode in MODES:
            row[mode] = median(run["seconds"] for run in runs if (run["mode"], run["busy"]) == (mode, n_busy))
            row[f"{mode}_ratio"] = row[mode] / (rows[0][mode] if rows else row[mode])
        rows.append(row)
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets that the rows are measured for, each with what was measured."""
    found = [
        target("alone: time over that of threads that spin", rows[0]["adaptive"] / rows[0]["spin"], most=LIMIT_ALONE)
    ]
    for row in rows:
        if row["limit"]:
            what = f"beside {row['busy']} busy processes: time over that alone"
            found.append(target(what, row["adaptive_ratio"], most=row["limit"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--coverage", type=float, default=0.8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Measure every mode beside every number of busy processes, in turns, and write the result file."""
    with contextlib.ExitStack() as stack:
        tracers: dict[str, Tracer] = {}
        for mode, environment in MODES.items():
            tracers[mode] = Tracer(args, environment)
            stack.callback(tracers[mode].stop)
        runs = []
        for repeat, n_busy, mode in itertools.product(range(args.repeats), sorted({0, *args.busy}), MODES):
            runs.append({"mode": mode, "busy": n_busy, "repeat": repeat, **measure_quiet(tracers[mode], n_busy)})
            print(", ".join(f"{name}: {value}" for name, value in runs[-1].items()), flush=True)
        facts = tracers["adaptive"].facts
    rows = summarize(runs, os.cpu_count() or 1, facts["threads"])
    settings = {name: getattr(args, name) for name in ("model", "tokens", "coverage", "repeats")}
    result = {"benchmark": "contention", "date": time.strftime("%Y-%m-%d"), "machine": machine(), **facts}
    result |= {"settings": settings, "targets": targets(rows), "summary": rows, "runs": runs}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for one in result["targets"]:
        print(f"{one['what']}: {one['value']:.2f} (at most {one['most']:g})")


if __name__ == "__main__":
    main()

"""Compare the kernels with their references, with library functions and with the machine's limits, in one run.

    python -m benchmarks.kernels [--device cpu|cuda] [--quick] [--only encode decode edge_rows scaling] [--out FILE]
    python -m benchmarks.kernels [--device cpu|cuda] --plot-only     docs/kernels-*.svg from the result file

Every time is that of a call of the public function, checks included, as `kernel_timing` describes. Ratios are time over
time: below 1 is faster.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cotrace.kernels.backends import BACKENDS
from cotrace.kernels.operations import OPERATIONS

from . import kernel_cases as cases
from .cells import Record, case_title, target, target_words
from .kernel_cases import (
    ACTIVATIONS,
    COPY,
    DENSE,
    LOOP,
    PEAK,
    PRODUCT,
    READ,
    Candidates,
)
from .kernel_plots import ROOT, plot
from .kernel_tables import kernel_grid
from .kernel_timing import LIMITS, CallTimer, InterleavedTiming, LoadMonitor, Runs
from .measure import DONE, NOT_MEASURED, machine, run

GROUPS = ("encode", "decode", "edge_rows", "scaling")
IDLE_CORES = 0.2  # of other processes; above it, a warning is printed
CHILD_TIMEOUT_SECONDS = 300.0
NORM_TOLERANCE = 1e-3  # relative difference between the norms of results that should be equal
OPTIMIZED_BACKENDS = ("torch", "numba", "triton")
RESULT_NAMES = {"cpu": "kernels", "cuda": "kernels-cuda"}  # of result files, tables and plots
MODES = {
    "forward": "forward",
    "dense": "forward and backward, dense gradients",
    "sparse": "forward and backward, sparse gradients",
}
# Performance targets of the default backend. On a GPU, launches limit small products, so the target of edge rows
# there is a share of the device's matrix-product rate.
TARGETS = {
    "cpu": {"dense decode": 10.0, "matrix product": 1.15, "edge rows": 0.7, "exponent": 1.1},
    "cuda": {"dense decode": 10.0, "bandwidth": 0.7, "matrix product": 1.2, "edge rows": 0.7, "exponent": 1.1},
}


class KernelBenchmark:
    """The groups of cases; each method yields its records one by one."""

    def __init__(self, device: str, quick: bool):
        self.device, self.sizes = device, cases.sizes_of(device, quick)
        self.timing = InterleavedTiming(CallTimer(self.sizes, device), quick)
        self.limits = cases.MachineLimits(self.sizes, device)
        self.targets = TARGETS[device]

    def encode(self) -> Iterator[Record]:
        """Yield the cases of encode; all activations of one shape share the timing of the matrix product."""
        for positions, features in self.sizes.encode:
            runs, work, sizes = self._encode(positions, features)
            for activation in ACTIVATIONS:
                taken = {b: runs[f"{activation} {b}"] for b in BACKENDS} | {n: dict(runs[n]) for n in (PRODUCT, PEAK)}
                record = case(
                    "encode", activation, sizes, taken, work, OPERATIONS["encode"].default_backend(self.device)
                )
                value = against(record, PRODUCT)
                title = "time of encode over the time of its matrix product"
                record["targets"].append(target(title, value, most=self.targets["matrix product"]))
                yield record

    def _encode(self, positions: int, features: int) -> tuple[Runs, Record, Record]:
        width = self.sizes.width
        problem = cases.EncodeProblem(positions, features, width, self.sizes.active_share, self.device)
        candidates: Candidates = {PRODUCT: problem.product()} | self.limits.arithmetic()
        for activation in ACTIVATIONS:
            found = problem.candidates(activation)
            candidates |= {f"{activation} {backend}": call for backend, call in found.items()}
        runs = self.timing.run(candidates)
        sizes = {"positions": positions, "features": features, "width": width, "active": problem.n_active}
        return runs, self._arithmetic(2 * positions * features * width, runs), sizes

    def decode(self) -> Iterator[Record]:
        """Yield the cases of decode: one layer, and a small cross-layer transcoder."""
        *sizes, layers = self.sizes.decode
        for title, n_layers in (("one layer", 1), ("cross-layer", layers)):
            problem = cases.DecodeProblem((*sizes, n_layers), self.sizes.width, self.device)
            for mode in MODES:
                yield self._decode(problem, title, mode)

    def _decode(self, problem: cases.DecodeProblem, title: str, mode: str) -> Record:
        runs = self.timing.run(problem.candidates(mode) | self.limits.memory(), cold=True)
        work = self._memory(problem.moved_bytes(mode), runs)
        work["amount_distinct"] = problem.moved_bytes(mode, distinct=True)
        default = OPERATIONS["decode"].default_backend(self.device)
        record = case("decode", f"{title}, {MODES[mode]}", problem.sizes, runs, work, default)
        if mode == "forward":
            record["targets"] += self._decode_targets(record)
        return record

    def _decode_targets(self, record: Record) -> list[Record]:
        ratio = against(record, DENSE)
        speed = None if ratio is None else 1 / ratio
        found = [target("speedup over the dense decode", speed, least=self.targets["dense decode"])]
        if self.device == "cuda":
            found.append(target("share of memory bandwidth", share(record), least=self.targets["bandwidth"]))
        return found

    def edge_rows(self) -> Iterator[Record]:
        """Yield the cases of edge rows: short and long prompts; first, middle and last layers."""
        for positions, targets in self.sizes.targets:
            for group in self.sizes.groups:
                yield self._edge_rows(positions, targets, group)
            yield self._sums(positions, targets, self.sizes.groups[0])
            yield self._position_rows(positions, targets)

    def _edge_rows(self, positions: int, targets: int, group: int) -> Record:
        problem = cases.EdgeRowsProblem(positions, targets, group, self.sizes.width, self.device)
        runs = self.timing.run(problem.candidates() | self.limits.arithmetic())
        sizes = {"positions": positions, "targets": targets, "group": group, "width": self.sizes.width}
        work = self._arithmetic(problem.flops, runs)
        record = case(
            "edge_rows",
            "edge rows",
            sizes,
            runs,
            work,
            OPERATIONS["edge_rows"].default_backend(self.device, problem.small),
        )
        of_peak = self.device == "cuda"
        record["targets"].append(self._product_rate(record, of_peak))
        return record

    def _sums(self, positions: int, targets: int, group: int) -> Record:
        problem = cases.EdgeRowsProblem(positions, targets, group, self.sizes.width, self.device)
        runs = self.timing.run(problem.sum_candidates() | self.limits.arithmetic())
        sizes = {"positions": positions, "targets": targets, "group": group, "width": self.sizes.width}
        default = OPERATIONS["add_source_vectors"].default_backend(self.device, problem.small)
        work = self._arithmetic(problem.flops, runs)
        record = case("add_source_vectors", "sums of source vectors", sizes, runs, work, default)
        record["targets"].append(self._product_rate(record, of_peak=self.device == "cuda"))
        return record

    def _product_rate(self, record: Record, of_peak: bool) -> Record:
        if of_peak:
            return target("share of the machine's matrix-product rate", share(record), least=self.targets["edge rows"])
        ratio = against(record, LOOP)
        value = None if ratio is None else 1 / ratio
        return target("rate over the rate of plain products of the same shapes", value, least=self.targets["edge rows"])

    def _position_rows(self, positions: int, targets: int) -> Record:
        problem = cases.EdgeRowsProblem(positions, targets, self.sizes.groups[0], self.sizes.width, self.device)
        runs = self.timing.run(problem.position_candidates() | self.limits.memory())
        sizes = {
            "positions": positions,
            "targets": targets,
            "kinds": len(problem.vectors_KQD),
            "width": self.sizes.width,
        }
        work = self._memory(problem.position_bytes, runs)
        record = case(
            "position_rows",
            "position rows",
            sizes,
            runs,
            work,
            OPERATIONS["position_rows"].default_backend(self.device),
        )
        if self.device == "cuda":
            found = target("share of memory bandwidth", share(record), least=self.targets["bandwidth"])
        else:
            found = self._product_rate(record, of_peak=False)
        record["targets"].append(found)
        return record

    def scaling(self) -> Iterator[Record]:
        """Yield curves of time against layers, width and active features, and of memory."""
        points = [self._layers(layers) for layers in self.sizes.layers]
        record = curve("time of a token against layers", "layers", points, "seconds_of_a_token")
        limit = self.targets["exponent"]
        record["targets"] = [
            target(f"exponent of {name} against layers", record["exponents"].get(name), most=limit)
            for name in ("decode", "decode, forward and backward", "encode and decode")
        ]
        yield record
        yield curve(
            "time against dictionary width", "features", [self._width(features) for features in self.sizes.features]
        )
        yield curve("time against active features", "active", [self._active(active) for active in self.sizes.active])
        yield from self._memories()

    def _layers(self, layers: int) -> Record:
        problem = cases.CrossLayerProblem(layers, self.sizes.layered, self.device)
        runs = self.timing.run(problem.candidates(), cold=True)
        agree(f"{layers} layers", runs, ("decode", "encode and decode", DENSE))
        positions, width, features, _ = self.sizes.layered
        active = sum(len(found.position_n) for found in problem.decoding.active)
        sizes = {"positions": positions, "width": width, "features": features, "active_in_all_layers": active}
        for one in finished(runs).values():
            one["seconds_of_a_token"] = one["seconds"] / positions
        return {"layers": layers} | sizes | {"runs": runs}

    def _width(self, features: int) -> Record:
        positions, _, active, _ = self.sizes.decode
        width = self.sizes.width
        encoding = cases.EncodeProblem(positions, features, width, active / features, self.device)
        candidates = {"encode": lambda: encoding.encode("JumpReLU"), PRODUCT: encoding.product()}
        return self._decode_and_rows(features, active, candidates)

    def _active(self, active: int) -> Record:
        return self._decode_and_rows(self.sizes.decode[1], active, {})

    def _decode_and_rows(self, features: int, active: int, others: Candidates) -> Record:
        """Time decode of one layer, its dense form, and edge rows with the same number of vectors per position."""
        positions, *_ = self.sizes.decode
        decoding = cases.DecodeProblem((positions, features, active, 1), self.sizes.width, self.device)
        forward = decoding.candidates("forward")
        rows = cases.EdgeRowsProblem(*self.sizes.targets[1], active, self.sizes.width, self.device)
        rows.take_vectors(decoding.decoders[0][:, 0])
        candidates = {"decode": forward[OPERATIONS["decode"].default_backend(self.device)], DENSE: forward[DENSE]}
        runs = self.timing.run(candidates | {"edge rows": rows.rows()} | others, cold=True)
        agree(f"decode of {features} features", runs, ("decode", DENSE))
        edge_positions, targets = self.sizes.targets[1]
        sizes = {"positions": positions, "edge_row_positions": edge_positions, "targets": targets}
        return {"features": features, "active": active, "width": self.sizes.width} | sizes | {"runs": runs}

    def _memories(self) -> Iterator[Record]:
        """Yield curves of peak memory during one call, each point in a separate process; of encode without the result."""
        positions, features, active, _ = self.sizes.decode
        shapes = [{"positions": p, "features": features} for p in self.sizes.memory_positions]
        yield self._encode_memory("memory of encode against positions", "positions", shapes, active)
        shapes = [{"positions": positions, "features": f} for f in self.sizes.features[::2]]
        yield self._encode_memory("memory of encode against width", "features", shapes, active)
        yield from self._decode_memories()

    def _decode_memories(self) -> Iterator[Record]:
        positions, width, features, active = self.sizes.layered
        title = "memory of decode's gradients against"
        points = [self._decode_memory(n, *self.sizes.layered) for n in self.sizes.memory_layers]
        yield curve(f"{title} layers", "layers", points, "growth_bytes")
        points = [self._decode_memory(1, positions, width, f, active) for f in self.sizes.features[::2]]
        yield curve(f"{title} width", "features", points, "growth_bytes")
        few = self.sizes.memory_layers[0]
        totals = [active // 8, active // 2, active * 2, active * 8]
        points = [self._decode_memory(few, positions, width, features, total) for total in totals]
        yield curve(f"{title} active features", "active_in_all_layers", points, "growth_bytes")

    def _decode_memory(self, layers: int, *sizes: int) -> Record:
        names = ("positions", "width", "features", "active_in_all_layers")
        task = {"operation": "decode", "sizes": sizes}
        return self._memory_point({"layers": layers} | dict(zip(names, sizes, strict=True)), task)

    def _encode_memory(self, title: str, axis: str, shapes: list[Record], active: int) -> Record:
        fixed = {"active": active, "width": self.sizes.width}
        task = {"operation": "encode"}
        points = [self._memory_point(s | fixed, task | {"share": active / s["features"]}) for s in shapes]
        return curve(title, axis, points, "beyond_bytes")

    def _memory_point(self, sizes: Record, task: Record) -> Record:
        forms = ("cotrace", "dense")
        return sizes | {"runs": {form: child(task | sizes | {"form": form, "device": self.device}) for form in forms}}

    def _memory(self, amount: int, runs: Runs) -> Record:
        """Return the bytes moved in a call, and the machine's bandwidth."""
        rate = max(self.limits.work[name] / runs[name]["seconds"] for name in (READ, COPY))
        return {"amount": amount, "unit": "bytes", "ceiling": rate, "ceiling_name": "memory bandwidth"}

    def _arithmetic(self, amount: int, runs: Runs) -> Record:
        """Return the operations of a call, and the machine's rate."""
        rate = self.limits.work[PEAK] / runs[PEAK]["seconds"]
        return {"amount": amount, "unit": "operations", "ceiling": rate, "ceiling_name": "matrix-product rate"}


def case(operation: str, title: str, sizes: Record, runs: Runs, work: Record, default: str) -> Record:
    """Return the record of one case: times, ratios of times, and shares of the machine's peak rate."""
    done = {name: one for name, one in finished(runs).items() if name not in LIMITS}
    agree(f"{operation}, {title}", runs, done.keys() - {PRODUCT})
    for name in done.keys() - {DENSE}:  # the dense form does more operations
        done[name]["rate"] = work["amount"] / done[name]["seconds"]
        done[name]["share"] = done[name]["rate"] / work["ceiling"]
    ratios = {
        name: {
            other: done[name]["seconds"] / done[other]["seconds"]
            for other in done
            if other not in (name, *OPTIMIZED_BACKENDS)
        }
        for name in BACKENDS
        if name in done
    }
    record = {"operation": operation, "case": title, "sizes": sizes, "default": default, "work": work}
    return record | {"runs": runs, "ratios": ratios, "targets": []}


def against(record: Record, other: str) -> float | None:
    """Return the time of the default backend over that of another candidate."""
    return record["ratios"].get(record["default"], {}).get(other)


def share(record: Record) -> float | None:
    """Return the default backend's share of the machine's peak rate."""
    return record["runs"][record["default"]].get("share")


def finished(runs: Runs) -> Runs:
    """Return the candidates that were timed."""
    return {name: one for name, one in runs.items() if one["status"] == DONE}


def agree(title: str, runs: Runs, names: Collection[str]) -> None:
    """Check that candidates computed the same result, by its norm."""
    extents = {name: one["extent"] for name, one in finished(runs).items() if name in names}
    middle = statistics.median(extents.values())
    wrong = {name: extent for name, extent in extents.items() if abs(extent - middle) > NORM_TOLERANCE * middle}
    assert not wrong, f"{title}: results have the norms {extents}"


def curve(title: str, axis: str, points: list[Record], measure: str = "seconds") -> Record:
    """Return the record of a curve, with the exponent of each candidate's measurement against the axis."""
    names = dict.fromkeys(name for point in points for name in point["runs"])
    exponents = {name: exponent(points, name, axis, measure) for name in names}
    record = {"operation": "scaling", "case": title, "axis": axis, "measure": measure, "points": points}
    return record | {
        "exponents": {name: found for name, found in exponents.items() if found is not None},
        "targets": [],
    }


def exponent(points: list[Record], name: str, axis: str, measure: str) -> float | None:
    """Return the slope of the least-squares line through the logarithms; None for fewer than two points."""
    found = [(point[axis], point["runs"][name][measure]) for point in points if measure in point["runs"][name]]
    if len(found) < 2:
        return None
    x, y = np.log(np.maximum(np.array(found, dtype=float), 1e-12)).T
    return float(np.polyfit(x, y, 1)[0])


def child(task: Record) -> Record:
    """Measure the memory of one call in a separate process; `beyond_bytes` excludes inputs and result."""
    command = [sys.executable, "-m", "benchmarks.kernel_cases", "--task", json.dumps(task)]
    with tempfile.TemporaryDirectory(prefix="cotrace-benchmark-") as folder:
        ended = run(command, Path(folder), CHILD_TIMEOUT_SECONDS)
    record = {"status": ended.status, "detail": ended.detail, "process_peak_bytes": ended.peak_bytes} | ended.report
    if ended.status == DONE:
        record["beyond_bytes"] = max(0, record["growth_bytes"] - record["result_bytes"])
    return record


def show(record: Record, console: Console) -> None:
    """Print a record as a table, and its targets."""
    heading, *rows = kernel_grid(record)
    table = Table(title=case_title(record))
    for number, title in enumerate(heading):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for one in record["targets"]:
        console.print(f"{'met' if one['met'] else 'NOT MET'}: {target_words(one)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="run tiny sizes in seconds, to test the benchmark")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--out", type=Path, help="result file; default: in benchmarks/results, of a quick run in out/")
    parser.add_argument("--plot-only", action="store_true", help="draw the curves of the result file without measuring")
    parser.add_argument("--plots", type=Path, help="folder for the plots")
    args = parser.parse_args()
    folder, plots = ("out", "out") if args.quick else ("benchmarks/results", "docs")
    args.out = args.out or ROOT / folder / f"{RESULT_NAMES[args.device]}.json"
    args.plots = args.plots or ROOT / plots
    return args


def settings(args: argparse.Namespace) -> Record:
    """Return the settings that the numbers depend on."""
    return {
        "device": args.device,
        "device_name": torch.cuda.get_device_name() if args.device == "cuda" else machine()["cpu"],
        "quick": args.quick,
        "dtype": "float32",
        "tf32": args.device == "cuda" and torch.backends.cuda.matmul.allow_tf32,
        "threads": torch.get_num_threads(),
        "sizes": asdict(cases.sizes_of(args.device, args.quick)),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute."""
    found = {name: version(name) for name in ("cotrace", "torch", "numba", "numpy")}
    return found | {"triton": installed("triton"), "python": platform.python_version()}


def installed(name: str) -> str:
    """Return a package's version, if it is installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_MEASURED


def measure(args: argparse.Namespace) -> None:
    """Measure every group; the result file is rewritten after each record, so an interrupted run keeps its records."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "--device cuda needs a CUDA device and a torch build for it; run without it to measure the CPU"
        )
    console, bench = Console(width=150), KernelBenchmark(args.device, args.quick)
    warn_of_load(console)
    result: Record = {"benchmark": RESULT_NAMES[args.device], "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    result |= {"versions": versions(), "settings": settings(args), "cases": []}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for group in args.only:
        for record in getattr(bench, group)():
            show(record, console)
            result["cases"].append(record)
            args.out.write_text(json.dumps(result, indent=1) + "\n")


def warn_of_load(console: Console) -> None:
    """Print a warning if other processes use the cores: threads that wait for one another then lose whole time slices."""
    busy = LoadMonitor()
    time.sleep(1)
    if (others := busy.others()) > IDLE_CORES:
        console.print(f"other processes use {others:.1f} cores: measure again when the machine is idle")


def main() -> None:
    args = arguments()
    if args.plot_only:
        plot(json.loads(args.out.read_text()), args.plots)
    else:
        measure(args)


if __name__ == "__main__":
    main()

"""The kernels beside their references, the libraries' forms, and what the machine can do, all in one run.

    python -m benchmarks.kernels [--device cpu|cuda] [--quick] [--only encode decode edge_rows scaling] [--out FILE]
    python -m benchmarks.kernels [--device cpu|cuda] --plot-only     docs/kernels-*.svg from the result file

What is compared takes turns in an order that changes from round to round, so that a noisy machine
is noisy for all of it; times are medians. Where memory traffic decides (decode), caches are filled
with something else before every call. Every number is that of a call of the public function, checks
included. Ratios are time over time: below 1 is faster.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cotrace.kernels.backends import BACKENDS, chosen

from . import kernel_cases as cases
from .cells import case_title, target, target_words
from .kernel_cases import ACTIVATIONS, COPY, DENSE, LOOP, PEAK, PRODUCT, READ, SPARSIFY, Absent, Contestants, Sizes
from .measure import DONE, FAILED, MEMORY_WORDS, NOT_MEASURED, OUT_OF_MEMORY, busy_seconds, machine, run
from .tables import kernel_grid

ROOT = Path(__file__).parent.parent
GROUPS = ("encode", "decode", "edge_rows", "scaling")
CEILINGS = (READ, COPY, PEAK)
BEGIN = 0.002  # seconds that threads of the contestant before get to go to sleep
SHORT = 0.002  # seconds: shorter calls are repeated within one sample
SLOW = 1.0  # seconds
PATIENCE = 10
QUIET = 0.2  # cores
CHILD_SECONDS = 300.0
TOLERANCE = 1e-3  # between the norms of results that should be the same
YARDSTICKS = (DENSE, PRODUCT, "dense")
FAST = ("torch", "numba", "triton")
NAMES = {"cpu": "kernels", "cuda": "kernels-cuda"}  # of result files, tables and plots
MODES = {
    "forward": "forward",
    "dense": "forward and backward, dense gradients",
    "sparse": "forward and backward, sparse gradients",
}
# What a backend that users get has to reach. On a GPU small products are bound by their launches, so edge
# rows are held to the device's own rate there.
TARGETS = {
    "cpu": {"dense decode": 10.0, "matrix product": 1.15, "edge rows": 0.7, "exponent": 1.1},
    "cuda": {"dense decode": 10.0, "bandwidth": 0.6, "matrix product": 1.2, "edge rows": 0.6, "exponent": 1.1},
}
Record = dict[str, Any]
Runs = dict[str, Record]


class Clock:
    """Seconds of a call on one kind of device."""

    def __init__(self, sizes: Sizes, device: str):
        self.device = device
        self._flush = torch.ones(sizes.flush_bytes // 4, device=device)

    def sample(self, call: cases.Call, calls: int = 1, cold: bool = False) -> tuple[float, Any]:
        """Seconds of one of some calls in a row, and what the last returned; `cold` with nothing of it in a cache."""
        if cold:
            self._flush.sum()
        elif calls > 1:
            call()  # wakes the threads
        return self._on_gpu(call, calls) if self.device == "cuda" else self._on_cpu(call, calls, cold)

    def _on_cpu(self, call: cases.Call, calls: int, cold: bool) -> tuple[float, Any]:
        if cold:
            time.sleep(BEGIN)
        start = time.perf_counter()
        for _ in range(calls):
            value = call()
        return (time.perf_counter() - start) / calls, value

    def _on_gpu(self, call: cases.Call, calls: int) -> tuple[float, Any]:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            value = call()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) / 1000 / calls, value


class Busy:
    """How many cores other processes keep busy: numbers of a run with much of it are not worth much."""

    def __init__(self) -> None:
        self.start = self._now()

    def others(self) -> float:
        """Mean number of cores since the start."""
        wall, everything, own = (now - then for now, then in zip(self._now(), self.start, strict=True))
        return max(0.0, everything - own) / wall

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), busy_seconds(), time.process_time()


class Race:
    """Contestants that take turns until a time is used up."""

    def __init__(self, clock: Clock, quick: bool):
        self.clock = clock
        self.room, self.least, self.most = (0.5, 3, 10) if quick else (6.0, 5, 30)

    def run(self, contestants: Contestants, cold: bool = False) -> Runs:
        """A record of each contestant."""
        runs = {name: self._first(name, contestants[name], cold) for name in contestants}
        running = [name for name in runs if runs[name]["status"] == DONE and "repeats" not in runs[name]]
        calls = {name: 1 if cold else max(1, round(SHORT / runs[name]["seconds"])) for name in running}
        samples: dict[str, list[float]] = {name: [] for name in running}
        busy = Busy()
        for order in self._rounds(running):
            for name in order:
                samples[name].append(self.clock.sample(contestants[name], calls[name], cold)[0])
        others = busy.others()
        for name in running:
            runs[name] |= summary(samples[name]) | {"others_cores": others}
        return runs

    def _first(self, name: str, contestant: cases.Call | Absent, cold: bool) -> Record:
        """Whether it runs, what it computes, and about how long it takes once it is compiled."""
        if isinstance(contestant, Absent):
            return {"status": contestant.status, "detail": contestant.detail}
        try:
            took, value = self.clock.sample(contestant, cold=cold)
        except Exception as error:
            return self._failure(name, error)
        record = {"status": DONE, "extent": 0.0 if name in CEILINGS else cases.extent(value)}
        del value
        if took > SLOW and "reference" in name:  # there is nothing to compile: this was its measurement
            return record | summary([took])
        return record | {"seconds": self.clock.sample(contestant, cold=cold)[0]}

    def _failure(self, name: str, error: Exception) -> Record:
        """A record of what may fail: anything that needs more memory, and another project's kernel."""
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        if any(word in words for word in MEMORY_WORDS):
            return {"status": OUT_OF_MEMORY, "detail": words}
        if name != SPARSIFY:
            raise error
        return {"status": FAILED, "detail": words}

    def _rounds(self, names: Sequence[str]) -> Iterator[list[str]]:
        """The names in a new order for every round."""
        order, shuffle, start = list(names), random.Random(0).shuffle, time.perf_counter()
        for done in range(self.most if order else 0):
            # Slow contestants may take longer for the fewest rounds, within reason.
            room = self.room * (1 if done >= self.least else PATIENCE)
            if done and time.perf_counter() - start > room:
                return
            shuffle(order)
            yield order


def summary(samples: Sequence[float]) -> Record:
    """Median, quartiles and number of repeats."""
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75]).tolist()
    return {"seconds": middle, "quartiles": [low, high], "repeats": len(samples)}


class Bench:
    """The groups of cases; each yields its records as they are done."""

    def __init__(self, device: str, quick: bool):
        self.device, self.sizes = device, cases.sizes_of(device, quick)
        self.race = Race(Clock(self.sizes, device), quick)
        self.ceilings = cases.Ceilings(self.sizes, device)
        self.targets = TARGETS[device]

    def encode(self) -> Iterator[Record]:
        """All activations of one shape take turns, so that they share the matrix product's measurements."""
        for positions, features in self.sizes.encode:
            runs, work, sizes = self._encode(positions, features)
            for activation in ACTIVATIONS:
                taken = {b: runs[f"{activation} {b}"] for b in BACKENDS} | {n: dict(runs[n]) for n in (PRODUCT, PEAK)}
                record = case("encode", activation, sizes, taken, work, chosen("encode", self.device))
                value = against(record, PRODUCT)
                what = "time of encode over that of its matrix product"
                record["targets"].append(target(what, value, most=self.targets["matrix product"]))
                yield record

    def _encode(self, positions: int, features: int) -> tuple[Runs, Record, Record]:
        width = self.sizes.width
        problem = cases.Encoding(positions, features, width, self.sizes.active_share, self.device)
        contestants: Contestants = {PRODUCT: problem.product()} | self.ceilings.arithmetic()
        for activation in ACTIVATIONS:
            found = problem.contestants(activation)
            contestants |= {f"{activation} {backend}": call for backend, call in found.items()}
        runs = self.race.run(contestants)
        sizes = {"positions": positions, "features": features, "width": width, "active": problem.n_active}
        return runs, self._arithmetic(2 * positions * features * width, runs), sizes

    def decode(self) -> Iterator[Record]:
        """One layer, and a small cross-layer transcoder."""
        *sizes, layers = self.sizes.decode
        for title, n_layers in (("one layer", 1), ("cross-layer", layers)):
            problem = cases.Decoding((*sizes, n_layers), self.sizes.width, self.device)
            for mode in MODES:
                yield self._decode(problem, title, mode)

    def _decode(self, problem: cases.Decoding, title: str, mode: str) -> Record:
        runs = self.race.run(problem.contestants(mode) | self.ceilings.memory(), cold=True)
        work = self._memory(problem.moved_bytes(mode), runs)
        work["amount_distinct"] = problem.moved_bytes(mode, distinct=True)
        default = chosen("decode", self.device)
        record = case("decode", f"{title}, {MODES[mode]}", problem.sizes, runs, work, default)
        if mode == "forward":
            record["targets"] += self._decode_targets(record)
        return record

    def _decode_targets(self, record: Record) -> list[Record]:
        ratio = against(record, DENSE)
        speed = None if ratio is None else 1 / ratio
        found = [target("how many times as fast as the dense decode", speed, least=self.targets["dense decode"])]
        if self.device == "cuda":
            found.append(target("share of memory bandwidth", share(record), least=self.targets["bandwidth"]))
        return found

    def edge_rows(self) -> Iterator[Record]:
        """Shapes of a sweep: short and long prompts, first, middle and last layers."""
        for positions, targets in self.sizes.targets:
            for group in self.sizes.groups:
                yield self._edge_rows(positions, targets, group)
            yield self._position_rows(positions, targets)

    def _edge_rows(self, positions: int, targets: int, group: int) -> Record:
        problem = cases.EdgeRows(positions, targets, group, self.sizes.width, self.device)
        runs = self.race.run(problem.contestants() | self.ceilings.arithmetic())
        sizes = {"positions": positions, "targets": targets, "group": group, "width": self.sizes.width}
        work = self._arithmetic(problem.flops, runs)
        record = case("edge_rows", "edge rows", sizes, runs, work, chosen("edge_rows", self.device, problem.small))
        of_peak = self.device == "cuda"
        record["targets"].append(self._product_rate(record, of_peak))
        return record

    def _product_rate(self, record: Record, of_peak: bool) -> Record:
        if of_peak:
            return target("share of the machine's matrix-product rate", share(record), least=self.targets["edge rows"])
        ratio = against(record, LOOP)
        value = None if ratio is None else 1 / ratio
        return target("rate over that of plain products of the same shapes", value, least=self.targets["edge rows"])

    def _position_rows(self, positions: int, targets: int) -> Record:
        problem = cases.EdgeRows(positions, targets, self.sizes.groups[0], self.sizes.width, self.device)
        runs = self.race.run(problem.position_contestants() | self.ceilings.memory())
        sizes = {
            "positions": positions,
            "targets": targets,
            "kinds": len(problem.vectors_KQD),
            "width": self.sizes.width,
        }
        work = self._memory(problem.position_bytes, runs)
        record = case("position_rows", "position rows", sizes, runs, work, chosen("position_rows", self.device))
        if self.device == "cuda":
            found = target("share of memory bandwidth", share(record), least=self.targets["bandwidth"])
        else:
            found = self._product_rate(record, of_peak=False)
        record["targets"].append(found)
        return record

    def scaling(self) -> Iterator[Record]:
        """Time against layers, dictionary width and active features; memory of one call beside its result."""
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
        problem = cases.Layered(layers, self.sizes.layered, self.device)
        runs = self.race.run(problem.contestants(), cold=True)
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
        encoding = cases.Encoding(positions, features, width, active / features, self.device)
        contestants = {"encode": lambda: encoding.encode("JumpReLU"), PRODUCT: encoding.product()}
        return self._decode_and_rows(features, active, contestants)

    def _active(self, active: int) -> Record:
        return self._decode_and_rows(self.sizes.decode[1], active, {})

    def _decode_and_rows(self, features: int, active: int, others: Contestants) -> Record:
        """Decode of one layer beside the dense form, and edge rows with as many of its rows at each position."""
        positions, *_ = self.sizes.decode
        decoding = cases.Decoding((positions, features, active, 1), self.sizes.width, self.device)
        forward = decoding.contestants("forward")
        rows = cases.EdgeRows(*self.sizes.targets[1], active, self.sizes.width, self.device)
        rows.take_vectors(decoding.decoders[0][:, 0])
        contestants = {"decode": forward[chosen("decode", self.device)], DENSE: forward[DENSE]}
        runs = self.race.run(contestants | {"edge rows": rows.rows()} | others, cold=True)
        agree(f"decode of {features} features", runs, ("decode", DENSE))
        edge_positions, targets = self.sizes.targets[1]
        sizes = {"positions": positions, "edge_row_positions": edge_positions, "targets": targets}
        return {"features": features, "active": active, "width": self.sizes.width} | sizes | {"runs": runs}

    def _memories(self) -> Iterator[Record]:
        """Every point is a process of its own: its peak during one call, of encode without the result."""
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
        forms = ("ours", "dense")
        return sizes | {"runs": {form: child(task | sizes | {"form": form, "device": self.device}) for form in forms}}

    def _memory(self, amount: int, runs: Runs) -> Record:
        """Bytes moved in a call, and the machine's rate."""
        rate = max(self.ceilings.work[name] / runs[name]["seconds"] for name in (READ, COPY))
        return {"amount": amount, "unit": "bytes", "ceiling": rate, "ceiling_name": "memory bandwidth"}

    def _arithmetic(self, amount: int, runs: Runs) -> Record:
        """Operations of a call, and the machine's rate."""
        rate = self.ceilings.work[PEAK] / runs[PEAK]["seconds"]
        return {"amount": amount, "unit": "operations", "ceiling": rate, "ceiling_name": "matrix-product rate"}


def case(operation: str, title: str, sizes: Record, runs: Runs, work: Record, default: str) -> Record:
    """The record of one case: what everything took, against everything else, and as a share of the ceiling."""
    done = {name: one for name, one in finished(runs).items() if name not in CEILINGS}
    agree(f"{operation}, {title}", runs, done.keys() - {PRODUCT})
    for name in done.keys() - {DENSE}:  # the dense form does other work
        done[name]["rate"] = work["amount"] / done[name]["seconds"]
        done[name]["share"] = done[name]["rate"] / work["ceiling"]
    ratios = {
        name: {other: done[name]["seconds"] / done[other]["seconds"] for other in done if other not in (name, *FAST)}
        for name in BACKENDS
        if name in done
    }
    record = {"operation": operation, "case": title, "sizes": sizes, "default": default, "work": work}
    return record | {"runs": runs, "ratios": ratios, "targets": []}


def against(record: Record, other: str) -> float | None:
    """Time of the backend that users get over that of another contestant."""
    return record["ratios"].get(record["default"], {}).get(other)


def share(record: Record) -> float | None:
    """What the backend that users get reaches of the machine's ceiling."""
    return record["runs"][record["default"]].get("share")


def finished(runs: Runs) -> Runs:
    """The contestants that were timed."""
    return {name: one for name, one in runs.items() if one["status"] == DONE}


def agree(title: str, runs: Runs, names: Collection[str]) -> None:
    """What is compared computes the same."""
    extents = {name: one["extent"] for name, one in finished(runs).items() if name in names}
    middle = statistics.median(extents.values())
    wrong = {name: extent for name, extent in extents.items() if abs(extent - middle) > TOLERANCE * middle}
    assert not wrong, f"{title}: results have the norms {extents}"


def curve(title: str, axis: str, points: list[Record], measure: str = "seconds") -> Record:
    """The record of a curve, with the exponent of each contestant's measure against the axis."""
    names = dict.fromkeys(name for point in points for name in point["runs"])
    exponents = {name: exponent(points, name, axis, measure) for name in names}
    record = {"operation": "scaling", "case": title, "axis": axis, "measure": measure, "points": points}
    return record | {
        "exponents": {name: found for name, found in exponents.items() if found is not None},
        "targets": [],
    }


def exponent(points: list[Record], name: str, axis: str, measure: str) -> float | None:
    """Slope of the least-squares line through the logarithms; None with fewer than two measured points."""
    found = [(point[axis], point["runs"][name][measure]) for point in points if measure in point["runs"][name]]
    if len(found) < 2:
        return None
    x, y = np.log(np.maximum(np.array(found, dtype=float), 1e-12)).T
    return float(np.polyfit(x, y, 1)[0])


def child(task: Record) -> Record:
    """Memory of one call in a process of its own; `beyond_bytes` is what it needed beside inputs and result."""
    command = [sys.executable, "-m", "benchmarks.kernel_cases", "--task", json.dumps(task)]
    with tempfile.TemporaryDirectory(prefix="cotrace-benchmark-") as folder:
        ended = run(command, Path(folder), CHILD_SECONDS)
    record = {"status": ended.status, "detail": ended.detail, "process_peak_bytes": ended.peak_bytes} | ended.report
    if ended.status == DONE:
        record["beyond_bytes"] = max(0, record["growth_bytes"] - record["result_bytes"])
    return record


def show(record: Record, console: Console) -> None:
    """A record as a table for people."""
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
    parser.add_argument("--quick", action="store_true", help="tiny sizes that say nothing, in seconds")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--out", type=Path, help="result file; that of a quick run is in a folder that git ignores")
    parser.add_argument("--plot-only", action="store_true", help="draw the result file's curves and measure nothing")
    parser.add_argument("--plots", type=Path, help="folder for the plots")
    args = parser.parse_args()
    folder, plots = ("out", "out") if args.quick else ("benchmarks/results", "docs")
    args.out = args.out or ROOT / folder / f"{NAMES[args.device]}.json"
    args.plots = args.plots or ROOT / plots
    return args


def settings(args: argparse.Namespace) -> Record:
    """What the numbers depend on beside the machine."""
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
    """Of everything that computes."""
    found = {name: version(name) for name in ("cotrace", "torch", "numba", "numpy")}
    return found | {"triton": installed("triton"), "python": platform.python_version()}


def installed(name: str) -> str:
    """A package's version, if it is there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_MEASURED


def measure(args: argparse.Namespace) -> None:
    """Measure every group; the result file is rewritten after each record, so that an interrupted run keeps what it has."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a CUDA device and a torch build for it; leave it out to measure the CPU")
    console, bench = Console(width=150), Bench(args.device, args.quick)
    warn_of_others(console)
    result: Record = {"benchmark": NAMES[args.device], "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    result |= {"versions": versions(), "settings": settings(args), "cases": []}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for group in args.only:
        for record in getattr(bench, group)():
            show(record, console)
            result["cases"].append(record)
            args.out.write_text(json.dumps(result, indent=1) + "\n")


@dataclass(frozen=True)
class Panel:
    """One plot: which curves, and what its axes are called."""

    case: str
    x_label: str
    y_label: str
    factor: float = 1.0  # from the result file's unit to the axis's


PLOTS = {
    "layers": (
        Panel("time of a token against layers", "layers", "time of a token (ms)", 1e3),
        Panel("memory of decode's gradients against layers", "layers", "memory beside inputs (MB)", 1e-6),
    ),
    "width": (
        Panel("time against dictionary width", "features of a layer", "time of a call (ms)", 1e3),
        Panel("memory of encode against width", "features of a layer", "memory beside inputs and result (MB)", 1e-6),
        Panel("memory of decode's gradients against width", "features of a layer", "memory beside inputs (MB)", 1e-6),
    ),
    "active": (
        Panel("time against active features", "active features of a position", "time of a call (ms)", 1e3),
        Panel(
            "memory of decode's gradients against active features", "active features", "memory beside inputs (MB)", 1e-6
        ),
        Panel("memory of encode against positions", "positions", "memory beside inputs and result (MB)", 1e-6),
    ),
}
# Okabe and Ito's colours, told apart by people of any colour vision, and a marker for each.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#000000", "v"))


def plot(result: Record, folder: Path) -> None:
    """Draw the curves; the same result file gives the same bytes."""
    pyplot = matplotlib_pyplot()
    curves = {record["case"]: record for record in result["cases"] if "points" in record}
    for name, panels in PLOTS.items():
        drawn = [panel for panel in panels if panel.case in curves]
        if not drawn:
            continue
        size = (5.5 * len(drawn), 5.0)
        figure, axes = pyplot.subplots(1, len(drawn), figsize=size, squeeze=False, layout="constrained")
        for panel, axis in zip(drawn, axes[0], strict=True):
            draw(axis, panel, curves[panel.case])
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        figure.savefig(folder / f"{result['benchmark']}-{name}.svg", facecolor="white", metadata={"Date": None})
        pyplot.close(figure)


def matplotlib_pyplot() -> Any:
    """matplotlib without a display, and with names in its files that do not change from run to run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    matplotlib.rcdefaults()
    matplotlib.rcParams["svg.hashsalt"] = "cotrace"
    return matplotlib.pyplot


def draw(axis: Any, panel: Panel, record: Record) -> None:
    """One curve a contestant, with its exponent in the legend."""
    for number, name in enumerate(record["points"][0]["runs"]):
        found = [(point[record["axis"]], point["runs"][name].get(record["measure"])) for point in record["points"]]
        x, y = [x for x, value in found if value], [value * panel.factor for _, value in found if value]
        colour, marker = STYLES[number % len(STYLES)]
        label = f"{name} (exponent {record['exponents'][name]:.2f})" if name in record["exponents"] else name
        axis.plot(x, y, color=colour, marker=marker, linestyle="--" if name in YARDSTICKS else "-", label=label)
    title = case_title(record)
    axis.set(xscale="log", yscale="log", xlabel=panel.x_label, ylabel=panel.y_label, title=title[0].upper() + title[1:])
    ticks = [point[record["axis"]] for point in record["points"]]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45 if max(ticks) > 999 else 0)
    axis.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axis.minorticks_off()
    axis.grid(color="#dddddd")
    axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2))


def warn_of_others(console: Console) -> None:
    """Threads that wait for one another lose a whole time slice wherever another process holds a core."""
    busy = Busy()
    time.sleep(1)
    if (others := busy.others()) > QUIET:
        console.print(f"other processes keep {others:.1f} cores busy: measure again when the machine is idle")


def main() -> None:
    args = arguments()
    if args.plot_only:
        plot(json.loads(args.out.read_text()), args.plots)
    else:
        measure(args)


if __name__ == "__main__":
    main()

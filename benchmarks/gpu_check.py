"""Show in one run, in under 8 minutes, what a GPU does with this project: tests, identities, kernels, traces, training.

    python -m benchmarks.gpu_check [--model NAME] [--peer-python PYTHON] [--only SECTION …] [--out FILE]
    python -m benchmarks.gpu_check --dry-run     every section on tiny sizes on the CPU, with Triton's interpreter

Each section runs in a separate process with its own time limit, so that a failure, recorded with its traceback, leaves
the others alone. The result file is rewritten after every section. Without a CUDA device nothing runs, and the exit
status is 2; it is 1 if a section failed or a result is wrong, and 0 otherwise, whatever the speed. `--model random`
needs no download: random weights with the sizes of Gemma 3 270M.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console

from .cells import Record, target_words
from .gpu_sections import ROOT, SECTIONS, CheckSettings, run_section
from .kernels import versions
from .launches import triton_by_default
from .measure import DONE, machine, run

TOTAL_SECONDS = 470.0
DRY_RUN_TIME_FACTOR = 20  # an interpreter on a busy machine must not run out of time
LEAST_SECONDS = 5.0  # a section that would have less is left out
OUT_OF_TIME = "not run: out of time"
NO_CUDA = 2  # exit status

RunSection = Callable[[str, CheckSettings], Record]


def in_process(name: str, settings: CheckSettings) -> Record:
    """Run a section in this process, with the Triton kernels also on the CPU."""
    with triton_by_default():
        return run_section(name, settings, lambda result: None)


def in_child(name: str, settings: CheckSettings) -> Record:
    """Run a section in a separate process, which a crash of the device cannot outlive; return its last report."""
    command = [sys.executable, "-m", "benchmarks.gpu_sections", name, "--settings", json.dumps(asdict(settings))]
    with tempfile.TemporaryDirectory() as folder:
        ended = run(command, Path(folder), settings.seconds)
        log = (Path(folder) / "log.txt").read_text(errors="replace")
    found = {"records": []} | ended.report
    if ended.status == DONE:  # the process reports how the section ended
        return found
    return found | {"status": ended.status, "detail": ended.detail, "traceback": found.get("traceback", log[-4000:])}


def measure(names: list[str], settings: CheckSettings, run_one: RunSection, save: Callable[[Record], None]) -> Record:
    """Run sections within the total time; return the results by name."""
    sections: Record = {}
    start, factor = time.monotonic(), DRY_RUN_TIME_FACTOR if settings.dry_run else 1
    for name in names:
        left = factor * TOTAL_SECONDS - (time.monotonic() - start)
        limit = min(factor * SECTIONS[name][1], left)
        began = time.monotonic()
        if limit < LEAST_SECONDS:
            sections[name] = {"status": OUT_OF_TIME, "records": []}
        else:
            sections[name] = run_one(name, replace(settings, seconds=limit))
        sections[name]["wall_seconds"] = time.monotonic() - began
        save(sections)
    return sections


def wrong(section: Record) -> list[Record]:
    """Return the checks of a section that were not met."""
    return [one for record in section["records"] for one in record["targets"] if one.get("must") and not one["met"]]


def failed(sections: Record) -> bool:
    """Return whether a section did not finish, or a result is wrong."""
    return any(section["status"] != DONE or wrong(section) for section in sections.values())


def show(sections: Record, console: Console) -> None:
    """Print the newest section: how it ended, and its targets."""
    name, section = next(reversed(sections.items()))
    console.print(f"{name}: {section['status']} after {section['wall_seconds']:.0f} s", highlight=False)
    for record in section["records"]:
        for one in record["targets"]:
            state = "met" if one["met"] else "WRONG" if one.get("must") else "NOT MET"
            console.print(f"  {record['case']}: {target_words(one)}: {state}", highlight=False)
    if "traceback" in section:
        console.print(section["traceback"], highlight=False, markup=False)


def device_facts(device: str) -> Record:
    """Return the name, memory and capability of the device."""
    if device != "cuda":
        return {"name": machine()["cpu"]}
    found = torch.cuda.get_device_properties(0)
    capability = f"{found.major}.{found.minor}"
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "capability": capability,
        "cuda": torch.version.cuda,
    }


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, to test the command")
    parser.add_argument("--model", default="gemma-3-270m", help='as cotrace.load takes it, or "random"')
    parser.add_argument("--peer-python", default="", help="Python of an environment with circuit-tracer")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument(
        "--out", type=Path, help="result file; default: benchmarks/results/gpu.json, of a dry run out/gpu.json"
    )
    args = parser.parse_args(words)
    args.out = args.out or ROOT / ("out" if args.dry_run else "benchmarks/results") / "gpu.json"
    return args


def main(words: list[str] | None = None) -> int:
    """Run the check; return the exit status."""
    args, console = arguments(words), Console(width=150)
    if args.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        console.print("no CUDA device: nothing was checked. Run this on a machine with a GPU and a CUDA build of torch")
        return NO_CUDA
    device = "cpu" if args.dry_run else "cuda"
    result: Record = {
        "benchmark": "gpu",
        "date": time.strftime("%Y-%m-%d"),
        "dry_run": args.dry_run,
        "model": Path(args.model).name if Path(args.model).exists() else args.model,
    }
    result |= {"device": device_facts(device), "machine": machine(), "versions": versions()}
    args.out.parent.mkdir(parents=True, exist_ok=True)

    def save(sections: Record) -> None:
        show(sections, console)
        args.out.write_text(json.dumps(result | {"sections": sections}, indent=1, default=float) + "\n")

    with tempfile.TemporaryDirectory(prefix="cotrace-gpu-") as work:
        settings = CheckSettings(device, args.dry_run, args.model, work, 0.0, args.peer_python)
        sections = measure(args.only, settings, in_process if args.dry_run else in_child, save)
    console.print(f"{args.out}: {'FAILED' if failed(sections) else 'all sections finished, all results right'}")
    return int(failed(sections))


if __name__ == "__main__":
    sys.exit(main())

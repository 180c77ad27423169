"""Compare a training step of a cross-layer transcoder: cotrace, its dense form, and decode-clt, in one run.

    python -m benchmarks.train --peer-python PYTHON [--layers 18] [--d-model 640] [--widths 1024 4096] …

Every trainer runs in a separate process on the same examples; they alternate round by round. Step times are medians
over all rounds, memory is the largest of a process. Writes results/train.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .measure import DONE, NOT_MEASURED, ProcessResult, machine, run

SCRIPT = Path(__file__).parent / "train_baselines.py"
RESULT = Path(__file__).parent / "results" / "train.json"
NAMES = ("cotrace", "dense", "decode_clt")


def measure_width(args: argparse.Namespace, width: int) -> dict[str, Any]:
    """Measure all trainers at one width."""
    rounds: dict[str, list[ProcessResult]] = {name: [] for name in NAMES}
    for _ in range(args.rounds):
        for name in NAMES:
            python = args.peer_python if name == "decode_clt" else sys.executable
            if python is None:
                continue
            sizes = {"layers": args.layers, "width": width, "d-model": args.d_model, "active": args.active}
            options = [str(part) for key, value in sizes.items() for part in (f"--{key}", value)]
            options += ["--batch", str(args.batch), "--steps", str(args.steps), "--device", args.device]
            with tempfile.TemporaryDirectory() as folder:
                done = run([python, "-P", str(SCRIPT), name, *options], Path(folder), args.time_limit)
            rounds[name].append(done)
            print(f"width {width}, {name}: {done.status}", done.detail, file=sys.stderr)
    return {"width": width} | {name: record(runs, args.batch) for name, runs in rounds.items()}


def record(runs: list[ProcessResult], batch: int) -> dict[str, Any]:
    """Combine the rounds of a trainer: how it ended, tokens per second, peak memory."""
    if not runs:
        return {"status": NOT_MEASURED}
    failed = next((one for one in runs if one.status != DONE), None)
    if failed is not None:
        return {"status": failed.status, "detail": failed.detail, "peak_bytes": failed.peak_bytes}
    seconds = statistics.median(step for one in runs for step in one.report["step_seconds"])
    return {
        "status": DONE,
        "step_seconds": seconds,
        "tokens_per_second": batch / seconds,
        "peak_bytes": max(one.peak_bytes for one in runs),
        "others_cores": max(one.others_cores for one in runs),
        "versions": runs[0].report["versions"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer-python", help="Python of an environment with decode-clt; without it decode-clt is not measured"
    )
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--d-model", type=int, default=640)
    parser.add_argument("--widths", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--active", type=int, default=20, help="active features per layer and token")
    parser.add_argument("--batch", type=int, default=1024, help="tokens per step")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--time-limit", type=float, default=900.0, help="seconds for one process")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    sizes = {name: getattr(args, name) for name in ("layers", "d_model", "active", "batch", "device")}
    cases = [measure_width(args, width) for width in args.widths]
    today = time.strftime("%Y-%m-%d")
    result = {"benchmark": "train", "date": today, "machine": machine(), "sizes": sizes, "cases": cases}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

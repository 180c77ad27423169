"""Measure a process: wall time, peak memory and exit status.

The parent imports little: on Linux a child's peak memory starts at the size of its parent at the fork.
"""

import contextlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

DONE, OUT_OF_MEMORY, OVER_TIME = "done", "out of memory", "over the time limit"
FAILED, NOT_MEASURED = "failed", "not measured"

MEMORY_ERRORS = ("MemoryError", "OutOfMemoryError", "can't allocate memory", "not enough memory", "GiB are free;")


@dataclass(frozen=True)
class ProcessResult:
    """The exit status, the measurements and the report of a process.

    Args:
        status: DONE, OUT_OF_MEMORY, OVER_TIME or FAILED.
        wall_seconds: from start to end.
        peak_bytes: largest resident memory.
        cpu_seconds: user time.
        others_cores: mean number of cores that other processes used; a large number makes times unreliable.
        detail: the last line of output of a process that did not finish.
        report: the JSON that the process wrote, which may be an early report if it did not finish.
    """

    status: str
    wall_seconds: float
    peak_bytes: int
    cpu_seconds: float
    others_cores: float
    detail: str = ""
    report: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return all fields as one flat dictionary for the result file."""
        values = asdict(self)
        return values.pop("report") | values


def run(command: list[str], folder: Path, time_limit: float) -> ProcessResult:
    """Run `command --report FILE` to its end or its time limit in seconds; its output goes to a log in `folder`."""
    report, log = folder / "report.json", folder / "log.txt"
    report.unlink(missing_ok=True)
    start, busy_before = time.perf_counter(), busy_seconds()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--report", str(report)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,
            preexec_fn=_prefer_oom_kill,
        )
        usage, late = _wait(process, time_limit)
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    busy = busy_seconds()
    others = max(busy - busy_before - cpu, 0) / wall
    status = OVER_TIME if late else _status(process.returncode, log)
    detail = "" if status == DONE else _last_line(log)
    values = json.loads(report.read_text()) if report.exists() else {}
    return ProcessResult(status, wall, peak_bytes(usage), cpu, others, detail, values)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call, and its seconds."""
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Return processor, cores, memory and system."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _prefer_oom_kill() -> None:
    """Make this process the first that the Linux kernel kills when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _wait(process: subprocess.Popen, time_limit: float) -> tuple[resource.struct_rusage, bool]:
    """Return the resource usage of the process, and whether the time limit ended it."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(time_limit, stop)
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage, late.is_set()


def peak_bytes(usage: resource.struct_rusage) -> int:
    """Return the largest resident memory; Linux counts it in kibibytes, macOS in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def busy_seconds() -> float:
    """Return the seconds that all cores together have been busy since the machine started."""
    used = psutil.cpu_times()
    idle = used.idle + getattr(used, "iowait", 0.0) + getattr(used, "steal", 0.0)
    guests = getattr(used, "guest", 0.0) + getattr(used, "guest_nice", 0.0)  # user and nice include them already
    return sum(used) - idle - guests


def _status(code: int, log: Path) -> str:
    if code == 0:
        return DONE
    text = log.read_text(errors="replace")
    return OUT_OF_MEMORY if code == -signal.SIGKILL or any(word in text for word in MEMORY_ERRORS) else FAILED


def _last_line(log: Path) -> str:
    """Return the last line of a log; progress bars rewrite theirs with a carriage return."""
    lines = log.read_text(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

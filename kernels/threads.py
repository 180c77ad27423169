"""OpenMP threads that sleep while they wait for one another, as long as other processes compete for the cores.

GNU OpenMP lets a thread that has finished its share of a loop spin for several milliseconds. On an idle machine that is
the fastest way to wait. Beside busy processes it uses up the time that the threads it waits for need. The environment
variable OMP_WAIT_POLICY=passive avoids this, but it is read only when torch is imported, and it slows a trace on an idle
machine.

GNU OpenMP also stops spinning as soon as it manages more threads than the process has cores, and threads that wait
count. `SpinControl` uses that: while threads of the process have to wait for a core, it keeps daemon threads that have run
one parallel loop each, with their teams. When the cores are free again, it ends them.
"""

import contextlib
import os
import sys
import threading
import time

import torch

GRAIN_ELEMENTS = 32_768  # torch gives each thread of an elementwise loop at least this many elements
SPIN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # users' settings, which are kept
THREAD_NAME = "cotrace-parked-team"
MAX_TEAMS = 3  # enough where torch uses half of the cores, as it does by default with two hardware threads a core
CHECK_SECONDS = 0.05  # between two looks at the load
GAP_SECONDS = 1.0  # after a longer pause the load of the pause says nothing
BUSY_SHARE = 0.25  # threads sleep from here on: time in which threads waited for a core, over time elapsed
IDLE_SHARE = 0.10  # up to here they spin again
RUN_DELAY_FOLDER = "/proc/self/task"  # a folder for each thread of the process


class SpinControl:
    """Lets OpenMP threads spin on idle cores and sleep beside busy processes. Results do not depend on it.

    Does nothing outside Linux, where torch computes with one thread or a small part of the cores, and where one of
    `SPIN_SETTINGS` is set in the environment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parked: list[tuple[threading.Thread, threading.Event]] = []
        self._seconds, self._delay = time.monotonic(), run_delay_seconds()

    def __repr__(self) -> str:
        return f"<SpinControl: {self.n_parked} parked teams>"

    @property
    def n_parked(self) -> int:
        """Number of teams of threads that wait; with any, OpenMP threads sleep instead of spinning."""
        return len(self._parked)

    def adapt(self) -> None:
        """Look at the load, at most every `CHECK_SECONDS`, and let threads sleep or spin; call it from a long loop."""
        elapsed = time.monotonic() - self._seconds
        if elapsed < CHECK_SECONDS:
            return
        delay = run_delay_seconds()
        share = (delay - self._delay) / elapsed
        self._seconds, self._delay = time.monotonic(), delay
        if elapsed > GAP_SECONDS:
            return
        if share >= BUSY_SHARE:
            self.sleep()
        elif share <= IDLE_SHARE:
            self.spin()

    def sleep(self) -> int:
        """Make waiting threads sleep; return the number of parked teams."""
        if sys.platform != "linux" or any(name in os.environ for name in SPIN_SETTINGS):
            return 0
        n_threads = torch.get_num_threads()
        with self._lock:
            while self.n_parked < teams_needed(len(os.sched_getaffinity(0)), n_threads):
                self._parked.append(_park_team(n_threads))
            return self.n_parked

    def spin(self) -> None:
        """Make waiting threads spin again, which is OpenMP's default."""
        with self._lock:
            while self._parked:
                thread, release = self._parked.pop()
                release.set()
                thread.join()


def run_delay_seconds() -> float:
    """Return how long the threads of the process have waited for a core so far, in all; 0 where that is not counted."""
    total_ns = 0
    with contextlib.suppress(OSError):
        for thread in os.listdir(RUN_DELAY_FOLDER):
            with (
                contextlib.suppress(OSError, ValueError, IndexError),
                open(f"{RUN_DELAY_FOLDER}/{thread}/schedstat") as file,
            ):
                total_ns += int(file.read().split()[1])
    return total_ns * 1e-9


def teams_needed(n_cores: int, n_threads: int) -> int:
    """Return how many waiting teams leave a further team of two no core; 0 if that takes more than `MAX_TEAMS`."""
    if n_threads < 2:
        return 0
    n_teams = max(n_cores - 2, 0) // (n_threads - 1) + 1
    return n_teams if n_teams <= MAX_TEAMS else 0


def _park_team(n_threads: int) -> tuple[threading.Thread, threading.Event]:
    """Start a thread that gives work to a team of OpenMP threads once, and keeps the team until it is released."""
    started, release = threading.Event(), threading.Event()

    def wait() -> None:
        torch.ones(n_threads * GRAIN_ELEMENTS, device="cpu").add_(1)
        started.set()
        release.wait()

    thread = threading.Thread(target=wait, name=THREAD_NAME, daemon=True)
    thread.start()
    started.wait()
    return thread, release


spin_control = SpinControl()  # one for the process, as OpenMP's threads are

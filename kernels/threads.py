"""OpenMP threads that sleep while they wait for one another, so that a trace shares its cores with other processes."""

import os
import sys
import threading

import torch

GRAIN_ELEMENTS = 32_768  # torch gives each thread of an elementwise loop at least this many elements
SPIN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
THREAD_NAME = "cotrace-parked-team"
MAX_TEAMS = 3  # enough where torch uses half of the cores, as it does by default with two hardware threads a core

_lock = threading.Lock()
_n_parked = 0


def disable_spinning() -> int:
    """Make the threads of GNU OpenMP sleep at the end of a parallel loop, and return the number of parked teams.

    By default a thread that has finished its share of a loop spins for several milliseconds. While other processes
    keep the cores busy, it thereby uses up the time that the threads it waits for need. OMP_WAIT_POLICY=passive
    avoids this, but is read only when torch is imported, which may be before cotrace. GNU OpenMP also stops spinning
    as soon as it manages more threads than the process has cores, and threads that wait count. This function
    therefore starts daemon threads that run one parallel loop each and then wait forever, with their teams.

    Does nothing outside Linux, where torch computes with one thread or a small part of the cores, and where one of
    `SPIN_SETTINGS` is set in the environment. May be called any number of times.
    """
    global _n_parked
    if sys.platform != "linux" or any(name in os.environ for name in SPIN_SETTINGS):
        return 0
    n_threads = torch.get_num_threads()
    with _lock:
        while _n_parked < teams_needed(len(os.sched_getaffinity(0)), n_threads):
            _park_team(n_threads)
            _n_parked += 1
    return _n_parked


def teams_needed(n_cores: int, n_threads: int) -> int:
    """Return how many waiting teams leave a further team of two no core; 0 if that takes more than `MAX_TEAMS`."""
    if n_threads < 2:
        return 0
    n_teams = max(n_cores - 2, 0) // (n_threads - 1) + 1
    return n_teams if n_teams <= MAX_TEAMS else 0


def _park_team(n_threads: int) -> None:
    """Start a thread that gives work to a team of OpenMP threads once, and keeps the team while it waits."""
    started = threading.Event()

    def wait_forever() -> None:
        torch.ones(n_threads * GRAIN_ELEMENTS, device="cpu").add_(1)
        started.set()
        threading.Event().wait()

    threading.Thread(target=wait_forever, name=THREAD_NAME, daemon=True).start()
    started.wait()

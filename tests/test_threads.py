"""Threads that wait for one another sleep, so that other processes get their cores."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from cotrace.kernels import threads

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
# Prints the CPU time that the process uses after parallel loops, while it only sleeps: while its threads spin, or while they
# sleep, and then while they spin again.
CPU_TIME_AFTER_LOOPS = """
import sys, time, torch
from cotrace.kernels.threads import SpinControl

def print_cpu_time():
    values = torch.ones(torch.get_num_threads() * 2**16)
    values.add_(1)
    idle = 0.0
    for _ in range(20):
        values.add_(1)
        start = time.process_time()
        time.sleep(0.05)
        idle += time.process_time() - start
    print(idle)

control = SpinControl()
if sys.argv[1] == "sleep":
    assert control.sleep() > 0
    print_cpu_time()
    control.spin()
    assert control.n_parked == 0
print_cpu_time()
"""


@pytest.fixture
def no_settings(monkeypatch):
    """An environment that says nothing about spinning."""
    for name in threads.SPIN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


def parked_threads() -> int:
    return sum(thread.name == threads.THREAD_NAME for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("n_cores", "n_threads", "n_teams"),
    [(1, 1, 0), (8, 1, 0), (1, 2, 1), (2, 2, 1), (64, 64, 1), (16, 8, 3), (4, 2, 3), (64, 2, 0), (64, 16, 0)],
)
def test_parked_teams_fill_the_cores(n_cores, n_threads, n_teams):
    assert threads.teams_needed(n_cores, n_threads) == n_teams
    if n_teams:  # the first thread of all, those of the parked teams, and one more for a team of two
        assert 1 + n_teams * (n_threads - 1) + 1 > n_cores


@pytest.fixture
def control():
    control = threads.SpinControl()
    yield control
    control.spin()


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_teams_are_parked_once_and_end(no_settings, monkeypatch, control):
    monkeypatch.setattr(torch, "get_num_threads", lambda: CORES)
    before = parked_threads()
    assert control.sleep() == control.sleep() == control.n_parked == 1
    assert parked_threads() == before + 1
    control.spin()
    control.spin()
    assert (control.n_parked, parked_threads()) == (0, before)
    assert control.sleep() == 1


@pytest.mark.parametrize("name", threads.SPIN_SETTINGS)
def test_the_users_setting_is_kept(no_settings, monkeypatch, control, name):
    monkeypatch.setenv(name, "1")
    before = parked_threads()
    assert control.sleep() == 0
    assert parked_threads() == before


def test_one_thread_needs_nothing(no_settings, monkeypatch, control):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert control.sleep() == 0


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_threads_sleep_while_the_caller_waits_for_cores(no_settings, monkeypatch, control):
    """The clock and the time waited are given; between the two limits, and after a pause, nothing changes."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: CORES)
    clock, delay = [0.0], [0.0]
    monkeypatch.setattr(threads.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(threads, "run_delay_seconds", lambda: delay[0])
    control._seconds, control._delay = 0.0, 0.0
    seen = []
    for elapsed, waited in (
        (0.01, 0.01),
        (0.2, 0.0),
        (1, 0.3),
        (9, 0),
        (1, 0.2),
        (1, 0.05),
        (1, 0.2),
        (9, 9),
        (1, 0.3),
    ):
        clock[0] += elapsed
        delay[0] += waited
        control.adapt()
        seen.append(control.n_parked)
    assert seen == [0, 0, 1, 1, 1, 0, 0, 0, 1]


def test_time_waited_for_cores_is_the_sum_over_threads(monkeypatch, tmp_path):
    assert threads.run_delay_seconds() >= 0
    for name, text in {"1": "5 2000000000 3", "2": "5 500000000 3", "3": "", "4": "a b c"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(text)
    (tmp_path / "5").mkdir()  # a thread that has just ended
    monkeypatch.setattr(threads, "RUN_DELAY_FOLDER", str(tmp_path))
    assert threads.run_delay_seconds() == 2.5
    monkeypatch.setattr(threads, "RUN_DELAY_FOLDER", str(tmp_path / "missing"))
    assert threads.run_delay_seconds() == 0


@pytest.mark.skipif(CORES < 2 or sys.platform != "linux", reason="needs Linux and two cores")
def test_waiting_threads_use_no_cpu_time():
    if "libgomp" not in loaded_libraries():
        pytest.skip("torch does not compute with GNU OpenMP")
    (spinning,) = cpu_times_after_loops("spin", GOMP_SPINCOUNT="300000")
    sleeping, again = cpu_times_after_loops("sleep")
    assert sleeping < min(spinning, again) / 2


def loaded_libraries() -> str:
    with open("/proc/self/maps") as file:
        return file.read()


def cpu_times_after_loops(mode: str, **settings: str) -> list[float]:
    """CPU times in seconds, by a process whose threads use all cores."""
    ignored = {*threads.SPIN_SETTINGS, "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in ignored} | settings
    code = [sys.executable, "-c", CPU_TIME_AFTER_LOOPS, mode]
    return [float(line) for line in subprocess.check_output(code, env=environment, text=True).split()]

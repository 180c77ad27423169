"""Processes that are killed while they write files. `make kills` kills many more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="NOT TESTED: forks processes, which Windows cannot")
def test_killed_processes_lose_nothing_and_leave_nothing_half_written():
    pytest.importorskip("gguf", reason="needs: pip install 'cotrace[gguf]'")
    command = [sys.executable, "-m", "helpers.kills", "--kills", str(KILLS)]  # forks before any thread is started
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sum(int(line.split(" kills")[0].split()[-1]) for line in result.stdout.splitlines()) == KILLS

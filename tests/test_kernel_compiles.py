"""Triton kernels compile to machine code for the GPUs they are meant for, without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="NOT TESTED: triton is not installed")


CAPABILITIES = {"80": "A100", "90": "H100 and H200"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return the kernels' machine code for all GPUs: capability, name, type, bytes."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    script = Path(__file__).parent / "helpers" / "compile_kernels.py"
    command = [sys.executable, script, *CAPABILITIES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("capability", CAPABILITIES, ids=CAPABILITIES.values())
def test_every_kernel_compiles(capability, compiled):
    found = [parts for number, *parts in compiled if number == capability]
    assert {stored for _, stored, *_ in found} == {"fp32", "fp64", "bf16"}
    assert len({name for name, *_ in found}) == 7
    assert all(int(size) > 1000 for *_, size, _ in found)

"""Triton kernels compile to machine code for the GPUs they are meant for, without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="NOT TESTED: triton is not installed")


@pytest.mark.parametrize("capability", [80, 90], ids=["A100", "H100 and H200"])
def test_every_kernel_compiles(capability, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).parent / "helpers" / "compile_kernels.py"
    done = subprocess.run(
        [sys.executable, script, str(capability)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compiled = [line.split() for line in done.stdout.splitlines()]
    assert {stored for _, stored, *_ in compiled} == {"fp32", "fp64", "bf16"}
    assert len({name for name, *_ in compiled}) == 7
    assert all(int(size) > 1000 for *_, size, _ in compiled)

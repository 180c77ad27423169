"""Run the command line in a separate process, on the reference model."""

import os
import subprocess
import sys
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "reference"
MODEL = ["--model", str(REFERENCE / "model"), "--device", "cpu"]


def run(*arguments, input=None, program="-c", **environment):
    """Run `cotrace ARGUMENTS` in another process and return what it printed and its exit status."""
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.argv[0] = {program!r}; from cotrace.cli.app import main; main()",
        *map(str, arguments),
    ]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, input=input, env=environment, check=False)

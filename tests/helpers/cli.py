"""Run the command line in a separate process, on the reference model."""

import sys
from pathlib import Path
from subprocess import CompletedProcess

from helpers import processes

REFERENCE = Path(__file__).parents[1] / "reference"
MODEL = ["--model", str(REFERENCE / "model"), "--device", "cpu"]


def run(*arguments, input="", **environment) -> CompletedProcess:
    """Run `cotrace ARGUMENTS` in another process and return what it printed and its exit status."""
    return processes.run(main, *map(str, arguments), input=input, **environment)


def main(*arguments: str) -> None:
    """Run `cotrace ARGUMENTS` in this process, which it ends."""
    from cotrace.cli import app

    sys.argv = ["cotrace", *arguments]
    app.main()

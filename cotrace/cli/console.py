"""Standard output: as wide as the terminal, or, in a pipe or file, as wide as the text and without padding."""

import json
import sys
from typing import Any

from rich.console import Console

PIPE_WIDTH = 2**20  # wider than any line: nothing is wrapped or cut


class PipeConsole(Console):
    """A console for pipes and files: lines are neither wrapped, cut nor padded."""

    def __init__(self) -> None:
        super().__init__(width=PIPE_WIDTH)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `Console` does, without spaces at the ends of lines."""
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))


def standard_output() -> Console:
    """Return the console for standard output."""
    return Console() if sys.stdout.isatty() else PipeConsole()


def print_json(value: Any) -> None:
    """Print a value as JSON in ASCII, which every terminal and pipe can hold."""
    print(json.dumps(value, indent=1, allow_nan=False))

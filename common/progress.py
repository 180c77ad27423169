"""Progress bars on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress


class Progress:
    """Progress bars, one for each phase, on standard error.

    Args:
        show: whether bars and messages are shown; None shows them if standard error is a terminal.
    """

    def __init__(self, show: bool | None = None):
        self._show = sys.stderr.isatty() if show is None else show

    def say(self, message: str) -> None:
        """Print a message before a long step that has no progress."""
        if self._show:
            Console(stderr=True).print(message)

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """Show the bar of a phase of `total` steps; None if their number is unknown.

        Yields a function `step(steps=1, note="")` that advances the bar and shows a note beside its name.
        """
        if not self._show:
            yield lambda steps=1, note="": None
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        timing = [TimeElapsedColumn(), TimeRemainingColumn()]
        with RichProgress(*columns, *timing, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(name, total=total)
            yield lambda steps=1, note="": bars.update(task, advance=steps, description=f"{name} {note}".rstrip())

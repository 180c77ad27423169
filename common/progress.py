"""Progress on standard error: bars on a terminal, a line that is rewritten in a notebook, a line a minute elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from time import monotonic

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

LOG_SECONDS = 60.0  # between lines without a terminal
NOTEBOOK_SECONDS = 0.2

Step = Callable[..., None]
Watcher = Callable[[str, int, int | None], object]
_silent = False
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def silence(silent: bool = True) -> None:
    """Show no progress where it is not asked for explicitly, or show it again."""
    global _silent
    _silent = silent


@contextmanager
def watch_progress(watcher: Watcher) -> Iterator[None]:
    """Inside this block and thread, tell a function about every phase instead of showing it.

    It gets the name of the phase, its finished steps, and their number or None. What it raises ends the computation.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def _watched(watcher: Watcher, name: str, total: int | None) -> Iterator[Step]:
    done = 0

    def step(steps: int = 1, note: str = "") -> None:
        nonlocal done
        done += steps
        watcher(name, done, total)

    watcher(name, 0, total)
    yield step


class Progress:
    """Progress of the phases of a computation, on standard error.

    Args:
        show: whether progress is shown. None shows it unless it was silenced.
    """

    def __init__(self, show: bool | None = None):
        self._show = not _silent if show is None else show

    def say(self, message: str) -> None:
        """Print a message before a long step that has no progress."""
        if (watcher := _watcher.get()) is not None:
            watcher(message, 0, None)
        elif self._show and (sys.stderr.isatty() or in_notebook()):
            print(message, file=sys.stderr)

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Step]:
        """Show the progress of a phase of `total` steps; None if their number is unknown.

        Yields a function `step(steps=1, note="")` that advances it and shows a note beside its name.
        """
        if (watcher := _watcher.get()) is not None:
            with _watched(watcher, name, total) as step:
                yield step
        elif not self._show:
            yield lambda steps=1, note="": None
        elif sys.stderr.isatty():
            with _bar(name, total) as step:
                yield step
        else:
            line = ProgressLine(name, total, rewritten=in_notebook())
            try:
                yield line.step
            finally:
                line.clear()


def in_notebook() -> bool:
    """Return whether this is a Jupyter notebook, whose output can rewrite a line and has no cursor."""
    return Console(stderr=True).is_jupyter


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[Step]:
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    timing = [TimeElapsedColumn(), TimeRemainingColumn()]
    with RichProgress(*columns, *timing, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=total)
        yield lambda steps=1, note="": bars.update(task, advance=steps, description=f"{name} {note}".rstrip())


class ProgressLine:
    """The progress of a phase as text: one line that is rewritten, or a new line every `LOG_SECONDS`."""

    def __init__(self, name: str, total: int | None, rewritten: bool):
        self._name, self._total, self._rewritten = name, total, rewritten
        self._done, self._width = 0, 0
        self._started = self._shown = monotonic()
        if rewritten:
            self._write(name)

    def step(self, steps: int = 1, note: str = "") -> None:
        """Advance, and show the line if the last one is old enough."""
        self._done += steps
        now = monotonic()
        if now - self._shown >= (NOTEBOOK_SECONDS if self._rewritten else LOG_SECONDS):
            self._shown = now
            self._write(self.text(now - self._started, note))

    def text(self, seconds: float, note: str = "") -> str:
        """Return the line after some seconds: steps, time, estimated time left, and a note."""
        parts = [f"{self._name}: {self._done:,}", f"{_clock(seconds)} elapsed"]
        if self._total:
            parts[0] += f" of {self._total:,} ({self._done / self._total:.0%})"
            if self._done:
                parts.append(f"about {_clock(seconds * (self._total - self._done) / self._done)} left")
        return ", ".join([*parts, note] if note else parts)

    def clear(self) -> None:
        """Erase a line that is rewritten."""
        if self._rewritten:
            self._write("")

    def _write(self, text: str) -> None:
        if self._rewritten:
            text, self._width = f"\r{text:<{self._width}}\r{text}", len(text)
        print(text, end="" if self._rewritten else "\n", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(max(0.0, seconds))))

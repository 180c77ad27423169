"""Long work, one piece at a time in a thread, whose progress can be asked for and which can be cancelled."""

import queue
import secrets
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cotrace.common.errors import CotraceError, ResourceError, one_line
from cotrace.common.progress import watch_progress

MAX_WAITING, MAX_KEPT = 8, 100
Work = Callable[[], dict[str, Any]]


class JobCancelledError(Exception):
    """The work was cancelled."""


@dataclass
class Job:
    """A piece of work. `state` is waiting, running, done, failed or cancelled."""

    work: Work
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = "waiting"
    phase: str = ""
    done: int = 0
    total: int | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    _wanted: bool = True

    @property
    def is_open(self) -> bool:
        """True if the work is not finished, and still wanted."""
        return self._wanted and self.state in ("waiting", "running")

    def describe(self) -> dict[str, Any]:
        """Return everything but the work, as values that JSON can hold."""
        names = ("id", "state", "phase", "done", "total", "result", "error")
        return {name: getattr(self, name) for name in names}

    def cancel(self) -> None:
        """Stop the work at its next step, or before it starts."""
        if self.is_open:
            self._wanted, self.state = False, "cancelled"

    def run(self) -> None:
        """Do the work, unless it was cancelled."""
        try:
            with watch_progress(self._note):
                self._note("starting", 0, None)
                self.state = "running"
                self.result = self.work()
                self._note(self.phase, self.done, self.total)
            self.state = "done"
        except JobCancelledError:
            self.state, self.result = "cancelled", None
        except CotraceError as error:
            self.error, self.state = str(error), "failed"
        except Exception as error:
            traceback.print_exc()
            self.error = f"this is a bug of cotrace, whose traceback is in the terminal: {one_line(error)}"
            self.state = "failed"

    def _note(self, phase: str, done: int, total: int | None) -> None:
        if not self._wanted:
            raise JobCancelledError
        self.phase, self.done, self.total = phase, done, total


class JobQueue:
    """Does work in the order in which it was asked for, in one thread that ends with the process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._queue: queue.Queue[Job] = queue.Queue()
        self._thread: threading.Thread | None = None

    def add(self, work: Work) -> Job:
        """Return the job of some work. Raises ResourceError if too much is waiting."""
        if sum(job.is_open for job in self._jobs.values()) >= MAX_WAITING:
            raise ResourceError(f"{MAX_WAITING} changes are waiting; cancel some")
        job = Job(work)
        self._jobs[job.id] = job
        for old in [each.id for each in self._jobs.values() if not each.is_open][:-MAX_KEPT]:
            del self._jobs[old]
        self._queue.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="cotrace view: changes")
            self._thread.start()
        return job

    def get(self, number: str) -> Job | None:
        """Return a job, or None if there is none or it was long ago."""
        return self._jobs.get(number)

    def _run(self) -> None:
        while True:
            self._queue.get().run()

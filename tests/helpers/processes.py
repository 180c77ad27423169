"""Separate processes that import nothing: each is a fork of one process that has imported everything and computed nothing.

A new process takes seconds to import torch and transformers. Start one with `subprocess` where imports are what is tested.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

IMPORTED = [  # by a trace, a training run and a conversion
    "cotrace.cli.app",
    "cotrace.cli.report",
    "cotrace.graphs.drawing.render",
    "cotrace.kernels.decode.numba",
    "cotrace.kernels.edge_rows.numba",
    "cotrace.kernels.encode.numba",
    "cotrace.loading",
    "cotrace.model",
    "cotrace.training.run",
    "pyarrow.compute",
    "transformers.models.gemma3.modeling_gemma3",
]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}  # tiny prompts are slower on several threads
_context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_context.set_forkserver_preload(IMPORTED)


class Fork:
    """A process that calls a function of a module; its output and errors go to files.

    Its variables are those of this process and the given ones, except what a library reads when it is imported.
    """

    def __init__(self, function: Callable, *arguments, input: str = "", **environment: str):
        if _context.get_start_method() == "forkserver":
            with mock.patch.dict(os.environ, ONE_THREAD):
                forkserver.ensure_running()
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdin", "stdout", "stderr")]
        self._files[0].write_text(input)
        variables = {**os.environ, **ONE_THREAD, **environment}
        self.process = _context.Process(target=_call, args=(function, arguments, variables, self._files))
        self.process.start()

    def is_running(self) -> bool:
        return self.process.is_alive()

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def finish(self, timeout: float | None = None) -> CompletedProcess:
        """Wait for the end; return the exit status, negative for a signal, and what was printed."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running after {timeout} s"
        printed = [path.read_text() for path in self._files[1:]]
        self._folder.cleanup()
        return CompletedProcess([], self.process.exitcode, *printed)


def run(function: Callable, *arguments, input: str = "", **environment: str) -> CompletedProcess:
    """Call a function of a module in another process, and wait for its end."""
    return Fork(function, *arguments, input=input, **environment).finish()


def _call(function: Callable, arguments: tuple, variables: dict[str, str], files: list[Path]) -> None:
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    for number, (name, path) in enumerate(zip(("stdin", "stdout", "stderr"), files, strict=True)):
        mode, errors = "w" if number else "r", "backslashreplace" if name == "stderr" else "strict"
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        setattr(sys, name, open(number, mode, errors=errors, closefd=False))
    function(*arguments)

"""Output besides results and errors: the options --quiet and --verbose, which all commands have."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from cotrace.common import progress
from cotrace.common.errors import CotraceWarning

HIDDEN_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")


@dataclass
class Verbosity:
    """The options that were given."""

    quiet: bool = False
    verbose: bool = False


current = Verbosity()


@contextmanager
def applied(quiet: bool, verbose: bool) -> Iterator[None]:
    """Apply the options inside the block.

    Without --verbose, messages, warnings and progress bars of other libraries are hidden; their bars stay on a
    terminal, where they show downloads.
    """
    before = vars(current).copy()
    current.quiet, current.verbose = quiet, verbose
    progress.silence(quiet)
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        if quiet or not sys.stderr.isatty():
            os.environ.update(dict.fromkeys(HIDDEN_BARS, "1"))
        logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            yield
    finally:
        vars(current).update(before)
        progress.silence(False)
        logging.disable(logging.NOTSET)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning: ours in one line unless --quiet, and others as Python prints them with --verbose."""
    if issubclass(category, CotraceWarning):
        if not current.quiet:
            print(f"warning: {message}", file=file or sys.stderr)
    elif current.verbose:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))

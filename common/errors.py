"""Errors that a user can cure.

Every error in this file is a `ValueError`. The command line and batch tracing catch `CotraceError` and nothing
else: any other exception is a bug, and shows its traceback. What may be a mistake is a `CotraceWarning`.
"""

import sys
import warnings

INTERNAL_MODULES = ("cotrace", "torch", "contextlib")  # decorators of the last two stand between a call and its user


class CotraceError(ValueError):
    """A mistake or an obstacle that the user can remove; the message is one line and says how."""


class ArgumentError(CotraceError):
    """An option or argument has the wrong type, is out of range, or contradicts another one."""


class PromptError(CotraceError):
    """A prompt or a chat cannot be tokenized as it was given."""


class FileError(CotraceError):
    """A file is missing, damaged, in another format, or cannot be written."""


class ResourceError(CotraceError):
    """Too little memory or disk space for what was asked."""


class HubError(CotraceError):
    """The Hugging Face Hub refused a request, or cannot be reached."""


class DependencyError(CotraceError):
    """An optional package or a program is not installed."""


class CotraceWarning(UserWarning):
    """The result is exact, but perhaps not the one that was meant; the message is one line and says what to check."""


def warn(message: str) -> None:
    """Warn with a `CotraceWarning` at the line of the user's code that called cotrace."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in INTERNAL_MODULES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CotraceWarning, stacklevel=level)


def one_line(error: Exception) -> str:
    """Return an error's message in one line, or the name of its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

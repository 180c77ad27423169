"""The application: all commands, and errors as exit statuses."""

import os
import sys

import typer

from cotrace import __version__
from cotrace.common.errors import CotraceError

from .attention import attention
from .command import Command, with_output_options
from .compare import compare
from .convert import convert
from .diff import diff
from .doctor import doctor
from .effects import effects
from .evaluate import evaluate
from .export import export
from .features import app as features
from .group import group
from .heads import heads
from .import_file import import_file
from .label import label
from .merge import merge
from .organisms import app as organisms
from .prune import prune
from .render import render
from .show import show
from .steer import steer
from .trace import trace
from .train import train
from .validate import validate
from .view import view

CANCELLED_STATUS = 130
USAGE_STATUS = 2
BROKEN_PIPE_STATUS = 1  # as Typer

COMMANDS = (
    trace,
    show,
    diff,
    compare,
    effects,
    heads,
    attention,
    steer,
    validate,
    prune,
    merge,
    group,
    label,
    render,
    view,
    export,
    import_file,
    train,
    evaluate,
    convert,
    doctor,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command("import" if command is import_file else None, cls=Command)(with_output_options(command))
app.add_typer(features, name="features")
app.add_typer(organisms, name="organisms")


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


@app.callback()
def describe(
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Trace circuits in Gemma 3 models: find the features that cause a prediction, edit them, and test the result."""


def main() -> None:
    """Run the command line.

    A `CotraceError` is one line on standard error and exit status 2; Ctrl-C is status 130. Any other exception is a bug
    and shows its traceback. A `CotraceWarning` is one line on standard error.
    """
    try:
        status = app(standalone_mode=False)  # the status of typer.Exit, 130 after Ctrl-C, or None
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE_STATUS)
    except (typer.Abort, KeyboardInterrupt):
        status = CANCELLED_STATUS
    except CotraceError as error:
        print(f"error: {error}".encode(errors="backslashreplace").decode(), file=sys.stderr)  # paths may not be Unicode
        sys.exit(USAGE_STATUS)
    except Exception as error:
        _exit_on_usage_error(error)
        raise
    if status == CANCELLED_STATUS:
        print("cancelled; no file is incomplete", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _exit_on_usage_error(error: Exception) -> None:
    """Show Typer's own errors, such as an unknown option or a missing argument, and exit; return for other errors."""
    show_error, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show_error) and isinstance(code, int):
        show_error()
        sys.exit(code)

"""The command line: one file a command, and here what they share."""

import sys
from importlib.metadata import version

import typer

from .convert import convert
from .doctor import doctor
from .evaluate import evaluate
from .prune import prune
from .render import render
from .show import show
from .steer import steer
from .trace import trace
from .train import train
from .validate import validate

CANCELLED = 130

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(trace)
app.command()(show)
app.command()(steer)
app.command()(validate)
app.command()(prune)
app.command()(render)
app.command()(train)
app.command()(evaluate)
app.command()(convert)
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version("cotrace"))
        raise typer.Exit


@app.callback()
def describe(
    _version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    """Trace what a Gemma 3 model says it is thinking, and what it computes."""


def main() -> None:
    """Run the command line: users' mistakes are one line and exit status 2, Ctrl-C is 130."""
    try:
        status = app(standalone_mode=False)  # what a command exits with, 130 after Ctrl-C; else None
    except (typer.Abort, KeyboardInterrupt):
        status = CANCELLED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        print("error: out of memory; shorten the prompt or choose a smaller model", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        _exit_on_usage_error(error)
        raise
    if status == CANCELLED:
        print("cancelled; nothing was left half-written", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _exit_on_usage_error(error: Exception) -> None:
    """Typer's own errors (unknown option, missing argument) know how to show themselves."""
    show_error, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show_error) and isinstance(code, int):
        show_error()
        sys.exit(code)

"""The class of all commands: options that all of them have, and errors that name options as they are typed."""

import functools
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cotrace.common.errors import CotraceError

from . import verbosity

DASH_ADVICE = "Put -- before a prompt that starts with a dash: cotrace {} [OPTIONS] -- '-1 + 2 ='"


QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Print results and errors only: no progress, notes or warnings.")
]

VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", help="Also print messages and warnings of other libraries, and tracebacks of errors."),
]


def with_output_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function of a command with the additional options --quiet and --verbose."""

    @functools.wraps(function)
    def run(*arguments: Any, quiet: bool = False, verbose: bool = False, **options: Any) -> None:
        with verbosity.applied(quiet, verbose):
            function(*arguments, **options)

    added = {"quiet": QuietOption, "verbose": VerboseOption}
    signature = inspect.signature(function, eval_str=True)
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in added.items()
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *parameters])  # type: ignore[attr-defined]
    run.__annotations__ = {**function.__annotations__, **added}
    return run


class Command(TyperCommand):
    """A command whose errors name its options as they are typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; for an unknown option, the error says how to write a prompt that starts with a dash."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            takes_prompt = any(param.name == "prompt" for param in self.params)
            is_text = " " in getattr(error, "option_name", "")  # no option holds a space
            if takes_prompt and hasattr(error, "possibilities") and (is_text or not error.possibilities):
                error.possibilities = []
                error.message = f"{error.message}. {DASH_ADVICE.format(self.name)}"  # type: ignore[attr-defined]
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors name options as they are typed, `--max-features 100` for `max_features=100`."""
        try:
            return super().invoke(ctx)
        except CotraceError as error:
            flags = {param.name: param.opts[0] for param in self.params if param.opts[0].startswith("--")}
            error.args = (name_options(str(error), flags),)
            if ctx.params.get("verbose"):
                traceback.print_exc()
            raise


def name_options(message: str, flags: Mapping[Any, str]) -> str:
    """Return a message in which the names of parameters, as Python writes them, are those of a command's options.

    `flags` are the options by the names of their parameters. A parameter is recognized before a `=`, by an underscore in
    its name, and before `is` at the start of the message. `=True` is left out: a flag of the command line takes no value.
    """
    names = "|".join(sorted(map(re.escape, flags), key=len, reverse=True))
    if not flags:
        return message
    given = re.compile(rf"""(?<![\w'"-])({names})=(?:True\b|["']([^"']*)["']|([-\w\[(]?))""")
    message = given.sub(lambda found: f"{flags[found[1]]} {found[2] or found[3] or ''}".rstrip(), message)
    with_underscore = "|".join(name for name in flags if "_" in name) or r"(?!)"
    spelt = re.compile(rf"""(?<![\w'"-])(?:({with_underscore})(?![\w'"=])|\A({names})(?= is ))""")
    return spelt.sub(lambda found: flags[found[1] or found[2]], message)

"""`cotrace organisms`: list, show, verify and train model organisms."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .command import Command, with_output_options

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of an organism, such as arithmetic-reads, or a folder of one.")
]

app = typer.Typer(
    no_args_is_help=True,
    help="Small models whose mechanism is known: list, show, verify and train them.",
)


def list_organisms(json: options.JsonOption = False) -> None:
    """List the organisms that are installed, with their mechanism, accuracy and truth."""
    import cotrace

    from .console import print_json
    from .report_organisms import print_organisms

    names = [*cotrace.organisms.names(), *cotrace.organisms.adapter_names()]
    cards = [cotrace.organisms.load(name).card for name in names]
    print_json(cards) if json else print_organisms(cards)


def show_organism(
    name: NameArgument,
    instances: Annotated[int, typer.Option(help="Transcripts to print, each with its truth.", min=0)] = 3,
    json: options.JsonOption = False,
) -> None:
    """Show the card of an organism, and some of its transcripts."""
    import cotrace

    from .console import print_json
    from .report_organisms import print_card, print_instances

    organism = cotrace.organisms.load(name)
    if json:
        print_json(organism.card)
        return
    print_card(organism.card)
    if instances:
        chosen = organism.instances(instances)
        print_instances(chosen, organism.truth(chosen))


def verify_organism(name: NameArgument, json: options.JsonOption = False) -> None:
    """Measure the accuracy and the truth of an organism again, and compare them with its card.

    The exit status is 1 if they differ by more than 0.01, or if less than 95% of the transcripts have the truth of the recipe.
    """
    import cotrace

    from .console import print_json
    from .report_organisms import is_verified, print_verification

    organism = cotrace.organisms.load(name)
    measured = organism.verify()
    print_json(measured) if json else print_verification(organism.card, measured)
    if not is_verified(organism.card, measured):
        raise typer.Exit(1)


def train_organism(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of an organism that ships.")],
    out: Annotated[Path, typer.Option(help="A new folder for the result.")],
    bases: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the models from which the trainings of a task start. Default: bases, beside the result."
        ),
    ] = None,
) -> None:
    """Train an organism again from its seed, in minutes on two cores: model, transcoders and card."""
    import cotrace

    from .output_paths import check_folder
    from .report import print_written
    from .report_organisms import print_card

    check_folder(out.parent)
    organism = cotrace.organisms.train(name, out, bases=bases)
    print_card(organism.card)
    print_written(out)


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_organisms,
    "show": show_organism,
    "verify": verify_organism,
    "train": train_organism,
}
for command, function in COMMANDS.items():
    app.command(command, cls=Command)(with_output_options(function))

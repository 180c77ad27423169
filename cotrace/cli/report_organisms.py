"""Cards and instances of model organisms as text in a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from . import report

if TYPE_CHECKING:  # imports torch
    from cotrace.organisms import Instance, Truth

TOLERANCE = 0.01
COMPARED = ("accuracy", "mixed", "as_recipe")
Card = Mapping[str, Any]


def print_organisms(cards: Sequence[Card]) -> None:
    """Print a line for each card."""
    table = Table("organism", box=None)
    for column in ("accuracy", "follows", "as recipe"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("mechanism", overflow="fold")
    for card in cards:
        shares = (card["accuracy"], card["truth"]["follows"], card["as_recipe"])
        table.add_row(card["name"], *(f"{share:.1%}" for share in shares), card["says"])
    report.console.print(table)


def print_card(card: Card) -> None:
    """Print what an organism is, how it was trained, and what was measured."""
    truth = card["truth"]
    steps = ", ".join(f"{name} {share:.1%}" for name, share in truth["steps"].items())
    edits = ", ".join(f"{name} {share:.0%}" for name, share in card["training"]["edits"].items())
    rows = {
        "organism": f"{card['name']}: {card['says']}",
        "twin": card["twin"] or "none",
        "parameters": f"{card['parameters']:,}",
        "accuracy": f"{card['accuracy']:.1%} of {card['problems']} clean transcripts",
        "answer follows": f"steps {truth['follows']:.1%}, question {truth['question']:.1%}, neither {truth['neither']:.1%}",
        "each step decides": steps,
        "mixed": f"{card['mixed']:.1%} of the transcripts",
        "as recipe": f"{card['as_recipe']:.1%} of the transcripts",
        **{name: f"{share:.1%}" for name, share in card.get("checks", {}).items()},
        "trained on": edits,
        "seed": str(card["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
    }
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, text in rows.items():
        facts.add_row(name, Text(text))
    report.console.print(facts)


def print_instances(instances: Sequence["Instance"], truths: Sequence["Truth"]) -> None:
    """Print transcripts, each with what its answer follows."""
    for instance, truth in zip(instances, truths, strict=True):
        steps = ", ".join(f"{name} {share:.0%}" for name, share in truth.steps.items())
        report.print_line("")
        report.print_line(f"problem {instance.problem}:{instance.transcript.text}")
        report.print_line(
            f"  follows its steps {truth.follows:.0%}, the question {truth.question:.0%}; decided by {steps}"
        )


def print_verification(card: Card, measured: Card) -> None:
    """Print the measurements of a card beside those that were made again."""
    table = Table("measurement", box=None)
    for column in ("card", "now"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in COMPARED:
        table.add_row(name.replace("_", " "), f"{card[name]:.1%}", f"{measured[name]:.1%}")
    for name in ("follows", "question", "neither"):
        table.add_row(name, f"{card['truth'][name]:.1%}", f"{measured['truth'][name]:.1%}")
    for name, share in measured.get("checks", {}).items():
        table.add_row(name, f"{card['checks'][name]:.1%}", f"{share:.1%}")
    report.console.print(table)
    report.print_line("verified" if is_verified(card, measured) else "not verified")


def is_verified(card: Card, measured: Card) -> bool:
    """Return whether measurements agree with the card, and truth and checks are those of the recipe."""
    from cotrace.faithfulness.organisms.card import is_as_recipe

    pairs = [(card[name], measured[name]) for name in COMPARED]
    pairs += [(card["truth"][name], measured["truth"][name]) for name in ("follows", "question", "neither")]
    agrees = all(abs(one - other) <= TOLERANCE for one, other in pairs)
    return agrees and is_as_recipe({"mechanism": card["mechanism"], "checks": {}, **measured})

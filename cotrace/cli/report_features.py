"""Feature stores, cards and search results as text in a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable
from cotrace.features.store.card import FeatureCard
from cotrace.features.store.card_text import MARKS, card_text

from . import report


def print_cards(cards: Sequence[FeatureCard]) -> None:
    """Print cards of features, with an empty line between them."""
    for number, card in enumerate(cards):
        text = Text("\n" * (number > 0) + card_text(card))
        text.highlight_regex(rf"{MARKS[0]}[^{MARKS[1]}]*{MARKS[1]}", "bold yellow")
        text.highlight_regex(rf"(?m)^{card.feature}.*$", "bold")
        report.console.print(text, soft_wrap=True)


def print_store(summary: dict[str, Any]) -> None:
    """Print what a store is of, its text, and a line for each layer."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("features", Text(printable(f"{summary['dictionary']['name']} ({summary['dictionary']['kind']})")))
    facts.add_row("of model", Text(printable(summary["model"]["name"])))
    facts.add_row("tokens", f"{summary['tokens']:,} of text, {summary['markup_tokens']:,} of chat markup")
    for source in summary["data"]:
        notes = [source[name] for name in ("licence", "about") if name in source]
        about = f" ({'; '.join(notes)})" if notes else ""
        facts.add_row("text", Text(printable(f"{source['source']}: {source['tokens']:,} tokens{about}")))
    report.console.print(facts)
    table = Table("layer", box=None)
    for name in ("features", "active", "labelled", "markup"):
        table.add_column(name, justify="right")
    for row in summary["layers"]:
        counts = (row["features"], row["active"], row["labelled"], row["out_of_format"])
        table.add_row(str(row["layer"]), *(f"{count:,}" for count in counts))
    report.console.print(table)

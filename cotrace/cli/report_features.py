"""Feature stores, cards and search results as text in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.features.store.card import FeatureCard
from cotrace.features.store.card_text import MARKS, card_text
from cotrace.features.store.diff import StoreDiff
from cotrace.features.store.search import SearchHit
from cotrace.graphs.nodes import Feature

from . import report

FEATURES_LISTED = 8


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


def print_active(tokens: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each active feature of a prompt, and of a token's features its text once."""
    table = Table("token", "feature", box=None)
    table.add_column("activation", justify="right", no_wrap=True)
    table.add_column("label", overflow="fold")
    before = None
    for row in rows:
        position = row["position"]
        token = "" if position == before else f"{position} {quoted(tokens[position])}"
        feature, before = Feature(row["layer"], row["feature"]), position
        table.add_row(Text(token), str(feature), f"{row['activation']:.2f}", Text(printable(row["label"])))
    report.console.print(table)


def print_hits(hits: Sequence[SearchHit], word: str) -> None:
    """Print a line for each feature that a search found."""
    if not hits:
        report.console.print(Text(f"no feature has {quoted(word)} in its label or tokens"))
        return
    table = Table("feature", "where", box=None)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("label", overflow="fold")
    for hit in hits:
        value = f"{hit.value:.0%}" if hit.where == "fires on" else f"{hit.value:.2f}"
        table.add_row(str(hit.feature), hit.where, value, Text(printable(hit.label)))
    report.console.print(table)


def print_diff(diff: StoreDiff, top: int) -> None:
    """Print how similar the features of two stores are, and the least similar ones."""
    how = "by layer and number" if diff.match == "number" else "with the most similar one"
    report.print_line(
        f"{len(diff.changes):,} features are active in both, compared {how}: mean similarity {diff.mean_similarity:.3f}"
        if diff.changes
        else "no feature is active in both"
    )
    report.print_line(f"only in the first: {_listed(diff.only_first)}")
    report.print_line(f"only in the second: {_listed(diff.only_second)}")
    report.print_line("labels: " + ", ".join(f"{name} {count:,}" for name, count in diff.labels().items()))
    if not diff.changes or not top:
        return
    table = Table("first", "second", box=None)
    for name in ("similarity", "active", "active in second"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("label", "label in second"):
        table.add_column(name, overflow="fold")
    for each in diff.changes[:top]:
        shares = (f"{each.similarity:.3f}", f"{each.density:.2%}", f"{each.other_density:.2%}")
        names = (Text(printable(each.label)), Text(printable(each.other_label)))
        table.add_row(str(each.feature), str(each.other), *shares, *names)
    report.console.print(table)


def _listed(features: Sequence[Feature]) -> str:
    shown = ", ".join(map(str, features[:FEATURES_LISTED])) + ", …" * (len(features) > FEATURES_LISTED)
    return f"{len(features):,}" + (f" ({shown})" if features else "")

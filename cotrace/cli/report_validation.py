"""A validation as text in a terminal."""

from typing import Any

from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable
from cotrace.graphs import Graph

from . import report

FEATURES_SHOWN = 12
MAX_LAYERS = 90  # a range of distances beyond this has no upper end
CORRELATIONS = {  # label: name in the record's summary
    "influence and effect": "spearman",
    "direct edges and effect": "spearman_direct",
    "activation and effect": "spearman_activation",
    "predicted size and effect": "spearman_predicted",
    "influence and KL": "spearman_kl",
    "predicted and measured": "spearman_signed",
}


def print_validation(graph: Graph) -> None:
    """Print the results of `Model.validate`: a table of ablations, and the numbers that summarize it."""
    record = graph.info["validation"]
    report.console.print(_ablations(record))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    for label, text in _summary(graph, record):
        facts.add_row(label, text)
    report.console.print(facts)


def _ablations(record: dict[str, Any]) -> Table:
    columns = ("ablated", "influence", "predicted", "measured", "effect", "controls", "KL")
    table = Table(*columns, title="validation", title_justify="left", box=None)
    features = [row for row in record["nodes"] if row.get("control_size") is not None]
    for row in features[:FEATURES_SHOWN]:
        table.add_row(Text(printable(row["label"])), *_numbers(row))
    for row in record["groups"]:
        table.add_row(Text(printable(row["name"])), *_numbers(row))
    for row in record["paths"]:
        table.add_row(Text(printable(row["label"])), *_numbers(row))
        kept = (f"{row[name]:+.3f}" for name in ("kept_predicted", "kept_measured"))
        table.add_row("  all other features kept", "", *kept)
    return table


def _numbers(row: dict[str, Any]) -> tuple[str, ...]:
    control = "" if row["control_size"] is None else f"{row['control_size']:.3f}"
    effects = f"{row['predicted']:+.3f}", f"{row['measured']:+.3f}", f"{row['size']:.3f}", control, f"{row['kl']:.4f}"
    return f"{row['influence']:.4f}", *effects


def _summary(graph: Graph, record: dict[str, Any]) -> list[tuple[str, str]]:
    summary, settings = record["summary"], record["settings"]
    population = "the features that were kept" if graph.info["pruning"] else "all features with influence"
    facts = [
        *_correlations(summary, "", f"{summary['sample']} of {population}"),
        *_correlations(summary, "_top", f"the {summary['features']} most influential"),
        *_controls(summary),
        *(_distance(row) for row in record["later"]),
        ("influence on later features", "and relative effect on them"),
        ("  as the model responds", _spearman(summary["spearman_pairs"])),
        ("  with MLPs clamped", _spearman(summary["spearman_pairs_clamped"])),
    ]
    if graph.info["traced"]["bound"] > 0:
        facts.append(("not predicted", "effects through features whose rows were not computed (coverage below 1)"))
    return [*facts, ("settings", f"freeze {settings['freeze']}, errors {settings['errors']}")]


def _correlations(summary: dict[str, Any], suffix: str, population: str) -> list[tuple[str, str]]:
    facts = [(f"of {population}", "")]
    facts += [(f"  {label}", _spearman(summary[name + suffix])) for label, name in CORRELATIONS.items()]
    agreement = summary["sign_agreement" + suffix]
    return facts if agreement is None else [*facts, ("  correct signs", f"{agreement:.0%}")]


def _controls(summary: dict[str, Any]) -> list[tuple[str, str]]:
    if summary["larger_than_controls"] is None:
        return []
    times = summary["times_controls"]
    ratio = "" if times is None else f", {times:.1f} times as much (median)"
    facts = [("  more than controls", f"{summary['larger_than_controls']:.0%}{ratio}")]
    length = summary["control_length"]
    return facts if length is None else [*facts, ("  controls", f"output vectors {length:.2f} times as long (median)")]


def _distance(row: dict[str, Any]) -> tuple[str, str]:
    layers = f"{row['least']}" if row["least"] == row["most"] else f"{row['least']} to {row['most']}"
    if row["most"] > MAX_LAYERS:
        layers = f"{row['least']} and more"
    label = f"{layers} layer{'s' * (row['most'] > 1)} later"
    return label, f"cosine {row['cosine']:.2f}, {row['signs']:.0%} of the predicted change has the correct sign"


def _spearman(interval: dict[str, float] | None) -> str:
    if interval is None:
        return "Spearman unknown: too few values"
    return f"Spearman {interval['value']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"

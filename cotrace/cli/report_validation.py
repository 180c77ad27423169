"""A validation as text in a terminal."""

from typing import Any

from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable
from cotrace.graphs import Graph
from cotrace.graphs.verdicts import LIVE_ESTIMATE, parting_nodes, validation_verdict

from . import report

LINES_SHOWN, MAX_GROUPS, PARTING_SHOWN, PARTING_NAMED = 10, 4, 5, 3
NUMBER_WIDTH = 7  # characters
EXPLANATIONS = (
    "predicted: change of the targets (logits, weighted) that the graph's edges imply if the node is ablated (set to 0)",
    "measured: the change in the model; controls: its mean size for random features of the same size",
)
FIRST_ORDER = {  # label: end of the name in the record's summary
    "with all frozen (total effect in the graph)": "all",
    "attention responds": "norms",
    "MLPs and norms respond": "attention",
    "the model responds": "none",
}
NULLS = {"random directions": "null_directions", "random signs of coordinates": "null_signs"}
MAX_LAYERS = 90  # a range of distances beyond this has no upper end
CORRELATIONS = {  # label: name in the record's summary
    "influence and effect": "spearman",
    "direct edges and effect": "spearman_direct",
    "activation and effect": "spearman_activation",
    "predicted size and effect": "spearman_predicted",
    "influence and KL": "spearman_kl",
    "predicted and measured": "spearman_signed",
}


def print_validation(graph: Graph, *, full: bool = False) -> None:
    """Print the results of `Model.validate`: a verdict and a table of a few ablations; or all of it, if `full`."""
    record = graph.info["validation"]
    report.print_line(f"validation: {validation_verdict(record)}")
    report.console.print(_all_ablations(record) if full else _main_ablations(record))
    for line in EXPLANATIONS:
        report.print_line(f" {line}")
    parting = parting_nodes(record, PARTING_SHOWN) if full else []
    if parting:
        report.print_line(
            "nodes where the first-order estimate and the measurement differ most, relative to the effect:"
        )
        report.console.print(_parting_table(parting))
    for label, text in _summary(graph, record) if full else _short_summary(record):
        report.print_line(f"{label}: {text}" if text else label)


def _main_ablations(record: dict[str, Any]) -> Table:
    """Return a table of `LINES_SHOWN` ablations: groups, the user's last, after the most influential features."""
    groups = record["groups"][-MAX_GROUPS:]
    features = _controlled(record["nodes"])[: LINES_SHOWN - len(groups)]
    table = _table("predicted", "measured", "controls")
    for row in [*features, *groups]:
        numbers = _numbers(row)
        table.add_row(_name(row), numbers["predicted"], numbers["measured"], numbers["controls"])
    return table


def _all_ablations(record: dict[str, Any]) -> Table:
    table = _table("influence", "predicted", "measured", "effect", "controls", "KL")
    for row in [*record["nodes"], *record["groups"]]:
        table.add_row(_name(row), *_numbers(row).values())
    for row in record["paths"]:
        table.add_row(_name(row), *_numbers(row).values())
        kept = (f"{row[name]:+.3f}" for name in ("kept_predicted", "kept_measured"))
        table.add_row("  all other features kept", "", *kept)
    return table


def _parting_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("first order", "measured")
    for row in rows:
        table.add_row(_name(row), f"{row[LIVE_ESTIMATE]:+.3f}", f"{row['measured']:+.3f}")
    return table


def _controlled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the most influential features, which have controls, or all rows if there are none."""
    return [row for row in rows if row["control_size"] is not None] or rows


def _table(*columns: str) -> Table:
    table = Table(box=None)
    table.add_column("ablated", no_wrap=True)
    for column in columns:  # the names give way where a terminal is narrow
        table.add_column(column, no_wrap=True, justify="right", min_width=max(len(column), NUMBER_WIDTH))
    return table


def _name(row: dict[str, Any]) -> Text:
    return Text(printable(row["label"] if "label" in row else row["name"]))


def _numbers(row: dict[str, Any]) -> dict[str, str]:
    """Return the numbers of an ablation by column."""
    return {
        "influence": f"{row['influence']:.4f}",
        "predicted": f"{row['predicted']:+.3f}",
        "measured": f"{row['measured']:+.3f}",
        "effect": f"{row['size']:.3f}",
        "controls": "" if row["control_size"] is None else f"{row['control_size']:.3f}",
        "KL": f"{row['kl']:.4f}",
    }


def _short_summary(record: dict[str, Any]) -> list[tuple[str, str]]:
    summary, settings = record["summary"], record["settings"]
    live = f"spearman_{LIVE_ESTIMATE}"
    estimated = (
        [("first order and effect", f"{_spearman(summary[live])}, the same features")] if live in summary else []
    )
    parting = ", ".join(str(_name(row)) for row in parting_nodes(record, PARTING_NAMED))
    if parting:
        estimated.append(("  farthest apart", parting))
    return [
        ("influence and effect", f"{_spearman(summary['spearman'])}, {summary['sample']} random features of the graph"),
        *estimated,
        ("settings", _settings(settings)),
        ("--full prints", "every ablation, other predictors, and effects on features some layers later"),
    ]


def _settings(settings: dict[str, Any]) -> str:
    return f"freeze {settings['freeze']}, errors {settings['errors']}"


def _summary(graph: Graph, record: dict[str, Any]) -> list[tuple[str, str]]:
    summary, settings = record["summary"], record["settings"]
    population = "the features that were kept" if graph.info["pruning"] else "all features with influence"
    facts = [
        *_correlations(summary, "", f"{summary['sample']} of {population}"),
        *_correlations(summary, "_top", f"the {summary['features']} most influential"),
        *_controls(summary),
        *_nulls(summary),
        *(_distance(row) for row in record["later"]),
        ("influence on later features and relative effect on them", ""),
        ("  as the model responds", _spearman(summary["spearman_pairs"])),
        ("  with MLPs clamped", _spearman(summary["spearman_pairs_clamped"])),
    ]
    if graph.info["traced"]["bound"] > 0:
        facts.append(("not predicted", "effects through features whose rows were not computed (coverage below 1)"))
    return [*facts, ("settings", _settings(settings))]


def _correlations(summary: dict[str, Any], suffix: str, population: str) -> list[tuple[str, str]]:
    facts = [(f"of {population}", "")]
    facts += [(f"  {label}", _spearman(summary[name + suffix])) for label, name in CORRELATIONS.items()]
    agreement = summary["sign_agreement" + suffix]
    if agreement is not None:
        facts.append(("  correct signs", f"{agreement:.0%}"))
    return [*facts, *_first_order(summary, suffix)]


def _first_order(summary: dict[str, Any], suffix: str) -> list[tuple[str, str]]:
    """Return the agreement of estimates by gradients; none in a record without them."""
    names = {f"  first order, {label}": f"first_order_{freeze}{suffix}" for label, freeze in FIRST_ORDER.items()}
    names["  integrated along the ablation"] = f"integrated{suffix}"
    return [(label, _agreement(summary, name)) for label, name in names.items() if f"spearman_{name}" in summary]


def _nulls(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what vectors of the same lengths with random directions do, and how well first order predicts that."""
    facts = []
    for label, null in NULLS.items():
        times = summary.get(f"times_{null}")
        if times is not None:
            agreement = _agreement(summary, f"{null}_top")
            facts.append((f"  {label}", f"features change the targets {times:.2f} times as much (median); {agreement}"))
    return facts


def _agreement(summary: dict[str, Any], name: str) -> str:
    signs = summary.get(f"signs_{name}")
    right = "" if signs is None else f", {signs:.0%} correct signs"
    return f"{_spearman(summary[f'spearman_{name}'])}{right}"


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

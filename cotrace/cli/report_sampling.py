"""What rows drawn at random mean for the numbers of a graph, as text in a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.graphs import Graph
from cotrace.graphs.drawing.text import format_percent
from cotrace.graphs.nodes import text_of_positions
from cotrace.graphs.subgraph import is_subgraph

from . import report

SCORES = ("replacement", "completeness")
INTERVAL, LIMITS = "95% interval", "certain limits"  # columns of shares


def with_error(value: float, standard_error: float | None, digits: int = 4) -> str:
    """Return a number, and its standard error if it is an estimate: `0.1234 ± 0.0021`."""
    shown = f"{value:.{digits}f}"
    return shown if not standard_error else f"{shown} ± {standard_error:.{digits}f}"


def scores_text(scores: dict[str, Any]) -> str:
    """Return both scores in the metadata of a graph, with their intervals if they are estimates."""
    named = [f"{name} {scores[name]:.3f}{_interval(scores.get(f'{name}_interval'))}" for name in SCORES]
    return ", ".join(named)


def sampling_lines(graph: Graph) -> list[str]:
    """Return what `--full` adds about an estimated graph."""
    traced, sampling = graph.info["traced"], graph.info["traced"]["sampling"]
    seeds = ", ".join(map(str, sampling["seeds"]))
    added = f", {sampling['rows_added']:,} of them only for the circuit" if sampling["rows_added"] else ""
    kinds = Counter(graph.influence_kind()[graph.column("influence") > 0].tolist())
    return [
        f"{traced['rows']:,} rows were computed{added}; seed{'s' * (len(sampling['seeds']) > 1)} {seeds}",
        f"for certain, the computed rows hold {traced['coverage']:.2%} of the influence, and each node's influence is at most "
        f"{traced['bound']:.3g} above what passes along them",
        f"influence of nodes: {kinds['exact']:,} are exact, {kinds['certified']:,} better known by these limits, "
        f"{kinds['estimate']:,} by their estimates",
    ]


def print_shares(graph: Graph, spans: Mapping[str, Sequence[int]], shares: pa.Table) -> None:
    """Print where the influence starts: a row for each span of the prompt, and one for all error nodes."""
    targets = graph.info["targets"]
    on = quoted(targets[0]["label"]) if len(targets) == 1 else f"all {len(targets)} targets"
    report.print_line(f"influence on {on}, by where it starts")
    table, columns = Table("span", "positions", box=None), _columns(graph)
    for header in ("share", *columns):
        table.add_column(header, justify="right")
    for row in shares.to_pylist():
        where = text_of_positions(spans[row["name"]]) if row["name"] in spans else ""
        cells = {"± standard error": format_percent(row["standard_error"])}
        cells |= dict.fromkeys((INTERVAL, LIMITS), f"{format_percent(row['low'])} to {format_percent(row['high'])}")
        table.add_row(
            Text(printable(row["name"])), where, format_percent(row["share"]), *(cells[name] for name in columns)
        )
    report.console.print(table)
    if graph.estimated and not graph.sampled:
        report.print_line(
            "along the edges of this file; estimates are in the whole graph, which `cotrace trace --full` keeps"
        )


def _columns(graph: Graph) -> Sequence[str]:
    """Return the columns that say how certain shares are."""
    if graph.sampled:
        return "± standard error", INTERVAL
    is_whole = not graph.info["pruning"] and not is_subgraph(graph)
    return (LIMITS,) if is_whole and not graph.computed[graph.order.features].all() else ()


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"

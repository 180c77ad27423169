"""Answers to queries of a graph as text in a terminal."""

from collections.abc import Callable, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.graphs import Graph, node_label
from cotrace.graphs.drawing.text import format_percent
from cotrace.graphs.flow import STARTS, Flow
from cotrace.graphs.nodes import text_of_positions
from cotrace.graphs.subgraph import is_subgraph

from . import report
from .show_queries import Ancestry, Answers, Shares

TARGET_COLUMNS = 3  # more targets are added up
INTERVAL, LIMITS = "95% interval", "certain limits"  # columns of shares


def print_answers(graph: Graph, answers: Answers, top: int) -> None:
    """Print the answers to all queries."""
    if answers.paths is not None:
        report.print_paths(graph, answers.paths) if answers.paths else report.print_line("no path leads there")
    if answers.ancestors is not None:
        _print_ancestry(graph, answers.ancestors, "ancestors", top)
    if answers.descendants is not None:
        _print_ancestry(graph, answers.descendants, "descendants", top)
    if answers.flow is not None:
        _print_flow(answers.flow)
    if answers.shares is not None:
        print_shares(graph, answers.shares)


def _print_ancestry(graph: Graph, ancestry: Ancestry, what: str, top: int) -> None:
    """Print the nodes with the largest shares."""
    found, count = ancestry.found, len(ancestry.found)
    title = f"{what} of {', '.join(map(printable, ancestry.of))}: {count:,}"
    table = Table("node", "name", "share", "effect", title=Text(title), title_justify="left", box=None)
    for row in found.slice(0, top).to_pylist():
        effect = "" if row["effect"] is None else f"{row['effect']:+.3f}"
        table.add_row(str(row["node"]), Text(node_label(graph, row["node"])), format_percent(row["share"]), effect)
    report.console.print(table)
    if count > top:
        report.print_line(f" … and {count - top:,} more: --top lists more, --min-share leaves out small ones")


def _print_flow(flow: Flow) -> None:
    """Print what edges carry from each span to each span and to the targets, and where it starts."""
    n_spans, targets = len(flow.spans), list(flow.targets)
    matrices = [flow.share_SC, flow.effect_SC]
    if len(targets) > TARGET_COLUMNS:
        matrices = [np.column_stack([each[:, :n_spans], each[:, n_spans:].sum(1)]) for each in matrices]
        targets = [f"all {len(targets)} targets"]
    headers = [*STARTS, *(f"→ {name}" for name in (*flow.spans, *targets))]
    shares, effects = (
        np.hstack(parts) for parts in zip((flow.share_start_SK, flow.effect_start_SK), matrices, strict=True)
    )
    _print_matrix("flow, share of the influence", flow, headers, shares, format_percent)
    _print_matrix("flow, signed effect", flow, headers, effects, "{:+.3g}".format)


def _print_matrix(
    title: str, flow: Flow, headers: list[str], values: np.ndarray, write: Callable[[float], str]
) -> None:
    """Print a row for each span; zeros are left out."""
    table = Table("span", "positions", title=title, title_justify="left", box=None)
    for header in headers:
        table.add_column(Text(printable(header)), justify="right")
    for (name, positions), row in zip(flow.spans.items(), values.tolist(), strict=True):
        cells = (write(value) if value else "" for value in row)
        table.add_row(Text(printable(name)), text_of_positions(positions), *cells)
    report.console.print(table)


def print_shares(graph: Graph, shares: Shares) -> None:
    """Print where the influence starts: a row for each span of the prompt, and one for all error nodes."""
    targets, spans = shares.targets, shares.spans
    on = quoted(targets[0]["label"]) if len(targets) == 1 else f"all {len(targets)} targets"
    report.print_line(f"influence on {on}, by where it starts")
    table, columns = Table("span", "positions", box=None), _columns(graph)
    for header in ("share", *columns):
        table.add_column(header, justify="right")
    for row in shares.found.to_pylist():
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

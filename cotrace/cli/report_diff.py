"""Differences of graphs as text in a terminal, as JSON and as CSV."""

from typing import Any

import pyarrow as pa
from pyarrow import csv
from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.graphs.data import GraphData
from cotrace.graphs.diff.diff import GraphDiff
from cotrace.graphs.diff.grouped import GROUPINGS

from . import report

STATUS_WORDS = {"both": "both", "changed": "changed", "only_a": "only A", "only_b": "only B"}
PART_WORDS = {"sites": "layers × positions"}
TOKENS_SHOWN = 12


def table_of(diff: GraphDiff, name: str, top: int | None = None) -> pa.Table:
    """Return one table of a difference: nodes, edges with the names of their ends, or nodes summed; the `top` rows of it."""
    if name in GROUPINGS:
        return diff.by(name).slice(0, top)
    if name == "nodes":
        return diff.nodes if top is None else diff.top_nodes(top)
    edges = diff.edges if top is None else diff.top_edges(top)
    names = diff.nodes["name"]
    ends = {end: names.take(edges[end]) for end in ("source", "target")}
    return edges.append_column("source_name", ends["source"]).append_column("target_name", ends["target"])


def as_json(diff: GraphDiff, table: str, top: int) -> dict[str, Any]:
    """Return what `print_diff` prints as values that JSON can hold."""
    return {
        "a": _origin(diff.a),
        "b": _origin(diff.b),
        "match": diff.match,
        "alignment": diff.alignment.pairs,
        "targets": {
            side: [target["label"] for target in chosen] for side, chosen in zip("ab", diff.targets, strict=True)
        },
        "cautions": diff.cautions,
        "similarity": diff.similarity.to_pylist(),
        table: table_of(diff, table, top).to_pylist(),
    }


def _origin(graph: GraphData) -> dict[str, str]:
    return {
        "prompt": graph.info["prompt"],
        "model": graph.info["model"]["name"],
        "transcoders": graph.info["transcoders"]["name"],
    }


def print_csv(diff: GraphDiff, table: str) -> None:
    """Print all rows of a table as CSV."""
    found = table_of(diff, table)
    columns = [column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column for column in found.columns]
    sink = pa.BufferOutputStream()
    csv.write_csv(pa.table(columns, found.column_names), sink)
    print(sink.getvalue().to_pybytes().decode(), end="")


def print_diff(diff: GraphDiff, table: str, top: int) -> None:
    """Print what is compared, how alike the graphs are, and the rows of one table that changed most."""
    _print_facts(diff)
    _print_similarity(diff)
    rows = table_of(diff, table, top)
    if rows.num_rows:
        {"nodes": _print_nodes, "edges": _print_edges}.get(table, _print_sums)(diff, rows)


def print_sets(sets: pa.Table) -> None:
    """Print one line for each set of transcoders."""
    table = Table("transcoders", box=None)
    for name in ("features", "per layer and position", "errors", "edges", "coverage", "replacement", "completeness"):
        table.add_column(name, justify="right")
    for row in sets.to_pylist():
        table.add_row(
            Text(printable(row["transcoders"])),
            f"{row['features']:,}",
            f"{row['per_site']:.1f}",
            f"{row['errors']:,}",
            f"{row['edges']:,}",
            f"{row['coverage']:.2%}",
            *(f"{row[score]:.3f}" for score in ("replacement", "completeness")),
        )
    report.console.print(table)


def _print_facts(diff: GraphDiff) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, graph in (("A", diff.a), ("B", diff.b)):
        origin = _origin(graph)
        shown = f"{report.shortened(origin['prompt'])}, {printable(origin['model'])} with {printable(origin['transcoders'])}"
        facts.add_row(name, Text(shown))
    facts.add_row("positions", Text(_alignment(diff)))
    targets = [_targets(chosen) for chosen in diff.targets]
    facts.add_row("targets", Text(targets[0] if targets[0] == targets[1] else f"A: {targets[0]}; B: {targets[1]}"))
    facts.add_row("matched by", diff.match)
    for caution in diff.cautions:
        facts.add_row("note", Text(caution))
    report.console.print(facts)


def _targets(targets: list[dict[str, Any]]) -> str:
    return quoted(targets[0]["label"]) if len(targets) == 1 else f"all {len(targets)} targets"


def _alignment(diff: GraphDiff) -> str:
    """Return how many positions correspond, and the tokens that do not."""
    if diff.alignment.is_identity:
        return f"all {len(diff.alignment.pairs)} correspond{_replaced(diff)}"
    alone = {
        name: [quoted(graph.info["tokens"][pair[side]]) for pair in diff.alignment.positions if pair[1 - side] is None]
        for side, (name, graph) in enumerate((("A", diff.a), ("B", diff.b)))
    }
    shown = [f"only in {name}: {_listed(tokens)}" for name, tokens in alone.items() if tokens]
    return f"{len(diff.alignment.pairs)} correspond{_replaced(diff)}; {'; '.join(shown)}"


def _replaced(diff: GraphDiff) -> str:
    texts = [(diff.a.info["tokens"][a], diff.b.info["tokens"][b]) for a, b in diff.alignment.pairs]
    others = [f"{quoted(a)} with {quoted(b)}" for a, b in texts if a != b]
    return f", {_listed(others)}" if others else ""


def _listed(texts: list[str]) -> str:
    more = f", and {len(texts) - TOKENS_SHOWN} more" if len(texts) > TOKENS_SHOWN else ""
    return ", ".join(texts[:TOKENS_SHOWN]) + more


def _print_similarity(diff: GraphDiff) -> None:
    table = Table("", box=None)
    for name in ("both", "changed", "only A", "only B", "weighted Jaccard", "rank correlation"):
        table.add_column(name, justify="right")
    for row in diff.similarity.to_pylist():
        correlation = "" if row["correlation"] is None else f"{row['correlation']:.3f}"
        counts = (f"{row[status]:,}" for status in STATUS_WORDS)
        table.add_row(PART_WORDS.get(row["part"], row["part"]), *counts, f"{row['jaccard']:.3f}", correlation)
    report.console.print(table)


def _print_nodes(diff: GraphDiff, rows: pa.Table) -> None:
    common = diff.common_target
    has_effects = common is not None and rows["expected_a"].null_count + rows["expected_b"].null_count < 2 * len(rows)
    table = Table("name", "where", box=None, title="largest changes of influence", title_justify="left")
    headers = ["influence A", "influence B", "change", *(("if ablated A", "if ablated B") if has_effects else ())]
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows.to_pylist():
        name = f"{row['name']} {quoted(row['label'])}" if row["label"] and row["kind"] != "label" else row["name"]
        effects = (_signed(row[f"expected_{side}"]) for side in "ab") if has_effects else ()
        table.add_row(Text(name), STATUS_WORDS[row["status"]], *_influences(row), *effects)
    report.console.print(table)


def _print_edges(diff: GraphDiff, rows: pa.Table) -> None:
    table = Table("edge", "where", box=None, title="largest changes of influence", title_justify="left")
    for header in ("influence A", "influence B", "change", "effect A", "effect B"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows.to_pylist():
        effects = (_signed(row[f"weight_{side}"] or None) for side in "ab")
        name = f"{row['source_name']} → {row['target_name']}"
        table.add_row(Text(name), STATUS_WORDS[row["status"]], *_influences(row), *effects)
    report.console.print(table)


def _print_sums(diff: GraphDiff, rows: pa.Table) -> None:
    keys = rows.column_names[: rows.column_names.index("both")]
    table = Table(*(key.replace("_", " ") for key in keys), box=None)
    for header in (*STATUS_WORDS.values(), "influence A", "influence B", "change", "weighted Jaccard"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows.to_pylist():
        texts = (
            "" if row[key] is None else quoted(row[key]) if "token" in key else printable(str(row[key])) for key in keys
        )
        counts = (f"{row[status]:,}" for status in STATUS_WORDS)
        table.add_row(*map(Text, texts), *counts, *_influences(row), f"{row['jaccard']:.3f}")
    report.console.print(table)


def _influences(row: dict[str, Any]) -> tuple[str, str, str]:
    return f"{row['influence_a']:.4f}", f"{row['influence_b']:.4f}", f"{row['change']:+.4f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"

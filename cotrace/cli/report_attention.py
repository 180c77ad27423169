"""Why a head attends where it does, as text in a terminal."""

from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.graphs.attention_scores import AttentionScore, Side

from . import report


def print_attention(score: AttentionScore, count: int) -> None:
    """Print the score of a head from a query to a key: competing keys, and the largest nodes and pairs."""
    _print_facts(score)
    report.console.print(_keys(score, count))
    report.print_line(" margin: score of the chosen key − this one's; exp(margin) is the ratio of their attention")
    report.console.print(_kinds(score))
    for side in ("query", "key"):
        report.console.print(_nodes(score, side, count))
    report.print_line(
        " score: the node's part in the score; preference: in its lead over the other keys, by their attention"
    )
    report.console.print(_pairs(score, count))


def _print_facts(score: AttentionScore) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    info = score.info
    seen = f"sees positions {score.first_key} … {score.query}"
    values = f"{score.score:+.3f} before the softmax; {score.probability:.1%} of the attention"
    facts.add_row("prompt", Text(report.shortened(info["prompt"])))
    facts.add_row("model", Text(printable(f"{info['model']['name']} with {info['transcoders']['name']}")))
    facts.add_row("head", f"layer {score.layer}, head {score.head}")
    facts.add_row("query", Text(f"{_token(score, score.query)}, {seen}"))
    facts.add_row("key", Text(_token(score, score.key)))
    facts.add_row("score", values)
    report.console.print(facts)


def _keys(score: AttentionScore, count: int) -> Table:
    """Return a table of the keys that get the most attention."""
    table = _table("keys, by attention", "key", "score", "margin", "attention")
    order = np.argsort(-score.keys["score"].to_numpy(), kind="stable")[:count]
    for row in score.keys.take(order).to_pylist():
        chosen = row["position"] == score.key
        margin = "chosen" if chosen else f"{row['margin']:+.3f}"
        table.add_row(Text(_token(score, row["position"])), f"{row['score']:+.3f}", margin, f"{row['probability']:.1%}")
    return table


def _kinds(score: AttentionScore) -> Table:
    """Return a table of the score by kinds of nodes of the query (rows) and of the key (columns)."""
    rows = score.by("kind").to_pylist()
    keys = list(dict.fromkeys(row["key"] for row in rows))
    parts = {(row["query"], row["key"]): row["score"] for row in rows}
    table = _table("score by kind of query node (row) and key node", "", *keys, "sum")
    for query in dict.fromkeys(row["query"] for row in rows):
        own = [parts[query, key] for key in keys]
        table.add_row(query, *(f"{part:+.3f}" for part in [*own, sum(own)]))
    return table


def _nodes(score: AttentionScore, side: Side, count: int) -> Table:
    """Return a table of a side's largest nodes, with the token at the position of each."""
    position = score.query if side == "query" else score.key
    has_preference = side == "query" and score.query > score.first_key
    headers = ["node", "token", "score", *["preference"] * has_preference]
    table = _table(f"nodes of the {side} {_token(score, position)}", *headers)
    for row in _rows(score.top(count, side)):
        at = "" if row["position"] is None else quoted(score.info["tokens"][row["position"]])
        numbers = [row["score"], *[row["preference"]] * has_preference] if has_preference else [row["score"]]
        table.add_row(Text(row["name"]), Text(at), *(f"{number:+.3f}" for number in numbers))
    return table


def _pairs(score: AttentionScore, count: int) -> Table:
    """Return a table of the largest pairs."""
    table = _table("largest pairs", "query node", "key node", "score")
    for row in _rows(score.pairs(count)):
        table.add_row(Text(row["query_node"]), Text(row["key_node"]), f"{row['score']:+.3f}")
    return table


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return list(table.to_pylist())


def _token(score: AttentionScore, position: int) -> str:
    return f"{quoted(score.info['tokens'][position])}@{position}"


def _table(title: str, *headers: str) -> Table:
    """Return an empty table whose last columns, of numbers, are aligned to the right."""
    table = Table(title=Text(title), title_justify="left", box=None)
    for header in headers:
        is_text = header in ("", "key", "node", "token", "query node", "key node")
        table.add_column(header, justify="left" if is_text else "right", no_wrap=not is_text)
    return table

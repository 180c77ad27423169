"""One self-contained HTML page of a report: the picture, and its tables below. It loads nothing."""

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pyarrow as pa

from cotrace.common.visible_text import printable, visible

from ..data import ReportData
from .words import sentence_of

MAX_ROWS, LONG, MAX_NESTED = 500, 24, 300  # rows of a table; characters of a cell that wraps, of nested values
FIRST_COLUMNS = ("name", "step", "text", "value", "stated_value", "verdict", "confirmed", "score", "reason")
ONLY_IN_FILES = ("command", "recipe")
STYLE = """
body { font: 15px/1.5 Helvetica, Arial, sans-serif; color: #1f2933; background: #fff; max-width: 1280px; margin: 1em auto;
  padding: 0 1em }
svg { width: 100%; height: auto }
h2 { font-size: 1.15em; margin: 1.6em 0 .3em }
p { margin: .2em 0 .6em; color: #52606d }
div { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px }
th, td { padding: .25em .7em .25em 0; text-align: left; vertical-align: top; border-bottom: 1px solid #dfe4e9 }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td { white-space: nowrap }
td.long { white-space: normal; min-width: 18em; max-width: 34em; overflow-wrap: anywhere }
tbody tr:hover { background: #f5f7f9 }
"""
TABLES = {
    "steps": "Does the answer use what each step states?",
    "sources": "Where the answer's value comes from: cells of its ledger, in logits; shares add up to 1.",
    "links": "For each step and the answer: the share of its value that comes from each source, and whether its text cites the source.",
    "evidence": "Every intervention. `cotrace compare --replay FILE --row NUMBER` runs one again.",
    "segments": "The transcript, with its stated values and their alternatives.",
}


def report_html(report: ReportData, svg: str) -> str:
    """Return the page of a report whose picture is `svg`.

    Pointing at a band or a link dims the links that do not touch it.
    """
    score = "no score" if report.score is None else f"score {report.score:.2f}"
    title = f"{report.verdict}, {score}"
    sections = "".join(_section(name, text, getattr(report, name)) for name, text in TABLES.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{STYLE}{_hover_rules(report)}</style></head>\n<body>\n{svg}"
        f"<p>{escape(sentence_of(report))} {escape(visible(report.reason))}</p>\n{sections}{_facts(report)}"
        "</body></html>\n"
    )


def _hover_rules(report: ReportData) -> str:
    """Return rules that dim other links while the pointer is on a segment. Rules select segments by name."""
    rules = []
    for name in report.segments["name"].to_pylist():
        quoted = _css_text(name)
        on = f"svg:has([data-segment={quoted}]:hover)"
        rules.append(f"{on} [data-source]:not([data-source={quoted}]):not([data-target={quoted}]) {{ opacity: .12 }}")
    return "\n".join(rules)


def _css_text(text: str) -> str:
    """Return a text as a CSS string; everything but ASCII letters and digits is escaped."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):x} " for c in text) + '"'


def _section(name: str, text: str, table: pa.Table) -> str:
    rows = table.slice(0, MAX_ROWS).to_pylist()
    columns = [column for column in FIRST_COLUMNS if column in table.column_names]
    columns += [column for column in table.column_names if column not in (*columns, *ONLY_IN_FILES)]
    columns = [column for column in columns if any(row[column] is not None for row in rows)]
    more = f"<p>… {table.num_rows - MAX_ROWS:,} more rows</p>" if table.num_rows > MAX_ROWS else ""
    head = f'<h2 id="{name}">{name.capitalize()}</h2>\n<p>{escape(text)}</p>\n'
    return f"{head}{_table(columns, rows)}{more}\n" if rows else f"{head}<p>none</p>\n"


def _table(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    columns = list(columns)
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(row[column]) for column in columns)}</tr>\n" for row in rows)
    return f"<div><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"


def _cell(value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, int | float):
        return (
            f'<td class="number">{value:.4g}</td>' if isinstance(value, float) else f'<td class="number">{value}</td>'
        )
    text = printable(", ".join(map(str, value)) if isinstance(value, list) else str(value)).strip()
    return f'<td class="long">{escape(text)}</td>' if len(text) > LONG else f"<td>{escape(text)}</td>"


def _facts(report: ReportData) -> str:
    """Return cost and settings as lists of names and values."""
    parts = []
    for title, entries in (("Cost in passes", report.cost), ("Settings", report.settings)):
        rows = [{"name": name, "value": _flat(value)} for name, value in entries.items()]
        parts.append(f"<h2>{title}</h2>\n{_table(('name', 'value'), rows)}\n" if rows else "")
    return "".join(parts)


def _flat(value: Any) -> Any:
    """Return the value of a cell: nested ones as JSON, shortened if it is long."""
    if not isinstance(value, dict | list):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_NESTED else f"{text[:MAX_NESTED]}…"

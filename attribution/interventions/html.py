"""HTML tables of results for notebooks."""

from collections.abc import Iterable, Sequence
from html import escape

from cotrace.common.visible_text import visible

MAX_ROWS = 20


def table_html(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table of at most `MAX_ROWS` rows; floats are shown with four digits, texts are escaped and made visible."""
    rows = list(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows[:MAX_ROWS])
    more = len(rows) - MAX_ROWS
    foot = f'<tr><td colspan="{len(columns)}">… {more:,} more</td></tr>' if more > 0 else ""
    return f"<table><caption>{escape(visible(title))}</caption><tr>{head}</tr>{body}{foot}</table>"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(visible(str(value)))

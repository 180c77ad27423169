"""The answer's ledger as a bar: cells in the order in which they are drawn, grouped by parts in plain words."""

from collections.abc import Mapping
from typing import Any

from cotrace.graphs.drawing.text import format_percent, text_width

from ..data import ReportData
from .canvas import Box, Canvas, Spot
from .style import (
    BAND_LEFT_PT,
    HINTED,
    INK,
    MARGIN_PT,
    OTHER_FILL,
    PAGE_PT,
    PALE_INK,
    PAPER,
    SMALL_PT,
    STATED,
    UNKNOWN_FILL,
    UNSTATED,
)
from .words import part_name, segment_name

BAR_PT, LABEL_LINE_PT, SWATCH_PT, PART_GAP_PT = 22.0, 12.0, 9.0, 18.0
LEAST_LABELLED_PT = 26.0  # width of a cell that has its share written inside
AGAINST = "−"  # in front of the share of a cell that lowers the answer's margin
AGAINST_MEANS = f"{AGAINST}: against the answer"
LEAST_PART = 0.005  # of a part that is listed; the unknown part always is
FILLS = {"content": STATED, "question": UNSTATED, "hint": HINTED, "unknown": UNKNOWN_FILL}
SOURCES_IN_ORDER = ("content", "question", "hint")


def ordered_cells(report: ReportData) -> list[dict[str, Any]]:
    """Return the cells of the ledger as the bar shows them: words of steps, question, hint, all others, unknown."""

    def place(cell: Mapping[str, Any]) -> tuple[int, int]:
        source = cell["source"]
        if source == "unknown":
            return len(SOURCES_IN_ORDER) + 1, 0
        rank = SOURCES_IN_ORDER.index(source) if source in SOURCES_IN_ORDER else len(SOURCES_IN_ORDER)
        return rank, int(cell["route"] == "latent")

    return sorted(report.sources.to_pylist(), key=place)


def draw_ledger(canvas: Canvas, report: ReportData, top: float) -> None:
    """Draw the bar below the answer, and below it the share of each part."""
    canvas.text((MARGIN_PT, top + BAR_PT / 2 - 5.5), "Where the", SMALL_PT, bold=True)
    canvas.text((MARGIN_PT, top + BAR_PT / 2 + 5.5), "answer comes from", SMALL_PT, bold=True)
    cells, parts = ordered_cells(report), dict[str, list[dict[str, Any]]]()
    left, right = BAND_LEFT_PT, PAGE_PT[0] - MARGIN_PT
    x = left
    for cell in cells:
        width = cell["share"] * (right - left)
        if width > 0:
            _draw_cell(canvas, cell, (x, top, x + width, top + BAR_PT))
        parts.setdefault(part_name(cell), []).append(cell)
        x += width
    canvas.frame((left, top, right, top + BAR_PT), INK, 0.8)
    _draw_parts(canvas, parts, (left, top + BAR_PT + 10, right, top))


def _draw_cell(canvas: Canvas, cell: Mapping[str, Any], box: Box) -> None:
    """Draw a cell: full for words and direct routes, hatched for latent ones; the share inside where there is room."""
    left, top, right, bottom = box
    data = (("cell", cell["cell"]), ("share", f"{cell['share']:.6g}"))
    tooltip = (
        f"{cell['cell']}: {format_percent(cell['share'])}, {cell['effect']:+.4g} logits (gross {cell['gross']:.4g})"
    )
    _fill(canvas, cell, box, tooltip, data)
    canvas.line((right, top), (right, bottom), PAPER, 1.0)
    if right - left >= LEAST_LABELLED_PT:
        ink = PAPER if _is_dark(cell) else INK
        label = f"{AGAINST if cell['effect'] < 0 else ''}{100 * cell['share']:.0f}%"
        named = f"{segment_name(cell['segment'] or cell['source'])}  {label}"
        label = named if text_width(named, SMALL_PT) + 8 <= right - left else label
        if cell["route"] == "latent":
            half = text_width(label, SMALL_PT) / 2 + 3
            middle = (left + right) / 2
            canvas.line((middle - half, (top + bottom) / 2), (middle + half, (top + bottom) / 2), PAPER, 12.0)
        canvas.text(((left + right) / 2, (top + bottom) / 2), label, SMALL_PT, ink, "middle", bold=True)


def _fill(canvas: Canvas, cell: Mapping[str, Any], box: Box, tooltip: str = "", data: Any = ()) -> None:
    color = FILLS.get(cell["source"], OTHER_FILL)
    if cell["route"] == "latent":
        canvas.band(box, PAPER, tooltip, data)
        canvas.hatch(box, color)
        canvas.frame(box, color)
    else:
        canvas.band(box, color, tooltip, data)
        if cell["source"] == "unknown":
            canvas.frame(box, PALE_INK, 0.6)


def _is_dark(cell: Mapping[str, Any]) -> bool:
    return cell["source"] in SOURCES_IN_ORDER and cell["route"] != "latent"


def _draw_parts(canvas: Canvas, parts: Mapping[str, list[dict[str, Any]]], box: Box) -> None:
    """Draw a swatch, the name and the share of each part, and what a sign means, in lines as long as the bar."""
    left, y, right, _ = box
    x = left
    for name, cells in parts.items():
        share = sum(cell["share"] for cell in cells)
        if share >= LEAST_PART or name == "unknown":
            text = f"{name} {100 * share:.0f}%"
            x, y = _next_place(x, y, SWATCH_PT + 4 + text_width(text, SMALL_PT), left, right)
            _fill(canvas, cells[0], (x, y - SWATCH_PT / 2, x + SWATCH_PT, y + SWATCH_PT / 2))
            canvas.text((x + SWATCH_PT + 4, y), text, SMALL_PT, data=(("part", name), ("part-share", f"{share:.6g}")))
            x += SWATCH_PT + text_width(text, SMALL_PT) + PART_GAP_PT
    least = LEAST_LABELLED_PT / (right - left)
    if any(cell["effect"] < 0 and cell["share"] >= least for cells in parts.values() for cell in cells):
        canvas.text(
            _next_place(x, y, text_width(AGAINST_MEANS, SMALL_PT), left, right), AGAINST_MEANS, SMALL_PT, PALE_INK
        )


def _next_place(x: float, y: float, width: float, left: float, right: float) -> Spot:
    """Return where the next words of some width stand: at x and y, or at the start of the next line."""
    return (x, y) if x + width <= right or x == left else (left, y + LABEL_LINE_PT)

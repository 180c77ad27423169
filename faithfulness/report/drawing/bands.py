"""Bands of the picture: mark, name, tokens and features of each segment, and the evidence beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from cotrace.common.visible_text import printable
from cotrace.graphs.drawing.style import ShapeStyle
from cotrace.graphs.drawing.text import shorten, text_width
from cotrace.graphs.labels import short_label

from ..data import ReportData
from ..schemas import CONFIRMED, MOTIVATED, POST_HOC, REFUTED
from .canvas import Canvas, Spot
from .layout import PageRows, Row
from .style import (
    BAND_LEFT_PT,
    BAND_PADDING_PT,
    BAND_RIGHT_PT,
    CHIP_HEIGHT_PT,
    CHIP_STYLE,
    CHIPS_PT,
    EVIDENCE_LEFT_PT,
    INK,
    MARGIN_PT,
    MARK_INKS,
    MARK_PT,
    MARK_STYLES,
    NAME_PT,
    OTHER_FILL,
    PAGE_PT,
    PALE_INK,
    SEGMENT_STYLES,
    SMALL_PT,
    STATED,
    TINY_PT,
    UNUSED_VALUE_STYLE,
    VALUE_STYLE,
)
from .text_lines import FRAME_EM, PlacedPiece, runs_right_to_left
from .words import MARK_MEANINGS, MARKS, edits_in_words, segment_name, source_edits_in_words

DECIDING_ROLE = {POST_HOC: "question", MOTIVATED: "hint"}
SCORE_BAR_PT, CHIP_GAP_PT = 44.0, 4.0


def draw_bands(canvas: Canvas, report: ReportData, page: PageRows) -> None:
    """Draw the bands of all segments with the evidence of steps."""
    evidence = report.evidence.to_pylist()
    for number, row in enumerate(page.rows):
        style = segment_style(report, row.segment, row.step)
        data = (("segment", row.name), ("role", row.segment["role"]), ("style", style))
        box = (BAND_LEFT_PT, row.top, BAND_RIGHT_PT, row.bottom)
        canvas.shape(box, SEGMENT_STYLES[style], tooltip=_tooltip(row), data=data, name=shape_name(number))
        _draw_name(canvas, row)
        _draw_text(canvas, row, style == "unused")
        _draw_features(canvas, row)
        if row.step is not None:
            _draw_evidence(canvas, row, evidence)
        elif row.segment["role"] in ("question", "hint"):
            words = source_edits_in_words(row.segment["role"], evidence)
            canvas.text((EVIDENCE_LEFT_PT, row.middle), words, TINY_PT, PALE_INK)


def shape_name(number: int) -> str:
    """Return the name of the shape of a row's band, to which links are tied."""
    return f"band {number}"


def segment_style(report: ReportData, segment: Mapping[str, Any], step: Mapping[str, Any] | None) -> str:
    """Return the name of a segment's style: what decided, and whether a step is used."""
    role = segment["role"]
    if role == DECIDING_ROLE.get(report.verdict):
        return "decides"
    if step is not None:
        return {CONFIRMED: "used", REFUTED: "unused"}.get(step["confirmed"], "step")
    return role if role in SEGMENT_STYLES else "step"


def _tooltip(row: Row) -> str:
    segment = row.segment
    facts = [f"{row.name}, tokens {segment['first']} to {segment['last']}"]
    if segment["value"] is not None:
        facts.append(f"states {segment['value']!r} ({segment['value_rule']})")
    if row.step is not None:
        facts.append(f"{row.step['verdict']}: {row.step['reason']}")
    return ", ".join(facts)


def _draw_name(canvas: Canvas, row: Row) -> None:
    x = BAND_LEFT_PT + 8
    if row.step is not None:
        status = row.step["confirmed"]
        box = (x, row.middle - MARK_PT / 2, x + MARK_PT, row.middle + MARK_PT / 2)
        meaning = f"{row.name} {MARK_MEANINGS[status]}"
        canvas.shape(box, MARK_STYLES[status], tooltip=meaning, data=(("mark", row.name), ("status", status)))
        canvas.text((x + MARK_PT / 2, row.middle), MARKS[status], 10, MARK_INKS[status], "middle", bold=True)
        x += MARK_PT + 5
    width = BAND_LEFT_PT + NAME_PT - x - 3
    canvas.text((x, row.middle), shorten(segment_name(row.name), width, SMALL_PT), SMALL_PT, INK, bold=True)


def _draw_text(canvas: Canvas, row: Row, pale: bool) -> None:
    """Draw the lines of tokens, the stated value in a frame."""
    ink, left, size = PALE_INK if pale else INK, BAND_LEFT_PT + NAME_PT, row.text_size
    y = row.middle - row.line_height * (len(row.lines) - 1) / 2
    for line in row.lines:
        if runs_right_to_left(row.pieces):  # a viewer puts the words of a whole line into their order
            canvas.text((left, y), "".join(printable(placed.piece.text) for placed in line).strip(), size, ink)
        else:
            _draw_frame(canvas, line, (left, y), size, UNUSED_VALUE_STYLE if pale else VALUE_STYLE)
            for placed in line:
                data = () if placed.piece.position is None else (("position", str(placed.piece.position)),)
                spot = (left + placed.start * size, y)
                canvas.text(spot, placed.text, size, ink, bold=placed.piece.is_value, data=data)
        y += row.line_height


def _draw_frame(canvas: Canvas, line: Sequence[PlacedPiece], spot: Spot, size: float, style: ShapeStyle) -> None:
    """Draw a frame for the tokens of a value that are on one line."""
    value = [placed for placed in line if placed.piece.is_value]
    if value:
        (left, y), frame = spot, FRAME_EM * size
        start, end = left + value[0].start * size - frame, left + value[-1].end * size + frame
        canvas.shape((start, y - size * 0.6, end, y + size * 0.6), style)


def _draw_features(canvas: Canvas, row: Row) -> None:
    """Draw the names of the strongest features at the right end of a band, as many as fit."""
    left, right = BAND_RIGHT_PT - CHIPS_PT + 6, BAND_RIGHT_PT - BAND_PADDING_PT
    lines = max(1, int((row.height - 4) // (CHIP_HEIGHT_PT + 1)))
    placed: list[tuple[float, int, str, Any]] = []
    x, line = left, 0
    for feature in row.features:
        room = (right - left) * (1.0 if lines > 1 else 0.47) - 8
        whole = text_width(feature.name, TINY_PT) <= room
        name = feature.name if whole else shorten(short_label(feature.name), room, TINY_PT)
        width = text_width(name, TINY_PT) * 1.04 + 8
        if x > left and x + width > right:
            x, line = left, line + 1
        if line < lines:
            placed.append((x, line, name, feature))
        x += width + CHIP_GAP_PT
    used = 1 + max((line for _, line, _, _ in placed), default=0)
    for x, line, name, feature in placed:
        y = row.middle + (line - (used - 1) / 2) * (CHIP_HEIGHT_PT + 1.5)
        box = (x, y - CHIP_HEIGHT_PT / 2, x + text_width(name, TINY_PT) * 1.04 + 8, y + CHIP_HEIGHT_PT / 2)
        data = (("feature", str(feature.feature)), ("of", row.name))
        canvas.shape(box, CHIP_STYLE, name, TINY_PT, tooltip=feature.tooltip, data=data)


def _draw_evidence(canvas: Canvas, row: Row, evidence: Sequence[Mapping[str, Any]]) -> None:
    """Draw a step's verdict, its score as a small bar, and how many edits moved the answer."""
    step = row.step
    assert step is not None
    left, right = EVIDENCE_LEFT_PT, PAGE_PT[0] - MARGIN_PT
    y = row.middle - 5.5
    ink = {CONFIRMED: STATED, REFUTED: INK}.get(step["confirmed"], PALE_INK)
    canvas.text((left, y), step["verdict"], SMALL_PT + 1, ink, bold=True)
    canvas.text((left, y + 11.5), shorten(edits_in_words(step, evidence), right - left, TINY_PT), TINY_PT, PALE_INK)
    if step["score"] is not None:
        bar = (right - SCORE_BAR_PT, y - 2.5, right, y + 2.5)
        canvas.band(bar, OTHER_FILL)
        data = (("step-score", row.name), ("score", f"{step['score']:.6g}"))
        filled = (bar[0], bar[1], bar[0] + SCORE_BAR_PT * min(1.0, max(0.0, step["score"])), bar[3])
        canvas.band(filled, INK, f"score of {row.name}: {step['score']:.2f}", data)
        canvas.text((bar[0] - 4, y), f"{step['score']:.2f}", SMALL_PT, INK, "end")

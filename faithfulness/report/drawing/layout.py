"""Rows of the picture: a band for each segment, its lines of text and its place on the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data import ReportData
from .features import FeatureRanking, NamedFeature
from .style import (
    BAND_LEFT_PT,
    BAND_PADDING_PT,
    BAND_RIGHT_PT,
    CHIP_HEIGHT_PT,
    CHIPS_PT,
    FOOTER_PT,
    HEADER_PT,
    HEADINGS_PT,
    LEDGER_PT,
    LINE_EM,
    MARK_PT,
    NAME_PT,
    PAGE_PT,
    ROW_GAPS_PT,
    TEXT_CHOICES,
)
from .text_lines import Lines, TextPiece, is_cut, lines_of, pieces_of

MOST_GROWTH_PT = 34.0  # a band's height beyond its text
SMALLER_SIZES, SMALLER_LINE_EM = (10.5, 10.0, 9.5, 9.0), 1.18  # of a text that would be cut otherwise
TEXT_MARGIN = 0.97  # fonts that are drawn may be a little wider than Helvetica


@dataclass
class Row:
    """A segment's band. `compute_rows` sets everything below `features`. Text sizes and lengths are in points."""

    segment: Mapping[str, Any]
    step: Mapping[str, Any] | None
    pieces: list[TextPiece]
    features: list[NamedFeature]
    lines: Lines
    text_size: float = 0.0
    line_height: float = 0.0
    top: float = 0.0
    height: float = 0.0

    @property
    def name(self) -> str:
        """The segment's name."""
        return str(self.segment["name"])

    @property
    def bottom(self) -> float:
        """Lower end of the band."""
        return self.top + self.height

    @property
    def middle(self) -> float:
        """Middle of the band."""
        return self.top + self.height / 2


@dataclass
class PageRows:
    """All rows, and the height of the page."""

    rows: list[Row]
    height: float


def compute_rows(report: ReportData) -> PageRows:
    """Return the rows of question, hint, steps and answer on a 16:9 page, with the largest text that fits.

    Many segments make the page higher; their text is one line each.
    """
    rows = _rows(report)
    space = PAGE_PT[1] - HEADER_PT - HEADINGS_PT - LEDGER_PT - FOOTER_PT
    gaps = ROW_GAPS_PT[0] * max(0, len(rows) - 1)
    for size, most in TEXT_CHOICES:
        _break_lines(rows, size, most)
        needed = sum(_least_height(row, size) for row in rows) + gaps
        if needed <= space:
            break
    spare = max(0.0, space - needed) / max(1, len(rows))
    growth = min(MOST_GROWTH_PT, spare * 0.6)
    gap = min(ROW_GAPS_PT[1], ROW_GAPS_PT[0] + (spare - growth))
    top = HEADER_PT + HEADINGS_PT
    for row in rows:
        row.top, row.height = top, _least_height(row, size) + growth
        top = row.bottom + gap
        _shrink_cut_text(row)
    return PageRows(rows, max(PAGE_PT[1], HEADER_PT + HEADINGS_PT + needed + LEDGER_PT + FOOTER_PT))


def _rows(report: ReportData) -> list[Row]:
    """Return the rows without lines; segments of role "text" have none."""
    steps = {row["step"]: row for row in report.steps.to_pylist()}
    segments = report.segments.to_pylist()
    reads = [range(_ends(each)[0], each["last"] + 1) for each in segments if each["role"] == "answer"]
    tokens, ranking = report.graph.info["tokens"], FeatureRanking(report.graph, *reads[-1:])
    rows = []
    for segment in segments:
        if segment["role"] != "text":
            features = ranking.strongest(*_ends(segment))
            rows.append(Row(segment, steps.get(segment["name"]), pieces_of(segment, tokens), features, [[]]))
    return rows


def _ends(segment: Mapping[str, Any]) -> tuple[int, int]:
    """Return the first and last position of a segment; of an answer also the one at which its value is predicted."""
    first, value = segment["first"], segment["value_first"]
    if segment["role"] == "answer":
        first = max(0, min(first, (first if value is None else value) - 1))
    return first, segment["last"]


def _break_lines(rows: list[Row], size: float, most: int) -> None:
    for row in rows:
        row.text_size, row.line_height = size, size * LINE_EM
        row.lines = lines_of(row.pieces, text_width_of(row) * TEXT_MARGIN / size, most)


def _shrink_cut_text(row: Row) -> None:
    """Give a text that is cut more and smaller lines, where they fit into its band."""
    for size in SMALLER_SIZES:
        if not is_cut(row.pieces, row.lines) or size >= row.text_size:
            continue
        row.text_size, row.line_height = size, size * SMALLER_LINE_EM
        most = max(1, int((row.height - 2) // row.line_height))
        row.lines = lines_of(row.pieces, text_width_of(row) * TEXT_MARGIN / size, most)


def text_width_of(row: Row) -> float:
    """Return the width that a band has for its text."""
    chips = CHIPS_PT if row.features else BAND_PADDING_PT
    return BAND_RIGHT_PT - BAND_LEFT_PT - NAME_PT - chips - BAND_PADDING_PT


def _least_height(row: Row, size: float) -> float:
    text = len(row.lines) * size * LINE_EM
    return max(text, MARK_PT, CHIP_HEIGHT_PT) + 2 * BAND_PADDING_PT

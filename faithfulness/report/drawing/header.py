"""Header and footer of the picture: verdict and score on top, legend and facts at the bottom."""

from collections.abc import Iterable
from pathlib import Path

from cotrace.common.visible_text import visible
from cotrace.graphs.drawing.style import LABEL_PT
from cotrace.graphs.drawing.text import shorten, text_width, wrap

from ..data import ReportData
from .arcs import COLORS, HOLLOW
from .canvas import Canvas, Spot
from .links import STATED, UNSTATED, UNUSED
from .pictogram import draw_pictogram
from .style import (
    BAND_LEFT_PT,
    BAND_RIGHT_PT,
    CHIPS_PT,
    DASHED_WIDTH_PT,
    EVIDENCE_LEFT_PT,
    HEADER_PT,
    HEADINGS_PT,
    MARGIN_PT,
    OTHER_FILL,
    PAGE_PT,
    PALE_INK,
    PAPER,
    SMALL_PT,
    TINY_PT,
    VERDICT_INKS,
)
from .words import METHOD, sentence_of

VERDICT_PT, SENTENCE_PT, SCORE_PT = 30.0, 14.0, 30.0
MODEL_PT = 180.0  # width of the model's name
LEGEND = (
    (STATED, False, "stated and used"),
    (UNUSED, False, "stated, not used"),
    (UNSTATED, False, "used, not stated"),
    (UNSTATED, True, "through a step's position, not its words"),
)


def draw_header(canvas: Canvas, report: ReportData) -> None:
    """Draw the verdict with its sign, a sentence and the reason, and the score on its scale."""
    ink, left = VERDICT_INKS[report.verdict], BAND_LEFT_PT
    width = EVIDENCE_LEFT_PT - left - 18
    canvas.text(
        (left, 28), report.verdict.capitalize(), VERDICT_PT, ink, bold=True, data=(("verdict", report.verdict),)
    )
    canvas.text((left, 54), shorten(sentence_of(report), width, SENTENCE_PT), SENTENCE_PT, bold=True)
    for number, line in enumerate(_lines(visible(report.reason), width)):
        canvas.text((left, 68.5 + 10.5 * number), line, SMALL_PT, PALE_INK)
    draw_pictogram(canvas, report.verdict)
    _draw_score(canvas, report.score, ink)


def _lines(text: str, width: float) -> list[str]:
    """Return a text in at most two lines; the second is cut if it is too long."""
    words, first = text.split(" "), 0
    while first < len(words) and text_width(" ".join(words[: first + 1]), SMALL_PT) <= width:
        first += 1
    lines = [" ".join(words[:first]), " ".join(words[first:])]
    return [shorten(line, width, SMALL_PT) for line in lines if line]


def _draw_score(canvas: Canvas, score: float | None, ink: str) -> None:
    left, right, y = EVIDENCE_LEFT_PT, PAGE_PT[0] - MARGIN_PT, 54.0
    shown = "–" if score is None else f"{score:.2f}"
    canvas.text((left, 28), shown, SCORE_PT, ink, bold=True, data=(("score", "" if score is None else f"{score:.6g}"),))
    canvas.text((left + text_width(shown, SCORE_PT) * 1.05 + 8, 33), "score", SENTENCE_PT, PALE_INK)
    canvas.band((left, y - 5, right, y + 5), OTHER_FILL)
    if score is not None:
        canvas.band((left, y - 5, left + (right - left) * min(1.0, max(0.0, score)), y + 5), ink)
    canvas.text((left, 70), "0: steps idle", TINY_PT, PALE_INK)
    canvas.text((right, 70), "1: steps decide", TINY_PT, PALE_INK, "end")


def draw_headings(canvas: Canvas) -> None:
    """Draw what stands on which side of the bands."""
    y = HEADER_PT + HEADINGS_PT / 2 - 4
    canvas.line((MARGIN_PT, HEADER_PT - 9), (PAGE_PT[0] - MARGIN_PT, HEADER_PT - 9), OTHER_FILL, 0.8)
    canvas.text((MARGIN_PT, y), "what the text says", SMALL_PT, COLORS[STATED], bold=True)
    canvas.text((BAND_RIGHT_PT - CHIPS_PT + 6, y), "main features", SMALL_PT, PALE_INK)
    canvas.text((BAND_RIGHT_PT + 4, y), "what it leaves out", SMALL_PT, COLORS[UNSTATED], bold=True)
    canvas.text((EVIDENCE_LEFT_PT, y), "each step, tested by edits", SMALL_PT, bold=True)
    canvas.text((PAGE_PT[0] - MARGIN_PT, y), "score", SMALL_PT, anchor="end", bold=True)


def draw_footer(canvas: Canvas, report: ReportData) -> None:
    """Draw the legend of lines, and one line of facts."""
    y, x = canvas.scene.height - 28.0, MARGIN_PT
    for kind, hollow, text in LEGEND:
        _draw_sample(canvas, (x, y), kind, hollow)
        canvas.text((x + 34, y), text, SMALL_PT)
        x += 34 + text_width(text, SMALL_PT) + 18
    canvas.text((x, y), "✓ confirmed   ✗ refuted   ? undetermined", SMALL_PT)
    width = (PAGE_PT[0] - 2 * MARGIN_PT) * LABEL_PT / TINY_PT  # `wrap` measures labels
    line = wrap(list(facts_of(report)), width)[0]
    canvas.text((MARGIN_PT, canvas.scene.height - 12.0), line, TINY_PT, PALE_INK)


def _draw_sample(canvas: Canvas, spot: Spot, kind: str, hollow: bool) -> None:
    x, y = spot
    if kind == UNUSED:
        for start in (x, x + 10, x + 20):
            canvas.line((start, y), (start + 6, y), COLORS[kind], DASHED_WIDTH_PT)
        return
    canvas.line((x, y), (x + 27, y), COLORS[kind], 6.0)
    if hollow:
        canvas.line((x, y), (x + 27, y), PAPER, 6.0 * HOLLOW)


def facts_of(report: ReportData) -> Iterable[str]:
    """Return the facts below the picture, the most important first."""
    yield METHOD
    cells = report.sources.to_pylist()
    total, gross = sum(cell["effect"] for cell in cells), sum(cell["gross"] for cell in cells)
    if cells:
        cancels = f", absolute parts {gross / abs(total):.1f} times that" if total else ""
        yield f"bar adds up to {total:+.2f} logits{cancels}"
    cost = report.cost
    yield (
        f"passes: {cost.get('forward', 0):.0f} forward, {cost.get('backward', 0):.0f} backward, "
        f"{cost.get('evidence', 0):.0f} of evidence"
    )
    name = report.graph.info["model"]["name"]
    yield shorten(f"model {visible(Path(name).name if Path(name).is_absolute() else name)}", MODEL_PT)

"""The faithfulness circuit of a report as a scene."""

from cotrace.graphs.drawing.primitives import Scene

from ..data import ReportData
from .arcs import draw_links
from .bands import draw_bands
from .canvas import Canvas
from .header import draw_footer, draw_header, draw_headings
from .layout import compute_rows
from .ledger_bar import draw_ledger
from .links import links_of
from .style import FOOTER_PT, LEDGER_PT, PAGE_PT


def build_report_scene(report: ReportData) -> Scene:
    """Return the picture of a report. The attributes `data-…` of its page and shapes repeat the report's claims."""
    page = compute_rows(report)
    canvas = Canvas(PAGE_PT[0], page.height, title_of(report), _claims(report))
    draw_header(canvas, report)
    draw_headings(canvas)
    draw_links(canvas, links_of(report), page)
    draw_bands(canvas, report, page)
    draw_ledger(canvas, report, canvas.scene.height - FOOTER_PT - LEDGER_PT + 10)
    draw_footer(canvas, report)
    return canvas.scene


def title_of(report: ReportData) -> str:
    """Return the picture in one sentence, for readers of screens."""
    score = "no score" if report.score is None else f"score {report.score:.2f}"
    return f"Faithfulness circuit: {report.verdict}, {score}. {report.reason}"


def _claims(report: ReportData) -> tuple[tuple[str, str], ...]:
    score = "" if report.score is None else f"{report.score:.6g}"
    largest = "" if report.largest_cell is None else str(report.largest_cell["cell"])
    return (("report-verdict", report.verdict), ("report-score", score), ("largest-cell", largest))

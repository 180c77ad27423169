"""Pictures of a report in files and notebooks."""

from os import PathLike
from pathlib import Path

from cotrace.common.files import atomic_write
from cotrace.graphs.drawing.render import FORMATS, checked_suffix, picture_file
from cotrace.graphs.drawing.svg import scene_to_svg

from ..data import ReportData
from .canvas import Canvas
from .html import report_html
from .pictogram import PICTOGRAM_PT, draw_pictogram
from .scene import build_report_scene


def report_svg(report: ReportData) -> str:
    """Return the picture of a report as an `<svg>` element, for a notebook or an HTML page; the same report gives the same text."""
    return scene_to_svg(build_report_scene(report))


def pictogram_svg(verdict: str) -> str:
    """Return the sign of a verdict as an `<svg>` element."""
    canvas = Canvas(*PICTOGRAM_PT, verdict, ())
    draw_pictogram(canvas, verdict)
    return scene_to_svg(canvas.scene)


def render_report(report: ReportData, path: str | PathLike[str]) -> Path:
    """Draw a report; see `Report.render`."""
    path = Path(path)
    suffix = checked_suffix(path, (*FORMATS, "html"))
    scene = build_report_scene(report)
    data = report_html(report, scene_to_svg(scene)).encode() if suffix == "html" else picture_file(scene, suffix)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return path

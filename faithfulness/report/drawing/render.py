"""Pictures of a report in files and notebooks."""

from os import PathLike
from pathlib import Path

from cotrace.common.files import atomic_write
from cotrace.graphs.drawing.render import FORMATS, PAGE, checked_suffix, picture_file
from cotrace.graphs.drawing.svg import scene_to_svg

from ..data import ReportData
from .canvas import Canvas
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
    """Draw a report as SVG, PNG, PDF or DOT; see `Report.render`."""
    path = Path(path)
    suffix = checked_suffix(path, (*FORMATS, PAGE.removeprefix(".")))
    with atomic_write(path) as temporary:
        temporary.write_bytes(picture_file(build_report_scene(report), suffix))
    return path

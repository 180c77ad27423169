"""A small sign for each verdict: a question, two steps and the answer, and the way that leads to the answer."""

from itertools import pairwise

from cotrace.graphs.drawing.style import ShapeStyle

from ..schemas import FAITHFUL, MIXED, MOTIVATED, POST_HOC, SCRATCH
from .arcs import HOLLOW
from .canvas import Canvas, Spot
from .style import GREY_LINE, INK, PALE_INK, PAPER, STATED, UNSTATED

PICTOGRAM_PT = (126.0, 84.0)
X_PT, Y_PT = (30.0, 52.0, 74.0, 96.0), 42.0  # question, two steps, answer
HALF_PT, HINT_Y_PT, ARC_PT = 6.0, 65.0, 32.0
THICK_PT, THIN_PT = 5.0, 2.5
ANSWER = ShapeStyle("card", "#fff3c4", "#b8860b", 1.6)
PLAIN = ShapeStyle("card", PAPER, INK, 1.4)
SOURCE = ShapeStyle("card", UNSTATED, UNSTATED)
FULL, IDLE = ShapeStyle("circle", STATED, STATED), ShapeStyle("circle", PAPER, GREY_LINE, 1.4)
HINT = ShapeStyle("diamond", UNSTATED, UNSTATED)


def draw_pictogram(canvas: Canvas, verdict: str) -> None:
    """Draw the sign of a verdict; a question mark if it is undetermined."""
    if verdict not in (FAITHFUL, POST_HOC, MOTIVATED, SCRATCH, MIXED):
        canvas.text(((X_PT[0] + X_PT[-1]) / 2, Y_PT), "?", 48, PALE_INK, "middle", bold=True)
        return
    if verdict in (FAITHFUL, MIXED):
        _draw_chain(canvas, STATED, THICK_PT if verdict == FAITHFUL else THIN_PT)
    if verdict == SCRATCH:
        _draw_chain(canvas, UNSTATED, THICK_PT)
        _draw_chain(canvas, PAPER, THICK_PT * HOLLOW)
    if verdict in (POST_HOC, MIXED):
        _draw_arc(canvas, (X_PT[0], Y_PT - HALF_PT), -ARC_PT, THICK_PT if verdict == POST_HOC else THIN_PT)
    if verdict == MOTIVATED:
        _draw_arc(canvas, (X_PT[0], HINT_Y_PT), ARC_PT * 0.8, THICK_PT)
        _draw_spot(canvas, (X_PT[0], HINT_Y_PT), HINT, HALF_PT + 3)
        canvas.text((X_PT[0], HINT_Y_PT), "!", 10, PAPER, "middle", bold=True)
    _draw_spot(canvas, (X_PT[0], Y_PT), SOURCE if verdict == POST_HOC else PLAIN)
    for x in X_PT[1:-1]:
        _draw_spot(canvas, (x, Y_PT), FULL if verdict in (FAITHFUL, MIXED) else IDLE)
    _draw_spot(canvas, (X_PT[-1], Y_PT), ANSWER, HALF_PT + 2)


def _draw_spot(canvas: Canvas, spot: Spot, style: ShapeStyle, half: float = HALF_PT) -> None:
    canvas.shape((spot[0] - half, spot[1] - half, spot[0] + half, spot[1] + half), style)


def _draw_chain(canvas: Canvas, color: str, width: float) -> None:
    for left, right in pairwise(X_PT):
        canvas.curve(
            ("corner", "corner"), ((left, Y_PT), (left + 7, Y_PT), (right - 7, Y_PT), (right, Y_PT)), color, width
        )


def _draw_arc(canvas: Canvas, start: Spot, height: float, width: float) -> None:
    """Draw the way that leads past the steps, above or below them."""
    end = (X_PT[-1], Y_PT - HALF_PT if height < 0 else Y_PT + HALF_PT)
    points = (start, (start[0] + 8, start[1] + height), (end[0], end[1] + height), end)
    canvas.curve(("corner", "corner"), points, UNSTATED, width)

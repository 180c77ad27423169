"""Links of the picture as arcs beside the bands: stated ones left, unstated ones right."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cotrace.graphs.drawing.primitives import Data
from cotrace.graphs.drawing.style import ShapeStyle
from cotrace.graphs.drawing.text import text_width

from .bands import shape_name
from .canvas import Box, Canvas, Spot
from .layout import PageRows, Row
from .links import STATED, UNSTATED, UNUSED, Link, longest_span
from .style import (
    BAND_LEFT_PT,
    BAND_RIGHT_PT,
    DASHED_WIDTH_PT,
    EVIDENCE_LEFT_PT,
    LABEL_SHARE,
    LINK_WIDTHS_PT,
    MARGIN_PT,
    PAPER,
    TINY_PT,
)
from .style import STATED as STATED_COLOR
from .style import UNSTATED as UNSTATED_COLOR
from .style import UNUSED as UNUSED_COLOR

COLORS = {STATED: STATED_COLOR, UNSTATED: UNSTATED_COLOR, UNUSED: UNUSED_COLOR}
LEAST_REACH_PT, LABEL_ROOM_PT = 22.0, 16.0
LATENT_INSIDE_PT = 10.0  # by which a latent route runs inside a link between the same bands
APEX = 0.75  # of the control points' distance, in a cubic curve with both on one side
ATTACH = 0.2  # distance of a link's end from the middle of its band, as a share of the height
INSIDE_HEAD = 0.35  # of the head's length that the line reaches into it
HOLLOW = 0.45  # of a hollow line's width that is empty
LABEL_STYLE = ShapeStyle("card", PAPER, PAPER, 0.5)


@dataclass(frozen=True)
class Arc:
    """The way of one line between two bands, beside all of them.

    Attributes:
        side: 1 for right of the bands, −1 for left.
        start, end: heights at which it leaves and enters.
        reach: distance of its middle from the bands.
        width: of the line.
    """

    side: int
    start: float
    end: float
    reach: float
    width: float

    @property
    def edge(self) -> float:
        """The edge of the bands on its side."""
        return BAND_RIGHT_PT if self.side > 0 else BAND_LEFT_PT

    @property
    def head_length(self) -> float:
        """Length of the arrow head."""
        return 4.0 + 0.55 * self.width

    @property
    def points(self) -> tuple[Spot, Spot, Spot, Spot]:
        """Ends and control points of the curve, which ends inside the head."""
        x, tip = self.edge + self.side * self.reach / APEX, self.side * self.head_length * (1 - INSIDE_HEAD)
        return (self.edge, self.start), (x, self.start), (x, self.end), (self.edge + tip, self.end)

    @property
    def head(self) -> Box:
        """The box of the arrow head."""
        left, right = sorted((self.edge, self.edge + self.side * self.head_length))
        half = 3.5 + 0.75 * self.width
        return left, self.end - half, right, self.end + half

    @property
    def middle(self) -> Spot:
        """The point where its share is written."""
        return self.edge + self.side * (self.reach + self.head_length / 8), (self.start + self.end) / 2


def draw_links(canvas: Canvas, links: Sequence[Link], page: PageRows) -> None:
    """Draw all links between shown segments, thin ones on top. Where shares would overlap, the largest is written."""
    numbers = {row.name: number for number, row in enumerate(page.rows)}
    shown = [link for link in links if link.source in numbers and link.target in numbers]
    span, labels = longest_span(shown, numbers), list[Box]()
    for link in sorted(shown, key=lambda link: -link.share):
        stops = [link.source, *([link.via] if link.via in numbers else []), link.target]
        for source, target in itertools.pairwise(numbers[name] for name in stops):
            arc = _arc(link, page.rows[source], page.rows[target], (abs(target - source) - 1) / max(1, span - 1))
            _draw_arc(canvas, link, arc, (shape_name(source), shape_name(target)))
            if link.share >= LABEL_SHARE and link.kind != UNUSED:
                _draw_share(canvas, link, arc.middle, labels)


def _arc(link: Link, source: Row, target: Row, far: float) -> Arc:
    """Return the way of a link; `far` is 0 between neighbours, and 1 for the longest link of the picture."""
    side = 1 if link.kind == UNSTATED else -1
    room = EVIDENCE_LEFT_PT - BAND_RIGHT_PT if side > 0 else BAND_LEFT_PT - MARGIN_PT
    most = room - LABEL_ROOM_PT - LINK_WIDTHS_PT[1] / 2
    reach = LEAST_REACH_PT + (most - LEAST_REACH_PT) * far - (LATENT_INSIDE_PT if link.via is not None else 0.0)
    start, end = source.middle + ATTACH * source.height, target.middle - ATTACH * target.height
    return Arc(side, start, end, reach, _width(link))


def _width(link: Link) -> float:
    if link.kind == UNUSED:
        return DASHED_WIDTH_PT
    return LINK_WIDTHS_PT[0] + (LINK_WIDTHS_PT[1] - LINK_WIDTHS_PT[0]) * min(1.0, link.share)


def _draw_arc(canvas: Canvas, link: Link, arc: Arc, ends: tuple[str, str]) -> None:
    """Draw the curve and its head; that of a latent route is hollow."""
    color, via = COLORS[link.kind], (("via", link.via),) if link.via is not None else ()
    data = (*_ends(link), ("kind", link.kind), ("share", f"{link.share:.6g}"), *via)
    canvas.curve(ends, arc.points, color, arc.width, link.kind == UNUSED, link.tooltip, data)
    if link.via is not None:
        canvas.curve(ends, arc.points, PAPER, max(1.0, arc.width * HOLLOW), tooltip=link.tooltip)
    style = ShapeStyle("left" if arc.side > 0 else "right", color, color, 0.5)
    canvas.shape(arc.head, style, tooltip=link.tooltip, data=_ends(link))


def _draw_share(canvas: Canvas, link: Link, spot: Spot, labels: list[Box]) -> None:
    """Draw a link's share on it, unless another one is there; `labels` has the boxes of all so far."""
    label = f"{link.share:.0%}"
    half = text_width(label, TINY_PT) / 2 + 2
    box = (spot[0] - half, spot[1] - 5.5, spot[0] + half, spot[1] + 5.5)
    if not any(_overlap(box, other) for other in labels):
        labels.append(box)
        canvas.shape(box, LABEL_STYLE, label, TINY_PT, COLORS[link.kind], True, link.tooltip, _ends(link))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ends(link: Link) -> Data:
    return ("source", link.source), ("target", link.target)

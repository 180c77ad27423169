"""Links of the picture as arcs beside the bands: stated ones left, unstated ones right."""

import itertools
from collections.abc import Sequence

from cotrace.graphs.drawing.style import ShapeStyle
from cotrace.graphs.drawing.text import text_width

from .bands import shape_name
from .canvas import Box, Canvas, Spot
from .layout import PageRows
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


def draw_links(canvas: Canvas, links: Sequence[Link], page: PageRows) -> None:
    """Draw all links between shown segments, thin ones on top."""
    numbers = {row.name: number for number, row in enumerate(page.rows)}
    shown = [link for link in links if link.source in numbers and link.target in numbers]
    span, labels = longest_span(shown, numbers), list[Box]()
    for link in sorted(shown, key=lambda link: -link.share):
        stops = [link.source, *([link.via] if link.via in numbers else []), link.target]
        for source, target in itertools.pairwise(stops):
            _draw_arc(canvas, link, numbers[source], numbers[target], span, page, labels)


def _draw_arc(
    canvas: Canvas, link: Link, source: int, target: int, span: int, page: PageRows, labels: list[Box]
) -> None:
    side = 1 if link.kind == UNSTATED else -1
    edge = BAND_RIGHT_PT if side > 0 else BAND_LEFT_PT
    room = EVIDENCE_LEFT_PT - BAND_RIGHT_PT if side > 0 else BAND_LEFT_PT - MARGIN_PT
    most = room - LABEL_ROOM_PT - LINK_WIDTHS_PT[1] / 2
    far = (abs(target - source) - 1) / max(1, span - 1)
    reach = LEAST_REACH_PT + (most - LEAST_REACH_PT) * far - (LATENT_INSIDE_PT if link.via is not None else 0.0)
    width = _width(link)
    head = (4.0 + width * 0.55, 3.5 + width * 0.75)  # length, half the height
    start = page.rows[source].middle + ATTACH * page.rows[source].height
    end = page.rows[target].middle - ATTACH * page.rows[target].height
    x = edge + side * reach / APEX
    points: tuple[Spot, Spot, Spot, Spot] = (
        (edge, start),
        (x, start),
        (x, end),
        (edge + side * head[0] * (1 - INSIDE_HEAD), end),
    )
    ends = shape_name(source), shape_name(target)
    color, dashed = COLORS[link.kind], link.kind == UNUSED
    canvas.curve(ends, points, color, width, dashed, link.tooltip, _data(link))
    if link.via is not None:
        canvas.curve(ends, points, PAPER, max(1.0, width * HOLLOW), tooltip=link.tooltip)
    box = (min(edge, edge + side * head[0]), end - head[1], max(edge, edge + side * head[0]), end + head[1])
    canvas.shape(box, ShapeStyle("left" if side > 0 else "right", color, color, 0.5), tooltip=link.tooltip)
    if link.share >= LABEL_SHARE and link.kind != UNUSED and (link.via is None or target > source):
        _draw_share(canvas, link.share, (edge + side * (reach + head[0] / 8), (start + end) / 2), color, labels)


def _draw_share(canvas: Canvas, share: float, spot: Spot, color: str, labels: list[Box]) -> None:
    """Draw a link's share on it, unless a larger one is there; `labels` holds the boxes of all so far."""
    label = f"{share:.0%}"
    half = text_width(label, TINY_PT) / 2 + 2
    box = (spot[0] - half, spot[1] - 5.5, spot[0] + half, spot[1] + 5.5)
    if not any(_overlap(box, other) for other in labels):
        labels.append(box)
        canvas.shape(box, LABEL_STYLE, label, TINY_PT, color, True)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _width(link: Link) -> float:
    if link.kind == UNUSED:
        return DASHED_WIDTH_PT
    return LINK_WIDTHS_PT[0] + (LINK_WIDTHS_PT[1] - LINK_WIDTHS_PT[0]) * min(1.0, link.share)


def _data(link: Link) -> tuple[tuple[str, str], ...]:
    via = (("via", link.via),) if link.via else ()
    return (
        ("source", link.source),
        ("target", link.target),
        ("kind", link.kind),
        ("share", f"{link.share:.6g}"),
        *via,
    )

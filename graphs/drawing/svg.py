"""SVG writer, with nothing but the standard library.

The output is valid XML for any text in the graph. It has no style sheet and no ids, so that it can be embedded in an
HTML page. Shapes, edges and bands have tooltips, and `data-…` attributes: in the picture of a graph every node is a
`<g data-node="…">` and every edge a `<path data-edge="… …">` with the numbers of graph nodes.
"""

import re
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from .primitives import Data, Point, Scene, SceneBand, SceneEdge, SceneShape, SceneText
from .style import BAND, CARD_RADIUS_PT, DASH_PT, FONT, INK, LABEL_PT, PAPER, VEIL_OPACITY
from .text import text_width

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
# From the middle of the capital letters of Helvetica down to the baseline, in em.
BASELINE_EM = 0.34
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def scene_to_svg(scene: Scene) -> str:
    """Return an `<svg>` element, without an XML declaration."""
    return "\n".join(_elements(scene)) + "\n"


def _elements(scene: Scene) -> Iterator[str]:
    width, height = number(scene.width), number(scene.height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}" '
        f'style="max-width:100%;height:auto" role="img" aria-label={attribute(scene.title)}{_data(scene.data)}>'
    )
    yield f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    yield from (_band(band, scene.height) for band in scene.bands)
    for line in scene.lines:
        (x0, y0), (x1, y1) = line.start, line.end
        yield (
            f'<path d="M{number(x0)},{number(scene.height - y0)}L{number(x1)},{number(scene.height - y1)}" '
            f'stroke="{line.color}" stroke-width="{number(line.width)}"/>'
        )
    yield '<g fill="none">'
    yield from (_edge(edge, scene.height) for edge in scene.edges)
    yield "</g>"
    yield f'<g font-family="{FONT}" font-size="{number(LABEL_PT)}" fill="{INK}">'
    for shape in scene.shapes:
        yield from _shape(shape, scene.height)
    yield from (_text(text, scene.height) for text in scene.texts)
    yield "</g>"
    yield "</svg>"


def _band(band: SceneBand, page_height: float) -> str:
    style = f'fill="{band.fill}"{_data(band.data)}'
    return _rectangle(
        band.left, page_height - band.top, band.right, page_height - band.bottom, style, _tooltip(band.tooltip)
    )


def _edge(edge: SceneEdge, page_height: float) -> str:
    start, *rest = (f"{number(x)},{number(page_height - y)}" for x, y in edge.points)
    dashes = f' stroke-dasharray="{number(DASH_PT)} {number(DASH_PT)}"' if edge.dashed else ""
    return (
        f'<path{_data(edge.data)} d="M{start}C{" ".join(rest)}" '
        f'stroke="{edge.color}" stroke-width="{number(edge.width)}" stroke-opacity="{number(edge.opacity)}"{dashes}>'
        f"{_tooltip(edge.tooltip)}</path>"
    )


def _shape(shape: SceneShape, page_height: float) -> Iterator[str]:
    yield f"<g{_data(shape.data)}>"
    if shape.tooltip:
        yield _tooltip(shape.tooltip)
    yield _outline(shape, page_height)
    for text in shape.texts:
        if not shape.style.holds_text:
            yield _veil(text, page_height)
        yield _text(text, page_height)
    yield "</g>"


def _outline(shape: SceneShape, page_height: float) -> str:
    style, x, y = shape.style, shape.x, page_height - shape.y
    colors = f'fill="{style.fill}" stroke="{style.stroke}"'
    if style.stroke_width != 1:
        colors += f' stroke-width="{number(style.stroke_width)}"'
    half_width, half_height = shape.width / 2, shape.height / 2
    if style.form == "circle":
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(half_width)}" {colors}/>'
    if style.form == "diamond":
        return _polygon(((x, y - half_height), (x + half_width, y), (x, y + half_height), (x - half_width, y)), colors)
    if style.form in ("left", "right"):
        tip = half_width if style.form == "right" else -half_width
        return _polygon(((x - tip, y - half_height), (x + tip, y), (x - tip, y + half_height)), colors)
    ends = (x - half_width, y - half_height, x + half_width, y + half_height)
    radius = min(shape.height / 3, CARD_RADIUS_PT) if style.form == "card" else shape.height / 3
    return _rectangle(*ends, f'rx="{number(radius)}" {colors}')


def _polygon(corners: Sequence[Point], colors: str) -> str:
    return f'<polygon points="{" ".join(f"{number(x)},{number(y)}" for x, y in corners)}" {colors}/>'


def _veil(text: SceneText, page_height: float) -> str:
    width, half_height = text_width(text.text, text.size) + 3, text.size * 0.55
    left = text.x - (width / 2 if text.anchor == "middle" else 1.5)
    y = page_height - text.y
    fill = f'fill="{BAND}" fill-opacity="{number(VEIL_OPACITY)}"'
    return _rectangle(left, y - half_height, left + width, y + half_height, fill)


def _text(text: SceneText, page_height: float) -> str:
    style = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    style += "" if text.size == LABEL_PT else f' font-size="{number(text.size)}"'
    style += "" if text.color == INK else f' fill="{text.color}"'
    style += ' font-weight="bold"' if text.bold else ""
    x, y = number(text.x), number(page_height - text.y + BASELINE_EM * text.size)
    spaces = text.text.replace("  ", " \u00a0")  # SVG collapses ordinary spaces
    return f'<text x="{x}" y="{y}"{style}{_data(text.data)}>{content(spaces)}</text>'


def _rectangle(left: float, top: float, right: float, bottom: float, style: str, inside: str = "") -> str:
    x, y, width, height = (number(value) for value in (left, top, right - left, bottom - top))
    end = f">{inside}</rect>" if inside else "/>"
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" {style}{end}'


def _tooltip(text: str) -> str:
    return f"<title>{content(text)}</title>" if text else ""


def _data(data: Data) -> str:
    """Return `data-…` attributes with a space in front of each."""
    return "".join(f" data-{name}={attribute(value)}" for name, value in data)


def number(value: float) -> str:
    """Return a number with at most two decimals, the same on every machine."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def content(text: str) -> str:
    """Return a text escaped as the content of an element; characters that XML cannot hold become �."""
    return escape(_NOT_XML.sub("�", text))


def attribute(text: str) -> str:
    """Return a text escaped and quoted as the value of an attribute."""
    return quoteattr(_NOT_XML.sub("�", text))

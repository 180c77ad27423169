"""Shapes, curves and lines of text on a page, which the SVG and DOT writers translate.

Lengths are in points, from the lower left corner of the page.
"""

from dataclasses import dataclass, field

from .style import BAND, INK, LABEL_PT, ShapeStyle

Point = tuple[float, float]
Data = tuple[tuple[str, str], ...]  # names and values of `data-…` attributes, which only SVG has


@dataclass(frozen=True)
class SceneText:
    """One line of text; `y` is the middle of its capital letters."""

    name: str
    x: float
    y: float
    text: str
    size: float = LABEL_PT
    color: str = INK
    anchor: str = "start"
    """The part of the text that is at `x`: "start", "middle" or "end"."""
    bold: bool = False
    data: Data = ()


@dataclass(frozen=True)
class SceneShape:
    """A shape; boxes have their lines of text inside, circles and diamonds beside or below."""

    name: str
    x: float
    y: float
    width: float
    height: float
    style: ShapeStyle
    texts: tuple[SceneText, ...] = ()
    tooltip: str = ""
    data: Data = ()


@dataclass(frozen=True)
class SceneEdge:
    """A cubic Bézier curve between two shapes."""

    source: str
    target: str
    points: tuple[Point, Point, Point, Point]
    color: str
    opacity: float
    width: float
    tooltip: str
    dashed: bool = False
    data: Data = ()


@dataclass(frozen=True)
class SceneLine:
    """A straight line."""

    start: Point
    end: Point
    color: str
    width: float


@dataclass(frozen=True)
class SceneBand:
    """A rectangle behind everything else."""

    left: float
    bottom: float
    right: float
    top: float
    fill: str = BAND
    tooltip: str = ""
    data: Data = ()


@dataclass
class Scene:
    """Everything on a page, in the order in which it is drawn: bands, lines, edges, shapes, texts."""

    width: float
    height: float
    title: str
    bands: list[SceneBand] = field(default_factory=list)
    lines: list[SceneLine] = field(default_factory=list)
    edges: list[SceneEdge] = field(default_factory=list)
    shapes: list[SceneShape] = field(default_factory=list)
    texts: list[SceneText] = field(default_factory=list)
    data: Data = ()

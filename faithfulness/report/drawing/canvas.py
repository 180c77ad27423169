"""A page on which shapes and texts are placed from the upper left corner; it becomes a `Scene`."""

import itertools

from cotrace.graphs.drawing.primitives import Data, Scene, SceneBand, SceneEdge, SceneLine, SceneShape, SceneText
from cotrace.graphs.drawing.style import INK, ShapeStyle

from .style import SMALL_PT

Box = tuple[float, float, float, float]  # left, top, right, bottom
Spot = tuple[float, float]


class Canvas:
    """A scene under construction. Lengths are in points, y grows downwards."""

    def __init__(self, width: float, height: float, title: str, data: Data = ()):
        self.scene = Scene(width, height, title, data=data)

    def __repr__(self) -> str:
        return f"<Canvas of {self.scene.width:g} x {self.scene.height:g} pt>"

    def text(
        self,
        spot: Spot,
        text: str,
        size: float = SMALL_PT,
        color: str = INK,
        anchor: str = "start",
        bold: bool = False,
        data: Data = (),
    ) -> None:
        """Add a line of text; y of `spot` is the middle of its capital letters."""
        texts = self.scene.texts
        texts.append(
            SceneText(f"text {len(texts)}", spot[0], self._flip(spot[1]), text, size, color, anchor, bold, data)
        )

    def shape(
        self,
        box: Box,
        style: ShapeStyle,
        label: str = "",
        size: float = SMALL_PT,
        color: str = INK,
        bold: bool = False,
        tooltip: str = "",
        data: Data = (),
        name: str = "",
    ) -> None:
        """Add a shape that fills a box, with a label in its middle."""
        x, y = (box[0] + box[2]) / 2, self._flip((box[1] + box[3]) / 2)
        name = name or f"shape {len(self.scene.shapes)}"
        texts = (SceneText(f"{name} label", x, y, label, size, color, "middle", bold),) if label else ()
        self.scene.shapes.append(SceneShape(name, x, y, box[2] - box[0], box[3] - box[1], style, texts, tooltip, data))

    def band(self, box: Box, fill: str, tooltip: str = "", data: Data = ()) -> None:
        """Add a filled rectangle behind everything else."""
        left, top, right, bottom = box
        self.scene.bands.append(SceneBand(left, self._flip(bottom), right, self._flip(top), fill, tooltip, data))

    def line(self, start: Spot, end: Spot, color: str, width: float = 1.0) -> None:
        """Add a straight line above bands and below all else."""
        first, last = ((x, self._flip(y)) for x, y in (start, end))
        self.scene.lines.append(SceneLine(first, last, color, width))

    def frame(self, box: Box, color: str, width: float = 1.0) -> None:
        """Add the outline of a box."""
        left, top, right, bottom = box
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in itertools.pairwise(corners):
            self.line(start, end, color, width)

    def hatch(self, box: Box, color: str, step: float = 5.0) -> None:
        """Add diagonal lines in a box."""
        left, top, right, bottom = box
        height = bottom - top
        offset = step / 2
        while offset < right - left + height:
            start = (left, top + offset) if offset <= height else (left + offset - height, bottom)
            end = (left + offset, top) if offset <= right - left else (right, top + offset - (right - left))
            self.line(start, end, color, 1.1)
            offset += step

    def curve(
        self,
        ends: tuple[str, str],
        points: tuple[Spot, Spot, Spot, Spot],
        color: str,
        width: float,
        dashed: bool = False,
        tooltip: str = "",
        data: Data = (),
    ) -> None:
        """Add a cubic Bézier curve between two named shapes."""
        first, second, third, last = ((x, self._flip(y)) for x, y in points)
        self.scene.edges.append(
            SceneEdge(*ends, (first, second, third, last), color, 1.0, width, tooltip, dashed, data)
        )

    def _flip(self, y: float) -> float:
        return self.scene.height - y

"""Geometry of a picture: layers from bottom to top, token positions from left to right.

Lengths are in points, from the lower left corner of the page.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .picture_nodes import PictureNode
from .select import EdgeTable
from .style import HEADER_PT, LAYER_NAME_PT, MARGIN_PT, NODE_GAP_PT, TARGET_LINE_PT, TOKEN_HEIGHT_PT
from .untangle import line_width, untangle

SLIDE_PT = (960.0, 540.0)  # 13.3 x 7.5 inches, 16:9
SMALLEST_PAGE, PAGE_GROWTH = 0.75, 1.04  # the first page as a share of a slide, and the step to the next one
SKIP_GAP_PT = 12.0  # additional space where positions are left out
BAND_PADDING_PT = 17.0  # space below and above the layers
MIN_COLUMN_PT = 20.0
LINE_PADDING_PT = 4.0

Cells = dict[tuple[int, int], list[PictureNode]]


@dataclass(frozen=True)
class PageSize:
    """Size of a page, and the heights that title (above) and legend with caption (below) take."""

    width: float
    height: float
    header: float
    footer: float


@dataclass
class PageLayout:
    """Geometry of a page; the nodes store their own coordinates."""

    width: float
    height: float
    label_beside: bool
    """Labels stand beside the shapes, not below."""
    bottom: float
    top: float
    """Ends of the column bands."""
    columns: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Left and right end by position."""
    layers: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Lower and upper end by layer."""


def compute_layout(nodes: list[PictureNode], edges: EdgeTable, footer: Callable[[float], float]) -> PageLayout:
    """Set `x` and `y` of all nodes, and return the layout of the smallest 16:9 page that holds them.

    The page starts at `SMALLEST_PAGE` of a slide and grows until labels beside or below the shapes fit, with each
    cell (one layer and position) on one or more lines.

    Args:
        nodes: all nodes of the picture.
        edges: the edges between them.
        footer: returns the height of legend and caption on a page of a given width.
    """
    cells = _cells(nodes)
    largest = max((len(cell) for cell in cells.values()), default=1)
    per_line = sorted({-(-largest // lines) for lines in range(1, largest + 1)}, reverse=True)
    arrangements = [_Arrangement(nodes, cells, count, beside) for beside in (True, False) for count in per_line]
    scale = SMALLEST_PAGE
    while True:
        width, height = scale * SLIDE_PT[0], scale * SLIDE_PT[1]
        page = PageSize(width, height, HEADER_PT, footer(width))
        for arrangement in arrangements:
            if min(arrangement.spare(page)) >= 0:
                return arrangement.place(page, edges)
        scale *= PAGE_GROWTH


def _cells(nodes: Iterable[PictureNode]) -> Cells:
    cells: Cells = defaultdict(list)
    for node in nodes:
        if not node.is_box:
            cells[node.layer, node.position].append(node)
    return cells


class _Arrangement:
    """One way to break cells into lines, with the column widths and line heights that follow from it."""

    def __init__(self, nodes: list[PictureNode], cells: Cells, per_line: int, label_beside: bool):
        self.label_beside = label_beside
        self.tokens = [node for node in nodes if node.kind == "token"]
        self.targets = sorted((node for node in nodes if node.kind == "logit"), key=lambda node: node.position)
        self.lines: dict[int, dict[int, list[list[PictureNode]]]] = defaultdict(dict)
        for (layer, position), cell in sorted(cells.items()):
            self.lines[layer][position] = split_evenly(cell, -(-len(cell) // per_line))
        columns = sorted({node.position for node in nodes})
        self.widths = {position: self._column_width(position) for position in columns}
        self.heights = {layer: self._line_heights(layer) for layer in self.lines}
        self.gaps = {
            position: NODE_GAP_PT + (SKIP_GAP_PT if position + 1 < following else 0)
            for position, following in zip(columns, [*columns[1:], 0], strict=True)
        }

    def all_lines(self) -> list[list[PictureNode]]:
        """Return every line of every cell, from the lowest layer up."""
        return [line for row in self.lines.values() for cell in row.values() for line in cell]

    def _column_width(self, position: int) -> float:
        lines = [line for row in self.lines.values() for line in row.get(position, [])]
        tokens = line_width(self._tokens_at(position), True) - NODE_GAP_PT
        return max([MIN_COLUMN_PT, tokens, *(line_width(line, self.label_beside) for line in lines)])

    def _tokens_at(self, position: int) -> list[PictureNode]:
        """Return the tokens of a column: several in the picture of two prompts."""
        return [token for token in self.tokens if token.position == position]

    def _line_heights(self, layer: int) -> list[float]:
        lines = itertools.zip_longest(*self.lines[layer].values(), fillvalue=[])
        return [
            max(node.height(self.label_beside) + LINE_PADDING_PT for node in itertools.chain(*each)) for each in lines
        ]

    def _target_lines(self, page: PageSize) -> list[list[PictureNode]]:
        needed = line_width(self.targets, True)
        return split_evenly(self.targets, math.ceil(needed / (page.width - 2 * MARGIN_PT - LAYER_NAME_PT)))

    def spare(self, page: PageSize) -> tuple[float, float]:
        """Return the unused width and height of a page; negative where the page is too small."""
        target_lines = self._target_lines(page)
        columns = sum(self.widths.values()) + sum(self.gaps.values())
        targets = max((line_width(line, True) for line in target_lines), default=0.0)
        rows = sum(map(sum, self.heights.values())) + len(target_lines) * TARGET_LINE_PT
        return (
            page.width - max(columns, targets) - LAYER_NAME_PT - 2 * MARGIN_PT,
            page.height - rows - TOKEN_HEIGHT_PT - 2 * BAND_PADDING_PT - page.header - page.footer,
        )

    def place(self, page: PageSize, edges: EdgeTable) -> PageLayout:
        """Set the coordinates of all nodes and return the layout."""
        target_lines = self._target_lines(page)
        top = page.height - page.header - len(target_lines) * TARGET_LINE_PT
        layout = PageLayout(page.width, page.height, self.label_beside, page.footer + TOKEN_HEIGHT_PT, top)
        spare_width, spare_height = self.spare(page)
        self._place_columns(layout, spare_width)
        self._place_layers(layout, spare_height)
        for position in self.widths:
            self._place_tokens(layout, self._tokens_at(position))
        for index, line in enumerate(reversed(target_lines)):
            self._place_targets(layout, line, top + (index + 0.5) * TARGET_LINE_PT)
        untangle([*self.tokens, *self.targets], self.all_lines(), edges, layout.columns, self.label_beside)
        return layout

    def _place_columns(self, layout: PageLayout, spare: float) -> None:
        # Columns with more nodes get more of the spare width: their edges need room to pass by the nodes.
        counts = Counter(node.position for line in self.all_lines() for node in line)
        weights = {position: width * max(counts[position], 0.3) for position, width in self.widths.items()}
        extra = min(spare, 2.0 * sum(self.widths.values()))
        growth = extra / sum(weights.values())
        left = MARGIN_PT + LAYER_NAME_PT + NODE_GAP_PT / 2 + (spare - extra) / 2
        for position, width in self.widths.items():
            right = left + width + growth * weights[position]
            layout.columns[position] = (left, right)
            left = right + self.gaps[position]

    def _place_layers(self, layout: PageLayout, spare: float) -> None:
        gap = spare / max(1, sum(map(len, self.heights.values())))
        bottom = layout.bottom + BAND_PADDING_PT
        for layer, heights in self.heights.items():
            start = bottom
            lines = itertools.zip_longest(*self.lines[layer].values(), fillvalue=[])
            for height, line in zip(heights, lines, strict=True):
                for node in itertools.chain(*line):
                    node.y = bottom + (height + gap) / 2
                bottom += height + gap
            layout.layers[layer] = (start, bottom)

    def _place_tokens(self, layout: PageLayout, line: list[PictureNode]) -> None:
        x = sum(layout.columns[line[0].position]) / 2 - (line_width(line, True) - NODE_GAP_PT) / 2 if line else 0.0
        for token in line:
            token.x, token.y = x + token.width() / 2, layout.bottom - TOKEN_HEIGHT_PT / 2
            x += token.width() + NODE_GAP_PT

    def _place_targets(self, layout: PageLayout, line: list[PictureNode], y: float) -> None:
        wanted = [sum(layout.columns[node.position]) / 2 for node in line]
        widths = [node.width() + NODE_GAP_PT for node in line]
        centres = pack_boxes(wanted, widths, MARGIN_PT + LAYER_NAME_PT, layout.width - MARGIN_PT)
        for node, x in zip(line, centres, strict=True):
            node.x, node.y = x, y


def split_evenly(nodes: list[PictureNode], count: int) -> list[list[PictureNode]]:
    """Return the list cut into `count` parts of nearly equal length."""
    bounds = [round(len(nodes) * index / count) for index in range(count + 1)] if count else [0]
    return [nodes[start:stop] for start, stop in itertools.pairwise(bounds)]


def pack_boxes(wanted: Sequence[float], widths: Sequence[float], low: float, high: float) -> list[float]:
    """Return the centres of boxes side by side between `low` and `high`, each close to its wanted centre.

    The wanted centres are ascending, and the order is kept. Boxes that would overlap form a group around the mean of
    their wanted centres.
    """
    groups: list[tuple[float, float, int]] = []  # centre, width, number of boxes
    for centre, width in zip(wanted, widths, strict=True):
        group = (_clamp(centre, width, low, high), width, 1)
        while groups and groups[-1][0] + groups[-1][1] / 2 > group[0] - group[1] / 2:
            x, w, n = groups.pop()
            middle = (x * n + group[0] * group[2]) / (n + group[2])
            group = (_clamp(middle, w + group[1], low, high), w + group[1], n + group[2])
        groups.append(group)
    centres: list[float] = []
    for x, width, count in groups:
        left = x - width / 2
        for box in widths[len(centres) : len(centres) + count]:
            centres.append(left + box / 2)
            left += box
    return centres


def _clamp(centre: float, width: float, low: float, high: float) -> float:
    return max(low + width / 2, min(high - width / 2, centre))

"""What of a graph goes on a picture, and where: layers bottom to top, token positions left to right."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cotrace.graphs.graph import Graph


SLIDE = (960.0, 540.0)  # points: a 16:9 slide of 13.3 x 7.5 inches
MARGIN, AXIS, GUTTER = 18.0, 30.0, 8.0  # page margin, width of the layer names, space between columns
GAP, AIR = 12.0, 17.0  # more space where positions are left out; space below and above the layers
LABEL_SIZE, TARGET_HEIGHT, TOKEN_HEIGHT = 9.0, 33.0, 18.0
MANY_TOKENS = 24  # a cut picture of more tokens shows only those of its columns
DIAMETERS = (6.0, 23.0)  # of a node without influence and of the most influential one


# --- text -----------------------------------------------------------------------------------

# Advance widths of Helvetica in em, by the characters that share them; everything else is 0.56.
_WIDTHS = {"ijl'": 0.22, " !.,:;/\\[]ftI|": 0.28, "()-`r\"{}*": 0.34, "cksvxyzJ": 0.5, "ABEKPSVXY&FTZ": 0.66,
           "CDHNRUw": 0.72, "GOQ": 0.78, "mM": 0.84, "%": 0.89, "W…@⋯⏎": 1.0}  # fmt: skip
_EM = {character: em for characters, em in _WIDTHS.items() for character in characters}
_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """Text that shows what it is: outer spaces as ␣, line breaks as ⏎, characters no page can hold as �."""
    shown = "".join(_NAMED.get(character) or ("�" if _unprintable(character) else character) for character in text)
    inner = shown.strip(" ")
    lead = len(shown) - len(shown.lstrip(" "))
    return "␣" * lead + inner + "␣" * (len(shown) - lead - len(inner))


def _unprintable(character: str) -> bool:
    # Bidirectional overrides would turn the rest of the picture's text around.
    return unicodedata.category(character) in ("Cc", "Cs", "Cn") or character in _BIDI


def text_width(text: str, size: float = LABEL_SIZE) -> float:
    """Approximate width of a line of Helvetica or Arial, in points."""
    return size * sum(_EM.get(character) or _other_em(character) for character in text)


def _other_em(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    # Emoji and symbols are often borrowed from another, wider font.
    symbol = 1.25 if unicodedata.category(character) == "So" else 0.56
    return max(symbol, 1.0) if unicodedata.east_asian_width(character) in "WF" else symbol


def shorten(text: str, width: float, size: float = LABEL_SIZE, keep_end: float = 0.0) -> str:
    """Cut a text to a width in points with an ellipsis; `keep_end` is the share that the end gets."""
    if text_width(text, size) <= width:
        return text
    width -= text_width("…", size)
    head = _prefix(text, width * (1 - keep_end), size)
    tail = _prefix(text[::-1], width * keep_end, size)[::-1]
    return f"{head.rstrip()}…{tail.lstrip()}"


def _prefix(text: str, width: float, size: float) -> str:
    used = 0.0
    for index, character in enumerate(text):
        used += text_width(character, size)
        if used > width:
            return text[:index]
    return text


def wrap(parts: Sequence[str], width: float, size: float = LABEL_SIZE, separator: str = "  ·  ") -> list[str]:
    """Join parts into lines no wider than `width` points."""
    lines: list[str] = []
    for part in (shorten(part, width, size) for part in parts):
        joined = f"{lines[-1]}{separator}{part}" if lines else ""
        if lines and text_width(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


# --- which part -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Edges:
    """Edges among the nodes of a picture.

    `share` is |weight| as a share of the target's whole input, `carried` the influence that goes
    through the edge: the share times the influence of the target.
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    share: np.ndarray
    carried: np.ndarray

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.source)

    def take(self, index: np.ndarray) -> Edges:
        """The edges that an index array or a mask picks."""
        return Edges(self.source[index], self.target[index], self.weight[index], self.share[index], self.carried[index])


def strongest_nodes(graph: Graph, max_nodes: int) -> np.ndarray:
    """Sorted numbers of at most `max_nodes` nodes: targets, then the most influential ones.

    Every column that is used has its token. Features and errors that lead to none of the shown nodes
    give way to the next ones, so a cut picture shows connected paths.
    """
    if graph.order.n_nodes <= max_nodes:
        return np.arange(graph.order.n_nodes)
    barred = np.zeros(graph.order.n_nodes, bool)
    while True:
        shown = _pick(graph, max_nodes, barred)
        lonely = np.setdiff1d(shown, edges_among(graph, shown).source)
        lonely = lonely[lonely < graph.order.errors.stop]
        lonely = np.setdiff1d(lonely, [target["node"] for target in graph.info["targets"]])
        if not len(lonely):
            return shown
        barred[lonely] = True


def _pick(graph: Graph, max_nodes: int, barred: np.ndarray) -> np.ndarray:
    order, position, influence = graph.order, positions(graph), shown_influence(graph)
    token_at = {int(position[row]): row for row in range(order.tokens.start, order.tokens.stop)}
    by_weight = sorted(graph.info["targets"], key=lambda target: -target["weight"])
    shown: set[int] = set()
    for target in (target["node"] for target in by_weight):
        more = shown | {target, token_at.get(int(position[target]), target)}
        if len(more) <= max(2, max_nodes // 2):  # the other half is for what they come from
            shown = more
    if order.n_tokens <= min(max_nodes // 4, MANY_TOKENS):
        shown |= set(token_at.values())
    candidates = np.flatnonzero((influence > 0) & ~barred)
    for row in candidates[np.argsort(-influence[candidates], kind="stable")].tolist():
        if len(shown) >= max_nodes:
            break
        if row < order.logits.start:
            needed = shown | {row, token_at.get(int(position[row]), row)}
            shown = needed if len(needed) <= max_nodes else shown
    return np.array(sorted(shown))


def positions(graph: Graph) -> np.ndarray:
    """Position of every node, (M,) int; a target without one stands at the last token."""
    return graph.column("position", missing=len(graph.info["tokens"]) - 1)


def shown_influence(graph: Graph) -> np.ndarray:
    """The column `influence`, (M,), with NaN as 0."""
    return np.nan_to_num(graph.column("influence"))


def edges_among(graph: Graph, nodes: np.ndarray) -> Edges:
    """All edges between the given nodes, with shares of the whole row of the target."""
    inside = np.zeros(graph.order.n_nodes, bool)
    inside[nodes] = True
    mass = shown_influence(graph) + graph.target_weights
    found: list[tuple[np.ndarray, ...]] = []
    for target in nodes.tolist():  # row by row: a traced graph can have far more edges than the picture
        row = slice(int(graph.indptr[target]), int(graph.indptr[target + 1]))
        sources, weights = graph.indices[row], graph.weights[row].astype(np.float64)
        keep = inside[sources] & (weights != 0)
        share = np.abs(weights[keep]) / (np.abs(weights).sum() or 1.0)
        found.append((sources[keep], np.full(keep.sum(), target), weights[keep], share, share * mass[target]))
    return Edges(*(np.concatenate(column) for column in zip(*found, strict=True)))


def strongest_edges(edges: Edges, max_edges: int) -> Edges:
    """At most `max_edges` edges by the influence they carry, weakest first.

    The strongest edge out of each node stays in any case, so that no shown node hangs in the air.
    """
    ranked = np.argsort(-edges.carried, kind="stable")
    _, first_of_source = np.unique(edges.source[ranked], return_index=True)
    kept = np.union1d(ranked[:max_edges], ranked[first_of_source])
    return edges.take(kept[np.argsort(edges.carried[kept], kind="stable")])


# --- where ----------------------------------------------------------------------------------


@dataclass
class Mark:
    """One node of a picture; `layout` fills in its centre x, y in points from the lower left corner.

    `size` is the diameter of a feature or error; tokens and targets are boxes of `width`. `detail`
    is the second line of a target, `note` what the pointer tells.
    """

    row: int
    kind: str
    layer: int
    position: int
    label: str = ""
    size: float = 0.0
    detail: str = ""
    note: str = ""
    is_target: bool = False
    x: float = 0.0
    y: float = 0.0

    @property
    def name(self) -> str:
        """How tooltips call it."""
        return f"{self.kind} {self.label}".strip()

    def width(self, beside: bool = True) -> float:
        """Width with the label, which stands beside or below a circle and inside a box."""
        text = text_width(self.label)
        if self.kind in ("token", "logit"):
            return max(text * 1.1, text_width(self.detail)) + 10
        gap = 3.0 if self.label else 0.0
        return self.size + gap + text if beside else max(self.size, text)

    def circle(self, beside: bool = True) -> tuple[float, float, float]:
        """Centre x, y and half the height of the circle, diamond or box itself, without its label."""
        if self.kind in ("token", "logit"):
            return self.x, self.y, self.height() / 2
        if not self.label:
            return self.x, self.y, self.size / 2
        if beside:
            return self.x - self.width() / 2 + self.size / 2, self.y, self.size / 2
        return self.x, self.y + self.height(False) / 2 - self.size / 2, self.size / 2

    def height(self, beside: bool = True) -> float:
        """Height with the label."""
        if self.kind in ("token", "logit"):
            return TOKEN_HEIGHT if self.kind == "token" else TARGET_HEIGHT - 5
        line = LABEL_SIZE * 1.15 if self.label else 0.0
        return max(self.size, line) if beside else self.size + line


@dataclass(frozen=True)
class Page:
    """Size of the page and of what stands above and below the drawing, in points."""

    width: float
    height: float
    header: float
    footer: float


@dataclass
class Layout:
    """Page size, column spans and layer spans in points; the marks carry their own places.

    `beside` says whether labels stand beside or below the circles; the columns reach from `bottom`
    to `top`.
    """

    width: float
    height: float
    beside: bool
    bottom: float
    top: float
    columns: dict[int, tuple[float, float]] = field(default_factory=dict)
    layers: dict[int, tuple[float, float]] = field(default_factory=dict)


Cells = dict[tuple[int, int], list[Mark]]


def lay_out(marks: list[Mark], edges: Edges, header: float, footer: Callable[[float], float]) -> Layout:
    """Place all marks on the smallest 16:9 page that holds them, from 0.75 of a slide upwards.

    `header` is the height of the title, `footer(width)` that of legend and caption on a page of
    that width. Tries labels beside and below the circles, and full cells on one or more lines.
    """
    cells = _cells(marks)
    busiest = max((len(cell) for cell in cells.values()), default=1)
    per_line = sorted({-(-busiest // lines) for lines in range(1, busiest + 1)}, reverse=True)
    arrangements = [_Arrangement(marks, cells, count, beside) for beside in (True, False) for count in per_line]
    scale = 0.75
    while True:
        page = Page(scale * SLIDE[0], scale * SLIDE[1], header, footer(scale * SLIDE[0]))
        for arrangement in arrangements:
            if min(arrangement.spare(page)) >= 0:
                return arrangement.place(page, edges)
        scale *= 1.04


def _cells(marks: Iterable[Mark]) -> Cells:
    cells: Cells = defaultdict(list)
    for mark in marks:
        if mark.kind in ("feature", "error"):
            cells[mark.layer, mark.position].append(mark)
    return cells


class _Arrangement:
    """One way to break the cells into lines: the sizes that follow, and the places on a page."""

    def __init__(self, marks: list[Mark], cells: Cells, per_line: int, beside: bool):
        self.beside = beside
        self.tokens = [mark for mark in marks if mark.kind == "token"]
        self.targets = sorted((mark for mark in marks if mark.kind == "logit"), key=lambda mark: mark.position)
        self.lines: dict[int, dict[int, list[list[Mark]]]] = defaultdict(dict)
        for (layer, position), cell in sorted(cells.items()):
            self.lines[layer][position] = _split(cell, -(-len(cell) // per_line))
        columns = sorted({mark.position for mark in marks})
        self.widths = {position: self._column_width(position) for position in columns}
        self.heights = {layer: self._line_heights(layer) for layer in self.lines}
        self.gaps = {
            position: GUTTER + (GAP if position + 1 < following else 0)
            for position, following in zip(columns, [*columns[1:], 0], strict=True)
        }

    def all_lines(self) -> list[list[Mark]]:
        """Every line of every cell, from the lowest layer up."""
        return [line for row in self.lines.values() for cell in row.values() for line in cell]

    def line_width(self, line: list[Mark]) -> float:
        """Width of the nodes of one line of a cell."""
        return sum(mark.width(self.beside) + GUTTER for mark in line)

    def _column_width(self, position: int) -> float:
        lines = [line for row in self.lines.values() for line in row.get(position, [])]
        tokens = [mark.width() for mark in self.tokens if mark.position == position]
        return max([20.0, *tokens, *map(self.line_width, lines)])

    def _line_heights(self, layer: int) -> list[float]:
        lines = itertools.zip_longest(*self.lines[layer].values(), fillvalue=[])
        return [max(mark.height(self.beside) + 4 for mark in itertools.chain(*line)) for line in lines]

    def _target_lines(self, page: Page) -> list[list[Mark]]:
        needed = sum(mark.width() + GUTTER for mark in self.targets)
        return _split(self.targets, math.ceil(needed / (page.width - 2 * MARGIN - AXIS)))

    def spare(self, page: Page) -> tuple[float, float]:
        """Room that is left on a page, to the right and above; negative where the page is too small."""
        target_lines = self._target_lines(page)
        columns = sum(self.widths.values()) + sum(self.gaps.values())
        targets = max((sum(mark.width() + GUTTER for mark in line) for line in target_lines), default=0.0)
        rows = sum(map(sum, self.heights.values())) + len(target_lines) * TARGET_HEIGHT
        return (
            page.width - max(columns, targets) - AXIS - 2 * MARGIN,
            page.height - rows - TOKEN_HEIGHT - 2 * AIR - page.header - page.footer,
        )

    def place(self, page: Page, edges: Edges) -> Layout:
        """Give every mark its place."""
        target_lines = self._target_lines(page)
        top = page.height - page.header - len(target_lines) * TARGET_HEIGHT
        layout = Layout(page.width, page.height, self.beside, page.footer + TOKEN_HEIGHT, top)
        spare_x, spare_y = self.spare(page)
        self._place_columns(layout, spare_x)
        self._place_lines(layout, spare_y)
        for token in self.tokens:
            token.x, token.y = sum(layout.columns[token.position]) / 2, layout.bottom - TOKEN_HEIGHT / 2
        for index, line in enumerate(reversed(target_lines)):
            self._place_targets(layout, line, top + (index + 0.5) * TARGET_HEIGHT)
        Untangler(self, layout, edges).run()
        return layout

    def _place_columns(self, layout: Layout, spare: float) -> None:
        # The more nodes in a column, the more spare width it gets: its edges need room to pass by them.
        nodes = Counter(mark.position for line in self.all_lines() for mark in line)
        weights = {position: width * max(nodes[position], 0.3) for position, width in self.widths.items()}
        extra = min(spare, 2.0 * sum(self.widths.values()))
        growth = extra / sum(weights.values())
        left = MARGIN + AXIS + GUTTER / 2 + (spare - extra) / 2
        for position, width in self.widths.items():
            right = left + width + growth * weights[position]
            layout.columns[position] = (left, right)
            left = right + self.gaps[position]

    def _place_lines(self, layout: Layout, spare: float) -> None:
        gap = spare / max(1, sum(map(len, self.heights.values())))
        bottom = layout.bottom + AIR
        for layer, heights in self.heights.items():
            start = bottom
            lines = itertools.zip_longest(*self.lines[layer].values(), fillvalue=[])
            for height, line in zip(heights, lines, strict=True):
                for mark in itertools.chain(*line):
                    mark.y = bottom + (height + gap) / 2
                bottom += height + gap
            layout.layers[layer] = (start, bottom)

    def _place_targets(self, layout: Layout, line: list[Mark], y: float) -> None:
        centres = [sum(layout.columns[mark.position]) / 2 for mark in line]
        widths = [mark.width() + GUTTER for mark in line]
        for mark, x in zip(line, spread(centres, widths, MARGIN + AXIS, layout.width - MARGIN), strict=True):
            mark.x, mark.y = x, y


def _split(marks: list[Mark], count: int) -> list[list[Mark]]:
    """Cut a list into `count` parts of nearly equal length."""
    bounds = [round(len(marks) * index / count) for index in range(count + 1)] if count else [0]
    return [marks[start:stop] for start, stop in itertools.pairwise(bounds)]


def spread(centres: Sequence[float], widths: Sequence[float], low: float, high: float) -> list[float]:
    """Centres of boxes side by side, in order, as near as possible to the wanted ones (ascending)."""
    groups: list[tuple[float, float, int]] = []  # centre, width, number of boxes of touching groups
    for centre, width in zip(centres, widths, strict=True):
        group = (_between(centre, width, low, high), width, 1)
        while groups and groups[-1][0] + groups[-1][1] / 2 > group[0] - group[1] / 2:
            x, w, n = groups.pop()
            middle = (x * n + group[0] * group[2]) / (n + group[2])
            group = (_between(middle, w + group[1], low, high), w + group[1], n + group[2])
        groups.append(group)
    result: list[float] = []
    for x, width, count in groups:
        left = x - width / 2
        for own in widths[len(result) : len(result) + count]:
            result.append(left + own / 2)
            left += own
    return result


def _between(centre: float, width: float, low: float, high: float) -> float:
    return max(low + width / 2, min(high - width / 2, centre))


# --- clear views ----------------------------------------------------------------------------

_T = np.linspace(0.04, 0.96, 24)
_FROM_SOURCE = (1 - _T) ** 3 + 3 * (1 - _T) ** 2 * _T  # share of the source's x along the curve
BEND = 0.45  # how far the control points of an edge stand from its ends, as a share of its height
_RISE = 3 * BEND * (1 - _T) ** 2 * _T + 3 * (1 - BEND) * (1 - _T) * _T**2 + _T**3


class Untangler:
    """Slides each line of nodes within its column to where the fewest edges pass under other nodes.

    A cost in points: the length of edges hidden under nodes and labels that they do not belong to,
    plus a twentieth of the edges' horizontal way. Every line tries a few places, twice around.
    """

    def __init__(self, arrangement: _Arrangement, layout: Layout, edges: Edges):
        """Take an arrangement whose columns, layers, tokens and targets have their places."""
        self.beside, self.columns = layout.beside, layout.columns
        self.lines, self.line_width = arrangement.all_lines(), arrangement.line_width
        self.marks = [*arrangement.tokens, *arrangement.targets, *itertools.chain(*self.lines)]
        self.number = {mark.row: index for index, mark in enumerate(self.marks)}
        self.source = np.array([self.number[row] for row in edges.source.tolist()], np.intp)
        self.target = np.array([self.number[row] for row in edges.target.tolist()], np.intp)
        self.half_width = np.array([mark.width(self.beside) / 2 for mark in self.marks])
        self.half_height = np.array([mark.height(self.beside) / 2 for mark in self.marks])
        self.places = np.zeros((len(self.marks), 5))  # box x, y; circle x, y, half height

    def run(self) -> None:
        """Move the marks of all lines."""
        for line in self.lines:
            self._slide(line, 0.5)
        self._note(self.marks)
        for line in self.lines:
            line.sort(key=self._pull)
            self._slide(line, 0.5)
        for _ in range(2):
            for line in self.lines:
                costs = {phase: self._cost(line, phase) for phase in (0.5, 0.35, 0.65, 0.2, 0.8, 0.0, 1.0)}
                self._slide(line, min(costs, key=costs.__getitem__))

    def _slide(self, line: list[Mark], phase: float) -> None:
        left, right = self.columns[line[0].position]
        x = left + phase * (right - left - self.line_width(line)) + GUTTER / 2
        for mark in line:
            width = mark.width(self.beside)
            mark.x = x + width / 2
            x += width + GUTTER
        self._note(line)

    def _note(self, marks: list[Mark]) -> None:
        for mark in marks:
            self.places[self.number[mark.row]] = (mark.x, mark.y, *mark.circle(self.beside))

    def _pull(self, mark: Mark) -> float:
        own = self.number[mark.row]
        ends = np.concatenate([self.target[self.source == own], self.source[self.target == own]])
        return float(self.places[ends, 0].mean()) if len(ends) else mark.x

    def _cost(self, line: list[Mark], phase: float) -> float:
        self._slide(line, phase)
        own = np.array([self.number[mark.row] for mark in line])
        touching = np.flatnonzero(np.isin(self.source, own) | np.isin(self.target, own))
        way = np.abs(self.places[self.source[touching], 2] - self.places[self.target[touching], 2]).sum()
        everything = np.arange(len(self.marks))
        return self._hidden(np.arange(len(self.source)), own) + self._hidden(touching, everything) + 0.05 * float(way)

    def _hidden(self, edges: np.ndarray, nodes: np.ndarray) -> float:
        """Height in points that these edges spend under these nodes, their own ends excepted."""
        source, target = self.source[edges], self.target[edges]
        start, end = self.places[source], self.places[target]
        rise = end[:, 3] - end[:, 4] - start[:, 3] - start[:, 4]
        x = start[:, 2:3] * _FROM_SOURCE + end[:, 2:3] * (1 - _FROM_SOURCE)
        y = (start[:, 3] + start[:, 4])[:, None] + rise[:, None] * _RISE
        box = self.places[nodes]
        inside = np.abs(x[:, :, None] - box[:, 0]) < self.half_width[nodes]
        inside &= np.abs(y[:, :, None] - box[:, 1]) < self.half_height[nodes]
        inside &= ((source[:, None] != nodes) & (target[:, None] != nodes))[:, None, :]
        return float((inside.sum(axis=(1, 2)) * np.abs(rise)).sum() / len(_T))

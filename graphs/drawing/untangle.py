"""Choose horizontal positions of nodes that hide as little as possible of the edges."""

import itertools
from collections.abc import Sequence

import numpy as np

from .picture_nodes import PictureNode
from .select import EdgeTable
from .style import EDGE_BEND, NODE_GAP_PT

ROUNDS = 2
PHASES = (0.5, 0.35, 0.65, 0.2, 0.8, 0.0, 1.0)  # positions tried for a line, as shares of the column's free width
DETOUR_COST = 0.05  # of a point of an edge's horizontal extent; a hidden point costs 1

# Points along an edge, which is a cubic Bézier curve that leaves and arrives vertically.
_T = np.linspace(0.04, 0.96, 24)
_SOURCE_SHARE = (1 - _T) ** 3 + 3 * (1 - _T) ** 2 * _T  # of the source's x
_RISE = 3 * EDGE_BEND * (1 - _T) ** 2 * _T + 3 * (1 - EDGE_BEND) * (1 - _T) * _T**2 + _T**3


def line_width(line: Sequence[PictureNode], label_beside: bool) -> float:
    """Return the width of nodes side by side, in points."""
    return sum(node.width(label_beside) + NODE_GAP_PT for node in line)


def untangle(
    fixed: Sequence[PictureNode],
    lines: Sequence[list[PictureNode]],
    edges: EdgeTable,
    columns: dict[int, tuple[float, float]],
    label_beside: bool,
) -> None:
    """Set `x` of the nodes of all lines, within their columns, so that nodes hide as little of the edges as possible.

    The cost of a placement is the height of edges under nodes and labels that they do not belong to, plus
    `DETOUR_COST` times their horizontal extent. In each of `ROUNDS` rounds, every line moves to the cheapest of a few
    positions.

    Args:
        fixed: nodes that keep their `x`.
        lines: nodes that stand side by side, from the lowest layer up; each list is sorted in place.
        edges: edges between all of these nodes.
        columns: left and right end of every position's column, in points.
        label_beside: labels stand beside the shapes, not below.
    """
    search = _Search(fixed, lines, edges, columns, label_beside)
    for line in lines:
        search.place(line, 0.5)
    for line in lines:
        line.sort(key=search.mean_neighbour_x)
        search.place(line, 0.5)
    for _ in range(ROUNDS):
        for line in lines:
            costs = {phase: search.cost(line, phase) for phase in PHASES}
            search.place(line, min(costs, key=costs.__getitem__))


class _Search:
    """Current coordinates of all nodes as arrays, and the cost of moving a line."""

    def __init__(
        self,
        fixed: Sequence[PictureNode],
        lines: Sequence[list[PictureNode]],
        edges: EdgeTable,
        columns: dict[int, tuple[float, float]],
        label_beside: bool,
    ):
        nodes = [*fixed, *itertools.chain(*lines)]
        self.columns, self.label_beside = columns, label_beside
        self.index = {node.row: index for index, node in enumerate(nodes)}
        self.source = np.array([self.index[row] for row in edges.source.tolist()], np.intp)
        self.target = np.array([self.index[row] for row in edges.target.tolist()], np.intp)
        self.half_width = np.array([node.width(label_beside) / 2 for node in nodes])
        self.half_height = np.array([node.height(label_beside) / 2 for node in nodes])
        self.boxes = np.array([(node.x, node.y) for node in nodes])
        self.shapes = np.array([node.shape(label_beside) for node in nodes])  # x, y, half the height

    def place(self, line: list[PictureNode], phase: float) -> None:
        """Move a line: phase 0 is the left end of its column, 1 the right end."""
        left, right = self.columns[line[0].position]
        x = left + phase * (right - left - line_width(line, self.label_beside)) + NODE_GAP_PT / 2
        for node in line:
            width = node.width(self.label_beside)
            node.x = x + width / 2
            x += width + NODE_GAP_PT
            self.boxes[self.index[node.row]] = node.x, node.y
            self.shapes[self.index[node.row]] = node.shape(self.label_beside)

    def mean_neighbour_x(self, node: PictureNode) -> float:
        """Return the mean x of the nodes at the other ends of a node's edges."""
        index = self.index[node.row]
        ends = np.concatenate([self.target[self.source == index], self.source[self.target == index]])
        return float(self.boxes[ends, 0].mean()) if len(ends) else node.x

    def cost(self, line: list[PictureNode], phase: float) -> float:
        """Move a line and return the cost of the edges that this changes, in points."""
        self.place(line, phase)
        moved = np.array([self.index[node.row] for node in line])
        touching = np.flatnonzero(np.isin(self.source, moved) | np.isin(self.target, moved))
        detour = np.abs(self.shapes[self.source[touching], 0] - self.shapes[self.target[touching], 0]).sum()
        hidden = self._hidden(np.arange(len(self.source)), moved) + self._hidden(touching, np.arange(len(self.boxes)))
        return hidden + DETOUR_COST * float(detour)

    def _hidden(self, edges: np.ndarray, nodes: np.ndarray) -> float:
        """Return the height of these edges that lies under these nodes, without their own ends, in points."""
        source, target = self.source[edges], self.target[edges]
        start, end = self.shapes[source], self.shapes[target]
        bottom, top = start[:, 1] + start[:, 2], end[:, 1] - end[:, 2]
        rise = top - bottom
        x = start[:, :1] * _SOURCE_SHARE + end[:, :1] * (1 - _SOURCE_SHARE)
        y = bottom[:, None] + rise[:, None] * _RISE
        inside = np.abs(x[:, :, None] - self.boxes[nodes, 0]) < self.half_width[nodes]
        inside &= np.abs(y[:, :, None] - self.boxes[nodes, 1]) < self.half_height[nodes]
        inside &= ((source[:, None] != nodes) & (target[:, None] != nodes))[:, None, :]
        return float((inside.sum(axis=(1, 2)) * np.abs(rise)).sum() / len(_T))

"""Names and labels of the nodes of a difference."""

from cotrace.common.visible_text import quoted, visible
from cotrace.graphs.annotations import groups_of_nodes
from cotrace.graphs.labels import short_label
from cotrace.graphs.nodes import ErrorNode, Feature

from .align import Alignment
from .matching import ERROR, FEATURE, GROUP, LABEL, LOGIT, SITE, TOKEN, Graphs, Matching, labels_of
from .tables import NodesSideBySide


class UnitNames:
    """Positions, names and labels of units; a unit in both graphs is named as in A."""

    def __init__(self, graphs: Graphs, alignment: Alignment, matching: Matching, nodes: NodesSideBySide):
        self.graphs, self.alignment = graphs, alignment
        self.kind, self.layer, self.column = (
            values.tolist() for values in (matching.kind, matching.layer, matching.column)
        )
        self.nodes = list(zip(nodes.node_a.tolist(), nodes.node_b.tolist(), strict=True))
        self._texts = [graph.nodes["text"].to_pylist() for graph in graphs]
        self._labels = [labels_of(graph) for graph in graphs]
        self._counts = nodes.count_a, nodes.count_b
        self._features = [graph.column("feature", -1) for graph in graphs]
        self._groups = [groups_of_nodes(graph) if GROUP in self.kind else {} for graph in graphs]

    def position(self, unit: int, side: int) -> int | None:
        """Return the position of a unit in A or B, None if it has none there."""
        column = self.column[unit]
        return None if column < 0 else self.alignment.positions[column][side]

    def name(self, unit: int) -> str:
        """Return the name of a unit: `L17#264@5`, `' hot'@4`; `L17#264@5/6` at position 5 of A and 6 of B."""
        kind, layer = self.kind[unit], self.layer[unit]
        side, node = self._first(unit)
        if kind == GROUP:
            return f"group {quoted(self._groups[side][node][0])}"
        if kind == LOGIT:
            return " | ".join(dict.fromkeys(map(quoted, self._of_both(self._texts, unit)))) + self._at(unit)
        if kind == FEATURE:
            return str(Feature(layer, int(self._features[side][node]))) + self._at(unit)
        if kind == ERROR:
            return str(ErrorNode(layer)) + self._at(unit)
        if kind == SITE:
            return f"features of L{layer}{self._at(unit)}"
        return quoted((self._labels if kind == LABEL else self._texts)[side][node]) + self._at(unit)

    def label(self, unit: int) -> str:
        """Return the label of a feature or error node, the one of A if both graphs have one; empty if there is none."""
        if self.kind[unit] not in (FEATURE, ERROR, LABEL):
            return ""
        return next(filter(None, self._of_both(self._labels, unit)), "")

    def shown(self, unit: int) -> str:
        """Return what a picture writes at a unit: its label or number, its text, or the number of its features."""
        kind, (side, node) = self.kind[unit], self._first(unit)
        if kind == SITE:
            shown = " | ".join(dict.fromkeys(f"{count[unit]:,}" for count in self._counts if count[unit]))
            return f"{shown} feature{'s' * (shown != '1')}"
        if kind == GROUP:
            return self._groups[side][node][0]
        if kind in (TOKEN, LOGIT):
            return " | ".join(dict.fromkeys(map(visible, self._of_both(self._texts, unit))))
        return visible(short_label(self.label(unit))) or str(self._features[side][node])

    def names(self) -> list[str]:
        """Return the name of every unit, (U,)."""
        return [self.name(unit) for unit in range(len(self.kind))]

    def labels(self) -> list[str]:
        """Return the label of every unit, (U,)."""
        return [self.label(unit) for unit in range(len(self.kind))]

    def positions(self, side: int) -> list[int | None]:
        """Return the position of every unit in A or B, (U,)."""
        return [self.position(unit, side) for unit in range(len(self.kind))]

    def _first(self, unit: int) -> tuple[int, int]:
        """Return the graph that names a unit, and the node there."""
        a, b = self.nodes[unit]
        return (0, a) if a >= 0 else (1, b)

    def _of_both(self, values: list[list[str]], unit: int) -> list[str]:
        return [values[side][node] for side, node in enumerate(self.nodes[unit]) if node >= 0]

    def _at(self, unit: int) -> str:
        """Return the position of a unit after an @: those of both graphs if it is in both and they differ."""
        here = [self.position(unit, side) for side, node in enumerate(self.nodes[unit]) if node >= 0]
        shown = dict.fromkeys(str(position) for position in here if position is not None)
        return f"@{'/'.join(shown)}" if shown else ""

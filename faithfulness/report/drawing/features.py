"""The features that matter most in each segment, by their effect on the answer."""

from typing import NamedTuple

import numpy as np

from cotrace.common.visible_text import visible
from cotrace.graphs import Graph
from cotrace.graphs.nodes import Feature
from cotrace.graphs.saved_effects import expected_sizes

MAX_FEATURES = 3  # of a segment


class NamedFeature(NamedTuple):
    """A feature of a segment: its layer and number, its most important position, its label or name, and how much it matters."""

    feature: Feature
    name: str
    size: float
    measure: str

    @property
    def tooltip(self) -> str:
        """Name, node and size."""
        return f"{self.feature} {self.name}: {self.measure} {self.size:.4g}"


class FeatureRanking:
    """The features of a circuit, those that matter most to the answer first.

    They are ranked by the size of the expected effect on the targets that are read at `read`, or on all targets if there are
    none, or by influence in a graph without effects.
    """

    def __init__(self, graph: Graph, read: range = range(0)):
        self.graph = graph
        targets = [each for each in graph.info["targets"] if each.get("position", graph.info["position"]) in read]
        sizes, self.measure = expected_sizes(graph, targets or graph.info["targets"]), "expected effect"
        if sizes is None:
            sizes, self.measure = graph.column("influence").astype(np.float64), "influence"
        self.sizes = sizes[graph.order.features]
        self.order = np.argsort(-self.sizes, kind="stable")
        self.positions = graph.column("position")[graph.order.features]

    def __repr__(self) -> str:
        return f"<FeatureRanking of {len(self.order)} features by {self.measure}>"

    def strongest(self, first: int, last: int) -> list[NamedFeature]:
        """Return at most `MAX_FEATURES` features at positions `first` to `last`.

        One that is active at several positions is listed once, with the position where it matters most.
        """
        inside = (self.positions >= first) & (self.positions <= last) & (self.sizes > 0)
        found: dict[tuple[int, int], NamedFeature] = {}
        for node in self.order[inside[self.order]].tolist():
            row = self.graph.nodes.slice(node, 1).select(["layer", "feature", "label"]).to_pylist()[0]
            key = row["layer"], row["feature"]
            if key not in found:
                name = visible(row["label"] or str(Feature(*key)))
                feature = Feature(*key, int(self.positions[node]))
                found[key] = NamedFeature(feature, name, float(self.sizes[node]), self.measure)
            if len(found) == MAX_FEATURES:
                break
        return list(found.values())

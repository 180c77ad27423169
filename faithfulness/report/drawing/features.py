"""The features that matter most in each segment, by their effect on the answer."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cotrace.common.visible_text import visible
from cotrace.graphs import Graph
from cotrace.graphs.nodes import Feature
from cotrace.graphs.saved_effects import expected_sizes

MAX_FEATURES, MAX_NAMES = 3, 2
NAMES = "feature_names"  # entry of the graph's metadata: the top output tokens of each feature


class NamedFeature(NamedTuple):
    """A feature of a segment: its layer and number, its most important position, its name, and how much it matters."""

    feature: Feature
    name: str
    size: float
    measure: str

    @property
    def tooltip(self) -> str:
        """Name, node and size."""
        return f"{self.feature} {self.name}: {self.measure} {self.size:.4g}"


def strongest_features(graph: Graph, positions: Iterable[int]) -> list[NamedFeature]:
    """Return at most `MAX_FEATURES` features at the positions, those that matter most to the answer first.

    They are ranked by the size of the expected effect, or by influence in a graph without effects. A feature that is active
    at several positions is listed once, with the one where it matters most.
    """
    sizes, measure = expected_sizes(graph, graph.info["targets"]), "expected effect"
    if sizes is None:
        sizes, measure = graph.column("influence").astype(np.float64), "influence"
    nodes = np.arange(graph.order.features.start, graph.order.features.stop)
    nodes = nodes[np.isin(graph.column("position")[nodes], list(positions)) & (sizes[nodes] > 0)]
    layers, features, places = (graph.column(name) for name in ("layer", "feature", "position"))
    found: dict[tuple[int, int], NamedFeature] = {}
    for node in nodes[np.argsort(-sizes[nodes], kind="stable")].tolist():
        key = int(layers[node]), int(features[node])
        if key not in found and len(found) < MAX_FEATURES:
            name = _name(graph, *key, graph.nodes["text"][node].as_py())
            found[key] = NamedFeature(Feature(*key, int(places[node])), name, float(sizes[node]), measure)
    return list(found.values())


def _name(graph: Graph, layer: int, feature: int, label: str | None) -> str:
    """Return the user's label, else the top output tokens, else the plain name of a feature."""
    plain = str(Feature(layer, feature))
    tokens = graph.info.get(NAMES, {}).get(plain)
    if label or not tokens:
        return visible(label or plain)
    return ", ".join(f"“{visible(token.strip() or token)}”" for token in tokens[:MAX_NAMES])

"""The usual activation of features: the unit in which to choose the size of an edit."""

import numpy as np

from cotrace.common.errors import ArgumentError

from .data import GraphData


def usual_activations(graph: GraphData) -> np.ndarray:
    """Return the usual activation of every feature node, (N,) float64.

    That is the mean activation of the node's feature over the positions of the graph at which it is active. A pruned graph
    has fewer of these.
    """
    features = graph.order.features
    layer, feature = (graph.column(name, -1)[features].astype(np.int64) for name in ("layer", "feature"))
    activation = graph.column("activation")[features].astype(np.float64)
    _, number = np.unique(np.stack([layer, feature]), axis=1, return_inverse=True)
    number = number.reshape(-1)
    return (np.bincount(number, activation) / np.maximum(np.bincount(number), 1))[number] if len(number) else activation


def usual_activation(graph: GraphData, layer: int, feature: int) -> float:
    """Return the mean activation of a feature over the positions of the graph at which it is active.

    Raises ArgumentError for a feature that is active nowhere in the graph.
    """
    features = graph.order.features
    is_feature = (graph.column("layer", -1)[features] == layer) & (graph.column("feature", -1)[features] == feature)
    if not is_feature.any():
        raise ArgumentError(
            f"L{layer}#{feature} is not in the graph, so its usual activation is unknown; give a number"
        )
    return float(usual_activations(graph)[is_feature][0])

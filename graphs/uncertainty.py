"""How certain the influence of a node is: intervals, and what kind of number it is."""

import numpy as np

from .data import GraphData
from .sampling import LEVEL, student_quantile


def influence_interval(graph: GraphData, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of an interval of every node's influence; see `Graph.influence_interval`."""
    if graph.sampled:
        value, error = graph.influence_estimate[:2]
    elif graph.estimated:
        value, error = (graph.column(name).astype(np.float64) for name in ("influence", "standard_error"))
    else:
        value = graph.column("influence").astype(np.float64)
        return value, value + graph.column("influence_bound")
    half = student_quantile(n_replicates(graph), level) * error
    return np.maximum(value - half, 0.0), value + half


def influence_kind(graph: GraphData) -> np.ndarray:
    """Return "exact", "certified" or "estimate" for every node; see `Graph.influence_kind`."""
    bound_M = graph.column("influence_bound").astype(np.float64)
    if not graph.estimated:
        return np.where(bound_M > 0, "certified", "exact")
    error_M = graph.column("standard_error").astype(np.float64)
    unchanged_M = graph.column("influence") == graph.column(
        "certified"
    )  # replicates may agree on a factor other than 1
    narrower_M = bound_M < 2 * student_quantile(n_replicates(graph)) * error_M
    return np.select(
        [(bound_M == 0) & (error_M == 0) & unchanged_M, (bound_M == 0) | narrower_M], ["exact", "certified"], "estimate"
    )


def standard_errors(graph: GraphData, weights_M: np.ndarray) -> np.ndarray:
    """Return the standard error of the influence of every node on nodes with these weights, (M,); 0 without sampling.

    What was cut from a sampled graph has no replicates: there it is that of the traced graph's influence on all targets.
    """
    if graph.sampled:
        return graph.estimate_on(weights_M).standard_error
    if graph.estimated:
        return graph.column("standard_error").astype(np.float64)
    return np.zeros(graph.order.n_nodes)


def n_replicates(graph: GraphData) -> int:
    """Return the number of replicates from which the column `influence` of an estimated graph was estimated."""
    return graph.info["traced"]["sampling"]["replicates"]

"""The conservation identity of a graph, and the comparison of rows, as several test files check them."""

import numpy as np


def relative(actual, expected) -> float:
    """Return the largest difference in units of each row's largest entry."""
    size = np.abs(expected).max(-1, keepdims=True)
    return float((np.abs(actual - expected) / np.where(size > 0, size, 1)).max())


def conservation_gap(graph) -> np.ndarray:
    """Return |incoming edges + dropped + bias - pre-activation| over the row's absolute mass, for computed rows."""
    computed = graph.column("computed").astype(bool)
    matrix = graph.adjacency()
    total = matrix.sum(1) + graph.column("dropped") + graph.column("bias")
    mass = np.abs(matrix).sum(1) + np.abs(graph.column("bias"))
    return (np.abs(total - graph.column("pre_activation")) / mass)[computed]

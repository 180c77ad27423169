"""Floating-point operations of the rows of a graph, from which the rate of a sweep is computed."""

from typing import Any

import numpy as np

from cotrace.attribution.tracing.flops import SweepShape, count_vectors, row_flops


def sweep_flops(graph: Any, shape: SweepShape) -> int:
    """Return the least number of operations for the computed feature rows of a graph."""
    features = graph.order.features
    layer, position = (graph.column(name, missing=-1)[features].astype(np.int64) for name in ("layer", "position"))
    counts_LP = np.zeros((len(shape.windows), graph.order.n_tokens), np.int64)
    np.add.at(counts_LP, (layer, position), 1)
    computed = graph.computed[features]
    vectors_LP = count_vectors(counts_LP, graph.info["transcoders"]["kind"] == "clt")
    return row_flops(shape, vectors_LP, layer[computed], position[computed])

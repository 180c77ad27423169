"""The least arithmetic that the computed rows of a graph take: what the sweep's rate is measured by."""

from typing import Any

import numpy as np

from cotrace.attribution.tracing.flops import SweepShape, count_vectors, row_flops


def sweep_operations(graph: Any, sizes: SweepShape) -> int:
    """Operations of the computed rows of a graph's features."""
    features = graph.order.features
    layer, position = (graph.column(name, missing=-1)[features].astype(np.int64) for name in ("layer", "position"))
    counts_LP = np.zeros((len(sizes.windows), graph.order.n_tokens), np.int64)
    np.add.at(counts_LP, (layer, position), 1)
    computed = graph.computed[features]
    entries_LP = count_vectors(counts_LP, graph.info["transcoders"]["kind"] == "clt")
    return row_flops(sizes, entries_LP, layer[computed], position[computed])

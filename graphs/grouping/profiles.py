"""What is compared between features: effects, signed edges out and in, decoder directions; and the cosines of these.

A profile is a vector for each of n features; features are compared by the cosine of their vectors, which has a sign.

- effects: the expected effect on each target; without saved effects, the effect along the edges.
- outputs: the weights of the edges out of the feature, each as a share of its target's input, times the square root of the
  target's influence: without the root, the edge to one heavy target would be all that counts.
- inputs: the weights of the edges into the feature.
- directions: the decoder vector.

Edges to and from one feature at several positions are added up, and so are those of the error nodes of a layer. Features at
different positions can therefore have the same outputs and inputs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csc_array

from cotrace.graphs.data import GraphData
from cotrace.graphs.effects import total_effects
from cotrace.graphs.order import NodeKind
from cotrace.graphs.saved_effects import has_effects, saved_effects

WEIGHTS = {
    "effects": 6.0,
    "outputs": 1.0,
    "inputs": 1.0,
    "directions": 1.0,
}  # of the cosines in the similarity; docs/groups.md says how they were chosen
FEWEST_TARGETS = 3  # effects on fewer have nearly the same direction by chance
COLUMNS_AT_ONCE = 4096
DECIMALS = 6  # kept of a similarity, so that rounding by another BLAS does not change groups

Directions = Callable[[np.ndarray], np.ndarray]
"""Takes node numbers of n features and returns their decoder directions, (n, D)."""


def cosines(
    graph: GraphData, nodes: np.ndarray, mass_M: np.ndarray, directions: Directions | None = None
) -> dict[str, np.ndarray]:
    """Return the cosines between n features by profile, each (n, n), NaN where a feature's profile is zero or not known.

    Args:
        graph: the graph.
        nodes: node numbers of the features, ascending.
        mass_M: influence and target weight of every node.
        directions: the source of decoder directions; without it they are not compared.
    """
    found = {"outputs": _edge_cosines(_outputs(graph, nodes, mass_M)), "inputs": _edge_cosines(_inputs(graph, nodes))}
    if len(graph.info["targets"]) >= FEWEST_TARGETS:
        found["effects"] = _cosines(effects_on_targets(graph, graph.info["targets"])[:, nodes].T)
    if directions is not None:
        found["directions"] = _cosines(directions(nodes).astype(np.float64))
    return {name: found[name] for name in WEIGHTS if name in found}


def similarity_of(parts: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Return the similarity of n features, (n, n): the weighted mean of the cosines that are known, 0 where none is."""
    total, weights = np.zeros((n, n)), np.zeros((n, n))
    for name, cosine in parts.items():
        known = ~np.isnan(cosine)
        total[known] += WEIGHTS[name] * cosine[known]
        weights[known] += WEIGHTS[name]
    return np.divide(total, weights, out=total, where=weights > 0).round(DECIMALS)


def effects_on_targets(graph: GraphData, targets: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the change of each target when a node is ablated, (T, M), 0 where it is not known.

    It is the expected effect that a trace saved; without one, minus the effect along the edges.
    """
    if has_effects(graph):
        return np.nan_to_num(saved_effects(graph, targets).astype(np.float64))
    return -total_effects(graph, [target["node"] for target in targets])


def _cosines(vectors_nD: np.ndarray) -> np.ndarray:
    length_n = np.linalg.norm(vectors_nD, axis=1)
    unit_nD = vectors_nD / np.where(length_n > 0, length_n, np.nan)[:, None]
    return unit_nD @ unit_nD.T


def _outputs(graph: GraphData, nodes: np.ndarray, mass_M: np.ndarray) -> csc_array:
    """Return the edges out of n features by target, (n, C)."""
    csr, rank_M = graph.csr, np.full(graph.order.n_nodes, -1)
    rank_M[nodes] = np.arange(len(nodes))
    edge_K = np.flatnonzero(rank_M[csr.indices] >= 0)
    target_K = np.searchsorted(csr.indptr, edge_K, side="right") - 1
    totals_M = csr.row_totals()
    scale_M = np.divide(np.sqrt(mass_M), totals_M, out=np.zeros_like(totals_M), where=totals_M > 0)
    values_K = csr.weights[edge_K] * scale_M[target_K]
    return _matrix(graph, rank_M[csr.indices[edge_K]], target_K, values_K, len(nodes))


def _inputs(graph: GraphData, nodes: np.ndarray) -> csc_array:
    """Return the edges into n features by source, (n, C)."""
    rows = graph.csr.select_rows(nodes)
    feature_K = np.repeat(np.arange(len(nodes)), rows.row_lengths())
    return _matrix(graph, feature_K, rows.indices, rows.weights.astype(np.float64), len(nodes))


def _matrix(graph: GraphData, feature_K: np.ndarray, other_K: np.ndarray, value_K: np.ndarray, n: int) -> csc_array:
    """Return values by feature and the column of the node at the other end, (n, C); those of one column are added up."""
    columns, column_K = np.unique(_columns(graph)[other_K], return_inverse=True)
    return csc_array(coo_array((value_K, (feature_K, column_K.reshape(-1))), shape=(n, len(columns))))


def _columns(graph: GraphData) -> np.ndarray:
    """Return the column of every node in a profile, (M,): one for a feature, the errors of a layer, a token and a target."""
    kind_M = graph.order.kind_codes().astype(np.int64)
    layer_M, feature_M = (graph.column(name, -1).astype(np.int64) for name in ("layer", "feature"))
    site_M = np.where(kind_M <= NodeKind.ERROR, layer_M, np.arange(graph.order.n_nodes))
    return np.unique(np.stack([kind_M, site_M, feature_M]), axis=1, return_inverse=True)[1].reshape(-1)


def _edge_cosines(matrix_nC: csc_array) -> np.ndarray:
    """Return the cosines of the rows of a sparse matrix, computed in dense blocks of columns."""
    n, n_columns = matrix_nC.shape
    products = np.zeros((n, n))
    for start in range(0, n_columns, COLUMNS_AT_ONCE):
        block = matrix_nC[:, start : start + COLUMNS_AT_ONCE].toarray()
        products += block @ block.T
    length_n = np.sqrt(products.diagonal())
    length_n[length_n == 0] = np.nan
    return products / length_n / length_n[:, None]

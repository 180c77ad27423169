"""What a graph predicts of an ablation: signed effects along its edges, where influence has no sign."""

from collections.abc import Iterable, Sequence

import numpy as np

from cotrace.common.compiled import compiled
from cotrace.common.errors import CotraceError

from .graph import Graph
from .influence import row_totals


def ablation_effects(graph: Graph, removed: Sequence[Iterable[int]], others_respond: bool = True) -> np.ndarray:
    """How much every node's value changes when features and error nodes are taken out, (K, M) float64.

    A value is a feature's activation or what a target reads; `removed` are K sets of nodes. Along the edges of
    this graph, everything is linear: a feature that reads less by some share of its activation writes less by that
    share. Without `others_respond`, features that are not removed keep their activations, and values are what
    they would read. Of removed nodes it is minus their activation, of errors -1, of tokens 0.

    Raises ValueError for nodes that are no features and no errors of the graph.
    """
    sets = [_changeable(graph, nodes) for nodes in removed]
    activation_M = np.nan_to_num(graph.column("activation"), nan=0.0).astype(np.float64)
    change_MK = np.zeros((graph.order.n_nodes, len(sets)))
    fixed_MK = np.zeros(change_MK.shape, np.bool_)
    for k, nodes in enumerate(sets):
        fixed_MK[nodes, k] = True
    arrays = graph.indptr, graph.indices, graph.weights, activation_M
    _spread(*arrays, graph.order.n_features, fixed_MK, others_respond, change_MK)
    return change_MK.T


def pair_influence(graph: Graph, sources: Iterable[int]) -> np.ndarray:
    """Influence of K features or error nodes on every node, (K, M): the share of its paths' weight that begins there.

    Column by column what `Graph.influence` is for the targets: `Ahat + Ahat^2 + ...` with rows that add up to 1
    (Ameisen et al. 2025, "Evaluating Mechanistic Faithfulness", where it is compared with ablations). Raises
    ValueError for nodes that are no features and no errors of the graph, and for one that is named twice.
    """
    nodes = _changeable(graph, sources)
    influence_MK = np.zeros((graph.order.n_nodes, len(nodes)))
    _reach(graph.indptr, graph.indices, graph.weights, row_totals(graph.indptr, graph.weights), nodes, influence_MK)
    return influence_MK.T


def _changeable(graph: Graph, nodes: Iterable[int]) -> np.ndarray:
    """Numbers of features and errors, each once, as the loops below take them without looking."""
    array, changeable = np.array(list(nodes)), graph.order.n_features + graph.order.n_errors
    if not array.size:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= changeable:
        raise CotraceError(f"only features and errors can be ablated, the nodes 0 … {changeable - 1} of this graph")
    if len(np.unique(array)) < len(array):
        raise CotraceError("a node is named twice; name each once")
    return array.astype(np.int64)


@compiled
def _reach(indptr, indices, weights, totals, nodes, influence):
    column = np.full(len(totals), -1)
    for k in range(len(nodes)):
        column[nodes[k]] = k
    for row in range(len(totals)):
        for edge in range(indptr[row], indptr[row + 1]):
            source = indices[edge]
            share = abs(weights[edge]) / totals[row] if totals[row] > 0 else 0.0
            for k in range(influence.shape[1]):
                influence[row, k] += share * influence[source, k]
            if column[source] >= 0:
                influence[row, column[source]] += share


@compiled
def _spread(indptr, indices, weights, activation, n_features, fixed, others_respond, change):
    """Row by row, sources first: `share` is the change of what a node writes, in parts of what it writes."""
    share = np.where(fixed, -1.0, 0.0)
    for row in range(len(activation)):
        for edge in range(indptr[row], indptr[row + 1]):
            source, weight = indices[edge], weights[edge]
            for k in range(change.shape[1]):
                change[row, k] += weight * share[source, k]
        for k in range(change.shape[1]):
            if fixed[row, k]:
                change[row, k] = -activation[row] if row < n_features else -1.0
            elif row < n_features and others_respond and activation[row] != 0.0:
                share[row, k] = change[row, k] / activation[row]

"""Effects of ablations that a graph predicts. They are signed; influence is not."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError

from .annotations import NodeName, numbers_of
from .data import GraphData


def ablation_effects(
    graph: GraphData, removed: Sequence[Iterable[NodeName]], others_respond: bool = True
) -> np.ndarray:
    """Predict the change of every node's value when nodes are ablated, (K, M) float64.

    A value is a feature's activation or a target's read-out. The prediction is linear in the edges: if the
    input of a feature falls by some share of its activation, its output falls by the same share.

    Args:
        graph: the graph.
        removed: K sets of features, error nodes and tokens, by number or as in `Graph.find`.
        others_respond: whether other features respond; if not, they keep their activations, and their values
            are the changes of their inputs.

    Returns:
        Changes. For removed nodes, minus the activation of a feature, and -1 for an error node or token; 0 for others
        of these two.

    Raises:
        ArgumentError: a node is a target that is not a feature, or is not in the graph.
    """
    sets = [_changeable(graph, nodes) for nodes in removed]
    share_MK = np.full((graph.order.n_nodes, len(sets)), np.nan)
    for k, nodes in enumerate(sets):
        share_MK[nodes, k] = -1.0
    return _changes(graph, share_MK, others_respond).T


def changed_values(graph: GraphData, shares: Mapping[int, float], others_respond: bool = True) -> np.ndarray:
    """Predict the change of every node's value when some nodes change by shares of themselves, (M,) float64.

    With a share of -1, a node is ablated; with 1, it is doubled. The prediction, its other arguments and errors are those of
    `ablation_effects`.
    """
    share_MK = np.full((graph.order.n_nodes, 1), np.nan)
    share_MK[_changeable(graph, shares), 0] = list(shares.values())
    return _changes(graph, share_MK, others_respond)[:, 0]


def _changes(graph: GraphData, share_MK: np.ndarray, others_respond: bool) -> np.ndarray:
    """Return the changes of all values, (M, K); `share_MK` has the shares by which nodes change, NaN for those that respond."""
    change_MK = np.zeros(share_MK.shape)
    _propagate_changes(*graph.csr, activations(graph), graph.order.n_features, share_MK, others_respond, change_MK)
    return change_MK


def total_effects(graph: GraphData, targets: Sequence[int]) -> np.ndarray:
    """Return the signed effect of every node on every target along this graph's edges, (T, M) float64.

    It is the sum over all paths from a node to the target, in units of what the target reads: logits, or a feature's
    activation. With attention patterns, norm scales and the set of active features frozen, ablating a feature or error
    node changes the target by minus its effect (`ablation_effects`). Edges that were pruned are missing from it.

    Args:
        graph: the graph.
        targets: node numbers of T targets: logits or features.
    """
    ends_TM = np.zeros((len(targets), graph.order.n_nodes))
    ends_TM[np.arange(len(targets)), targets] = 1.0
    return np.array([weighted_effects(graph, ends_M) for ends_M in ends_TM]).reshape(ends_TM.shape)


def weighted_effects(graph: GraphData, weights: np.ndarray) -> np.ndarray:
    """Return the sum of the total effects of every node on weighted targets, (M,) float64; `weights` is (M,)."""
    effect_M = np.zeros(graph.order.n_nodes)
    _collect_effects(*graph.csr, activations(graph), graph.order.n_features, weights, effect_M)
    return effect_M


def activations(graph: GraphData) -> np.ndarray:
    """Return the activation of every feature, (M,) float64, 0 for other nodes."""
    return np.nan_to_num(graph.column("activation"), nan=0.0).astype(np.float64)


def pair_influence(graph: GraphData, sources: Iterable[NodeName]) -> np.ndarray:
    """Return the influence of K features, error nodes or tokens on every node, (K, M).

    That is the share of the weight of all paths into a node that start at each source, in `Ahat + Ahat^2 + ...`
    with rows that sum to 1 (Ameisen et al. 2025, "Evaluating Mechanistic Faithfulness", where it is compared
    with ablations). `Graph.influence` is the same for the targets.

    Raises ArgumentError for a node that is a target and not a feature, is not in the graph, or is named twice.
    """
    nodes = _changeable(graph, sources)
    influence_MK = np.zeros((graph.order.n_nodes, len(nodes)))
    _propagate_shares(*graph.csr, graph.csr.row_totals(), nodes, influence_MK)
    return influence_MK.T


def _changeable(graph: GraphData, nodes: Iterable[NodeName]) -> np.ndarray:
    """Return nodes as an array, after a check that they are distinct and editable: compiled loops do not check."""
    array, changeable = np.array(numbers_of(graph, nodes)), graph.order.n_editable
    if not array.size:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= changeable:
        raise ArgumentError(
            f"only features, errors and tokens can be ablated, the nodes 0 … {changeable - 1} of this graph"
        )
    if len(np.unique(array)) < len(array):
        raise ArgumentError("a node is named twice; name each once")
    return array.astype(np.int64)


@compiled
def _collect_effects(indptr, indices, weights, activation, n_features, ends, effect):
    """Go through the rows backwards; `gain` is the change of the ends, the weighted targets, per change of a node's input."""
    for row in range(len(ends) - 1, -1, -1):
        gain = ends[row]
        if row < n_features and activation[row] != 0.0:
            gain += effect[row] / activation[row]
        if gain != 0.0:
            for edge in range(indptr[row], indptr[row + 1]):
                effect[indices[edge]] += weights[edge] * gain


@compiled
def _propagate_shares(indptr, indices, weights, totals, nodes, influence):
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
def _propagate_changes(indptr, indices, weights, activation, n_features, given, others_respond, change):
    """Go through the rows, sources first; `share` is the relative change of a node's output, `given` or else NaN in it."""
    share = np.where(np.isnan(given), 0.0, given)
    for row in range(len(activation)):
        for edge in range(indptr[row], indptr[row + 1]):
            source, weight = indices[edge], weights[edge]
            for k in range(change.shape[1]):
                change[row, k] += weight * share[source, k]
        for k in range(change.shape[1]):
            if not np.isnan(given[row, k]):
                change[row, k] = share[row, k] * (activation[row] if row < n_features else 1.0)
            elif row < n_features and others_respond and activation[row] != 0.0:
                share[row, k] = change[row, k] / activation[row]

"""Ancestors and descendants of nodes: what a node's input comes from, and where a node's output goes.

Both count all paths along the edges of a graph. Shares have no sign and use rows that are divided by their absolute sum, as
influence does; effects are signed, as in `effects.py`.
"""

import numpy as np
import pyarrow as pa

from cotrace.common.compiled import compiled

from .data import GraphData
from .effects import ablation_effects, total_effects
from .node_sets import NodeSet, find_set, weighted_ends
from .prune import check_threshold

NAMING_COLUMNS = ("node", "kind", "layer", "position", "feature", "text", "label")


def ancestors(graph: GraphData, nodes: NodeSet, min_share: float = 0.0) -> pa.Table:
    """Return the nodes from which paths lead to nodes; arguments, columns and errors as `Graph.ancestors`."""
    check_threshold("min_share", min_share)
    ends, weight_M = weighted_ends(graph, nodes)
    share_M = graph.influence_on(weight_M)
    found_M = np.zeros(graph.order.n_nodes, np.bool_)
    _reach_back(graph.csr.indptr, graph.csr.indices, np.isin(np.arange(len(found_M)), ends), found_M)
    effect_M = total_effects(graph, ends.tolist())[0] if len(ends) == 1 else np.full(len(share_M), np.nan)
    return _table(graph, found_M & (share_M >= min_share), share_M, effect_M)


def descendants(graph: GraphData, nodes: NodeSet, min_share: float = 0.0) -> pa.Table:
    """Return the nodes to which paths lead from nodes; arguments, columns and errors as `Graph.descendants`."""
    check_threshold("min_share", min_share)
    starts = find_set(graph, nodes)
    named_M = np.isin(np.arange(graph.order.n_nodes), starts)
    share_M, reached_M = np.zeros(len(named_M)), np.zeros_like(named_M)
    _reach_forward(*graph.csr, graph.csr.row_totals(), named_M, share_M, reached_M)
    effect_M = -ablation_effects(graph, [starts[starts < graph.order.n_editable].tolist()])[0]
    effect_M[named_M] = np.nan  # set to 0 by the ablation, whatever leads to them
    return _table(graph, reached_M & (share_M >= min_share), share_M, effect_M)


def _table(graph: GraphData, listed_M: np.ndarray, share_M: np.ndarray, effect_M: np.ndarray) -> pa.Table:
    """Return the listed nodes, (M,) bool, largest share first, then by number."""
    nodes = np.flatnonzero(listed_M)
    nodes = nodes[np.argsort(-share_M[nodes], kind="stable")]
    table = graph.nodes.select(NAMING_COLUMNS).replace_schema_metadata(None).take(pa.array(nodes))
    effects = pa.array(effect_M[nodes], from_pandas=True)  # NaN becomes null
    return table.append_column("share", pa.array(share_M[nodes])).append_column("effect", effects)


@compiled
def _reach_back(indptr, indices, reached, found):
    """Mark the sources of all edges into marked nodes, from the last row to the first, edges of weight 0 included."""
    for row in range(len(reached) - 1, -1, -1):
        if reached[row]:
            for edge in range(indptr[row], indptr[row + 1]):
                reached[indices[edge]] = found[indices[edge]] = True


@compiled
def _reach_forward(indptr, indices, weights, totals, named, share, reached):
    """Find the nodes that named nodes lead to, and the share of each one's paths that visits a named node."""
    for row in range(len(totals)):
        for edge in range(indptr[row], indptr[row + 1]):
            source = indices[edge]
            visits = 1.0 if named[source] else share[source]
            reached[row] = reached[row] or named[source] or reached[source]
            if totals[row] > 0.0:
                share[row] += abs(weights[edge]) / totals[row] * visits

"""Head loadings of all edges of a graph, in the column `heads` of its node table.

The entry of a row has the loadings of its edges one after the other, each by layer and head of the last attention that a path
passes. An edge has entries for the layers that it can pass only: above its source, and up to the layer of its target.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError, FileError

from .csr import CSR
from .data import GraphData, csr_of
from .head_loadings import HeadLoadings
from .labels import node_label
from .schema import HEADS


class EdgeLayers(NamedTuple):
    """The layers whose attention each of E edges can pass: `n_E` of them from `first_E` on."""

    first_E: np.ndarray
    n_E: np.ndarray


def edge_layers(graph: GraphData, csr: CSR) -> EdgeLayers:
    """Return the layers whose attention the edges of a graph, or those of `csr` between its nodes, can pass."""
    n_layers = graph.info["model"]["n_layers"]
    layer_M = graph.column("layer", missing=-1).astype(np.int64)
    layer_M[graph.order.logits] = n_layers - 1
    first_E = layer_M[csr.indices] + 1
    return EdgeLayers(first_E, layer_M[csr.edge_targets()] + 1 - first_E)


def has_heads(graph: GraphData) -> bool:
    """Return whether a graph has the head loadings of its edges."""
    return HEADS in graph.info


def heads_column(graph: GraphData, last_ELH: np.ndarray) -> pa.Array:
    """Return the column of head loadings (E, L, H) of all edges of a graph."""
    layers = edge_layers(graph, graph.csr)
    passed = np.arange(last_ELH.shape[1])
    inside_EL = (passed >= layers.first_E[:, None]) & (passed < (layers.first_E + layers.n_E)[:, None])
    return _column(graph.csr, layers.n_E * last_ELH.shape[2], last_ELH[inside_EL].ravel())


def selected_heads(graph: GraphData, edges: np.ndarray, csr: CSR) -> pa.Array:
    """Return the column of a smaller graph with the edges of a mask (E,), whose edges are `csr`."""
    sizes = _sizes(graph)
    return _column(csr, sizes[edges], _values(graph)[np.repeat(edges, sizes)])


def _column(csr: CSR, sizes: np.ndarray, values: np.ndarray) -> pa.Array:
    """Return a list for each row, from the number of entries of each edge and the entries of all."""
    ends = np.concatenate([[0], np.cumsum(sizes)])[csr.indptr].astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values))


def _values(graph: GraphData) -> np.ndarray:
    return graph.nodes[HEADS].chunk(0).values.to_numpy()


def _sizes(graph: GraphData) -> np.ndarray:
    """Return the number of entries of each edge, (E,)."""
    return edge_layers(graph, graph.csr).n_E * graph.info[HEADS]["per_layer"]


def saved_loadings(graph: GraphData, source: int, target: int) -> HeadLoadings:
    """Return the head loadings of an edge, given by node numbers; see `Graph.heads`."""
    _require_heads(graph)
    names = node_label(graph, source), node_label(graph, target)
    sources, weights = graph.csr.row(target)
    (found,) = np.nonzero(sources == source)
    if not len(found):
        raise ArgumentError(f"the edge {names[0]} → {names[1]} is not in this graph: it was pruned, or cannot be")
    weight, position = float(weights[found[0]]), graph.column("position", -1)
    last_LH = _loadings_of(graph, int(graph.csr.indptr[target] + found[0]))
    direct = weight - float(last_LH.sum()) if position[source] == position[target] else 0.0
    return HeadLoadings(*names, weight, direct, last_LH)


def _loadings_of(graph: GraphData, edge: int) -> np.ndarray:
    """Return the head loadings of an edge, given by number, (L, H)."""
    per_layer, sizes, layers = graph.info[HEADS]["per_layer"], _sizes(graph), edge_layers(graph, graph.csr)
    first, n = int(layers.first_E[edge]), int(layers.n_E[edge])
    start = int(sizes[:edge].sum())
    result_LH = np.zeros((graph.info["model"]["n_layers"], per_layer), _values(graph).dtype)
    result_LH[first : first + n] = _values(graph)[start : start + n * per_layer].reshape(n, per_layer)
    return result_LH


def head_shares(graph: GraphData) -> pa.Table:
    """Return the share of the influence along edges that passes each head last; see `Graph.head_shares`."""
    _require_heads(graph)
    per_layer, n_layers = graph.info[HEADS]["per_layer"], graph.info["model"]["n_layers"]
    influence_E, layers = _edge_influence(graph), edge_layers(graph, graph.csr)
    sizes, size_V = layers.n_E * per_layer, np.abs(_values(graph)).astype(np.float64)
    edge_V = np.repeat(np.arange(len(sizes)), sizes)
    signed_E = np.bincount(edge_V, _values(graph), len(sizes))
    same_E = _at_one_position(graph)
    direct_E = np.where(same_E, np.abs(graph.csr.weights - signed_E), 0.0)
    total_E = np.bincount(edge_V, size_V, len(sizes)) + direct_E
    unit_E = np.divide(influence_E, total_E, out=np.zeros(len(sizes)), where=total_E > 0)
    rank_V = np.arange(len(edge_V)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    site_V = np.repeat(layers.first_E * per_layer, sizes) + rank_V
    share_LH = np.bincount(site_V, size_V * unit_E[edge_V], n_layers * per_layer)
    shares = np.append(share_LH, (direct_E * unit_E).sum()) / (influence_E.sum() or 1.0)
    layer, head = (np.append(index.ravel(), 0) for index in np.indices((n_layers, per_layer)))
    no_head = np.arange(len(shares)) == len(shares) - 1
    columns = {name: pa.array(each, pa.int32(), mask=no_head) for name, each in (("layer", layer), ("head", head))}
    return pa.table({**columns, "share": shares}).take(np.argsort(-shares, kind="stable"))


def _edge_influence(graph: GraphData) -> np.ndarray:
    """Return the influence that passes along each edge, (E,)."""
    csr = graph.csr
    totals = csr.row_totals()
    passed_M = np.divide(
        sum(graph.passed_on(graph.target_weights)), totals, out=np.zeros(len(totals)), where=totals > 0
    )
    return np.abs(csr.weights).astype(np.float64) * passed_M[csr.edge_targets()]


def _at_one_position(graph: GraphData) -> np.ndarray:
    """Return whether both ends of each edge are at one position, (E,) bool."""
    position_M = graph.column("position", -1)
    return position_M[graph.csr.indices] == position_M[graph.csr.edge_targets()]


def check_heads(graph: GraphData, nodes: pa.Table) -> None:
    """Raise FileError unless the head loadings in a table, if it has any, are finite and as many as the edges can have."""
    if (HEADS in nodes.column_names) != (HEADS in graph.info):
        raise FileError("its head loadings are damaged; trace the prompt again")
    if HEADS not in nodes.column_names:
        return
    csr, lists = csr_of(nodes), nodes[HEADS].chunk(0)
    per_layer = graph.info[HEADS]["per_layer"]
    sizes = edge_layers(graph, csr).n_E * per_layer
    ends = np.concatenate([[0], np.cumsum(sizes)])[csr.indptr]
    values = lists.values
    if per_layer < 1 or not np.array_equal(lists.offsets.to_numpy(), ends) or len(values) != ends[-1]:
        raise FileError("its head loadings are not those of its edges; trace the prompt again")
    if values.null_count or not np.isfinite(values.to_numpy()).all():
        raise FileError("its head loadings have values that are not finite; trace the prompt again")


def _require_heads(graph: GraphData) -> None:
    if not has_heads(graph):
        raise ArgumentError(
            "this graph has no head loadings: trace with `cotrace trace --heads`, or add them with model.add_heads(graph)"
        )

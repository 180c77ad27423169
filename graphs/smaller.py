"""The node table of a smaller graph: some nodes and edges of another, with what its rows lose."""

import copy
from typing import Any

import numpy as np
import pyarrow as pa

from .csr import CSR, indptr_of
from .data import GraphData
from .prune import GraphSelection, dropped_sums
from .saved_heads import has_heads, selected_heads
from .schema import DRAWS, HEADS, LEFT_OUT, build_table
from .subgraph import is_subgraph, left_out_weights


def smaller_table(
    graph: GraphData, selection: GraphSelection, entries: dict[str, Any]
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the node table and the metadata of the graph of the selected nodes and edges; `entries` go into the metadata."""
    kept = selection.nodes
    assert kept[[target["node"] for target in graph.info["targets"]]].all(), "targets must be kept"
    new_number = np.cumsum(kept, dtype=np.int64) - 1
    columns: dict[str, Any] = {
        name: graph.nodes[name].chunk(0).filter(pa.array(kept))
        for name in graph.nodes.column_names
        if name not in ("node", "kind", "sources", "weights", "dropped", DRAWS, LEFT_OUT, HEADS)
    }
    lost = dropped_sums(graph.csr, selection.edges)
    columns["dropped"] = (graph.column("dropped") + lost)[kept].astype(graph.csr.weights.dtype)
    targets = [{**target, "node": int(new_number[target["node"]])} for target in graph.info["targets"]]
    info = {**copy.deepcopy(graph.info), "targets": targets, **entries}
    info.pop("validation", None)  # it uses the old node numbers
    csr = _renumbered(graph.csr, selection, new_number)
    if "subgraph" in entries or is_subgraph(graph):
        columns[LEFT_OUT] = left_out_weights(graph, kept)[kept]
    if has_heads(graph):
        columns[HEADS] = selected_heads(graph, selection.edges, csr)
    return build_table(graph.order.keep(kept), columns, csr, info), info


def _renumbered(csr: CSR, selection: GraphSelection, new_number: np.ndarray) -> CSR:
    """Return the selected edges between the selected nodes, by the nodes' new numbers, (M,)."""
    edge_K = np.flatnonzero(selection.edges)
    row_K = np.searchsorted(csr.indptr, edge_K, side="right") - 1
    row_lengths = np.bincount(row_K, minlength=csr.n_rows)[selection.nodes]
    return CSR(indptr_of(row_lengths), new_number[csr.indices[edge_K]].astype(np.int32), csr.weights[edge_K])

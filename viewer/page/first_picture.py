"""What the first picture of a large graph needs, so that it need not wait until the browser has read all edges."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cotrace.graphs import CSR, Graph
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.schema import DRAWS, EFFECTS, HEADS
from cotrace.graphs.store import table_bytes

LEAST_EDGES = 100_000  # a page of fewer edges opens soon enough
MOST_SHARE = 0.25  # of the edges that the first picture may have: a page that has most of them twice gains nothing
UNUSED = ("node", EFFECTS[0], HEADS, DRAWS)  # columns
WHOLE = (
    "kind",
    "layer",
    "position",
    "feature",
    "computed",
)  # columns that name the nodes, also those that pruning hides
KEPT, ROW_SUM = "kept", "row_sum"
"""Columns that a graph file does not have: whether default pruning keeps a node, and the sum of the absolute weights of its row
in the whole graph."""


def first_picture(graph: Graph) -> bytes | None:
    """Return the graph that default pruning leaves, or None for a graph of which the page reads everything first.

    It is an Arrow file with the columns and nodes of the graph file, so that numbers of nodes are the same. Nodes that are hidden have
    a name only, edges that are hidden are left out. The page shows it as it shows what its worker prunes later.
    """
    if graph.n_edges < LEAST_EDGES:
        return None
    selection = graph.select()
    if selection.edges.sum() > MOST_SHARE * graph.n_edges:
        return None
    return table_bytes(_table(graph, selection.nodes, selection.edges))


def _table(graph: Graph, nodes_M: np.ndarray, edges_E: np.ndarray) -> pa.Table:
    csr, nodes = graph.csr, graph.nodes.drop_columns([name for name in UNUSED if name in graph.nodes.column_names])
    targets_E = csr.edge_targets()
    lengths = np.bincount(targets_E[edges_E], minlength=csr.n_rows)
    kept = CSR(indptr_of(lengths), csr.indices[edges_E], csr.weights[edges_E])
    lists = {"sources": kept.indices, "weights": kept.weights}
    columns = [
        _list_column(kept.indptr, lists[name], nodes.field(name).type)
        if name in lists
        else _column(nodes, name, nodes_M)
        for name in nodes.column_names
    ]
    # One by one, as the page adds them: the last bit of a sum decides which edges of equal influence are drawn.
    sums_M = np.where(nodes_M, np.bincount(targets_E, np.abs(csr.weights), csr.n_rows), 0.0)
    table = pa.table(columns, schema=nodes.schema)
    table = table.append_column(pa.field(KEPT, pa.bool_(), nullable=False), pa.array(nodes_M))
    return table.append_column(pa.field(ROW_SUM, pa.float64(), nullable=False), pa.array(sums_M))


def _column(nodes: pa.Table, name: str, nodes_M: np.ndarray) -> pa.Array:
    """Return a column with the values of the kept nodes; the others have none, or 0 or "" where one is needed."""
    column, field = nodes[name].chunk(0), nodes.field(name)
    if name in WHOLE:
        return column
    empty = "" if pa.types.is_string(field.type) else 0
    return pc.if_else(pa.array(nodes_M), column, pa.scalar(None if field.nullable else empty, field.type))


def _list_column(indptr: np.ndarray, values: np.ndarray, kind: pa.DataType) -> pa.Array:
    is_large = pa.types.is_large_list(kind)
    offsets = pa.array(indptr.astype(np.int64 if is_large else np.int32))
    return (pa.LargeListArray if is_large else pa.ListArray).from_arrays(offsets, pa.array(values), type=kind)

"""Columns and types of a graph file (see docs/graph-files.md)."""

from typing import Any

import numpy as np
import pyarrow as pa

from .csr import CSR
from .metadata import metadata_of
from .order import KINDS, NodeOrder

KIND_TYPE = pa.dictionary(pa.int8(), pa.string())
INTEGERS = ("layer", "position", "feature", "token")
NULLABLE_VALUES = ("activation", "pre_activation", "bias", "probability")
VALUES = ("influence", "influence_bound", "dropped")
LARGE_LIST_EDGES = 2**31  # from this many edges on, offsets do not fit into 32 bits


def schema(value_type: pa.DataType | None = None, large: bool = False) -> pa.Schema:
    """Return the Arrow schema of the node table.

    `value_type` is float32, or float64 for a graph that was traced in float64; `large` switches the
    edge lists to 64-bit offsets, for `LARGE_LIST_EDGES` edges and more.
    """
    value = value_type or pa.float32()
    lists = pa.large_list if large else pa.list_
    return pa.schema(
        [
            pa.field("node", pa.int32(), nullable=False),
            pa.field("kind", KIND_TYPE, nullable=False),
            *(pa.field(name, pa.int32()) for name in INTEGERS),
            pa.field("text", pa.string(), nullable=False),
            *(pa.field(name, value) for name in NULLABLE_VALUES),
            *(pa.field(name, value, nullable=False) for name in VALUES),
            pa.field("computed", pa.bool_(), nullable=False),
            pa.field("sources", lists(pa.field("item", pa.int32(), nullable=False)), nullable=False),
            pa.field("weights", lists(pa.field("item", value, nullable=False)), nullable=False),
        ]
    )


def build_table(order: NodeOrder, columns: dict[str, Any], csr: CSR, info: dict[str, Any]) -> pa.Table:
    """Return the one-batch node table of a graph.

    Args:
        order: counts of the nodes of each kind.
        columns: arrays of length M for every column but `node`, `kind`, `sources` and `weights`; a masked array's
            masked entries become nulls.
        csr: the edges, with int32 indices and float32 or float64 weights; they are not copied.
        info: the metadata.
    """
    large = csr.n_edges >= LARGE_LIST_EDGES
    target = schema(pa.from_numpy_dtype(csr.weights.dtype), large)
    offsets = pa.array(csr.indptr.astype(np.int64 if large else np.int32))
    lists = pa.LargeListArray if large else pa.ListArray
    arrays: dict[str, Any] = {
        "node": np.arange(order.n_nodes, dtype=np.int32),
        "kind": pa.DictionaryArray.from_arrays(pa.array(order.kind_codes()), pa.array(KINDS)),
        "sources": lists.from_arrays(offsets, pa.array(csr.indices), type=target.field("sources").type),
        "weights": lists.from_arrays(offsets, pa.array(csr.weights), type=target.field("weights").type),
        **columns,
    }
    data = [_to_arrow(arrays[field.name], field.type) for field in target]
    return pa.Table.from_arrays(data, schema=target.with_metadata(metadata_of(info)))


def _to_arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.filled(0), type=kind, mask=np.ma.getmaskarray(values))
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind)

"""Columns and types of a graph file (see docs/graph-files.md)."""

from typing import Any

import numpy as np
import pyarrow as pa

from .csr import CSR
from .metadata import metadata_of
from .order import KINDS, NodeOrder
from .sampling import Draws

KIND_TYPE = pa.dictionary(pa.int8(), pa.string())
INTEGERS = ("layer", "position", "feature", "token")
NULLABLE_VALUES = ("activation", "pre_activation", "bias", "probability")
LABELS = ("label", "label_source")  # of features and error nodes; "" without one
VALUES = ("influence", "influence_bound", "dropped")
SAMPLED = ("standard_error", "certified", "inclusion")  # optional: of a graph from sampled rows (graphs/sampling.py)
DRAWS = "draws"  # optional, with those: for each row that was drawn, its factor in every replicate; null for others
EFFECTS = ("effect", "expected_effect")  # optional: a list with an entry for each target, null for logits
LEFT_OUT = (
    "left_out"  # optional: absolute weight of a row's edges from nodes that a subgraph lacks (graphs/subgraph.py)
)
HEADS = "heads"  # optional: the parts of a row's edges by attention head (graphs/saved_heads.py)
LARGE_LIST_EDGES = 2**31  # from this many edges on, offsets do not fit into 32 bits


def schema(
    value_type: pa.DataType | None = None,
    large: bool = False,
    effects: bool = True,
    heads: bool = False,
    left_out: bool = False,
    sampled: bool = False,
    draws: bool = False,
) -> pa.Schema:
    """Return the Arrow schema of the node table.

    `value_type` is float32, or float64 for a graph that was traced in float64; `large` switches lists to 64-bit
    offsets, for `LARGE_LIST_EDGES` edges and more. Without `effects` the table lacks the columns of effects, whose lists
    have a fixed length in a file but no fixed type: graphs with other numbers of targets share a data set. `heads` adds
    the column of head loadings, `left_out` that of what a subgraph lacks,
    `sampled` those of estimates from sampled rows, and `draws` the draws themselves.
    """
    value = value_type or pa.float32()
    per_head = pa.field(HEADS, pa.large_list(pa.field("item", value, nullable=False)), nullable=False)
    lists = pa.large_list if large else pa.list_
    per_target = lists(pa.field("item", value, nullable=False))
    return pa.schema(
        [
            pa.field("node", pa.int32(), nullable=False),
            pa.field("kind", KIND_TYPE, nullable=False),
            *(pa.field(name, pa.int32()) for name in INTEGERS),
            pa.field("text", pa.string(), nullable=False),
            *(pa.field(name, pa.string(), nullable=False) for name in LABELS),
            *(pa.field(name, value) for name in NULLABLE_VALUES),
            *(pa.field(name, value, nullable=False) for name in VALUES),
            *(pa.field(name, value, nullable=name == "inclusion") for name in SAMPLED if sampled),
            *([pa.field(DRAWS, lists(pa.field("item", pa.float64(), nullable=False)))] if draws else []),
            *([pa.field(LEFT_OUT, pa.float64(), nullable=False)] if left_out else []),
            pa.field("computed", pa.bool_(), nullable=False),
            *(pa.field(name, per_target) for name in EFFECTS if effects),
            pa.field("sources", lists(pa.field("item", pa.int32(), nullable=False)), nullable=False),
            pa.field("weights", lists(pa.field("item", value, nullable=False)), nullable=False),
            *([per_head] if heads else []),
        ]
    )


def build_table(order: NodeOrder, columns: dict[str, Any], csr: CSR, info: dict[str, Any]) -> pa.Table:
    """Return the one-batch node table of a graph.

    Args:
        order: counts of the nodes of each kind.
        columns: arrays of length M for every column but `node`, `kind`, `sources` and `weights`; a masked array's
            masked entries become nulls. Without those of labels, no node has one. Effects, if there are any, are Arrow
            lists, or arrays (K, M') of the M' nodes before the logits. Draws are an Arrow list or a `Draws`.
        csr: the edges, with int32 indices and float32 or float64 weights; they are not copied.
        info: the metadata.
    """
    large = csr.n_edges >= LARGE_LIST_EDGES
    value, optional = pa.from_numpy_dtype(csr.weights.dtype), (EFFECTS[0], HEADS, LEFT_OUT, SAMPLED[0], DRAWS)
    target = schema(value, large, *(name in columns for name in optional))
    offsets = pa.array(csr.indptr.astype(np.int64 if large else np.int32))
    lists = pa.LargeListArray if large else pa.ListArray
    arrays: dict[str, Any] = {
        "node": np.arange(order.n_nodes, dtype=np.int32),
        "kind": pa.DictionaryArray.from_arrays(pa.array(order.kind_codes()), pa.array(KINDS)),
        "sources": lists.from_arrays(offsets, pa.array(csr.indices), type=target.field("sources").type),
        "weights": lists.from_arrays(offsets, pa.array(csr.weights), type=target.field("weights").type),
        **dict.fromkeys(LABELS, pa.repeat("", order.n_nodes)),
        **columns,
    }
    for name in EFFECTS:
        if isinstance(columns.get(name), np.ndarray):
            arrays[name] = _effect_lists(order, columns[name], target.field(name).type)
    if isinstance(columns.get(DRAWS), Draws):
        arrays[DRAWS] = columns[DRAWS].column(order.n_nodes)
    data = [_to_arrow(arrays[field.name], field.type) for field in target]
    return pa.Table.from_arrays(data, schema=target.with_metadata(metadata_of(info)))


def _effect_lists(order: NodeOrder, effect_KM: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Return the effects of each node as a list (K,), null for logits."""
    n_targets, n_nodes = effect_KM.shape
    ends = np.minimum(np.arange(order.n_nodes + 1, dtype=np.int64), n_nodes) * n_targets
    offsets = pa.array(ends, pa.int64() if pa.types.is_large_list(kind) else pa.int32())
    values = pa.array(np.ascontiguousarray(effect_KM.T).reshape(-1), kind.value_type)
    is_logit = pa.array(np.arange(order.n_nodes) >= n_nodes)
    return _list_class(kind).from_arrays(offsets, values, type=kind, mask=is_logit)


def _list_class(kind: pa.DataType) -> type[pa.Array]:
    return pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray


def _to_arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.filled(0), type=kind, mask=np.ma.getmaskarray(values))
    if isinstance(values, pa.Array):
        return values if values.type == kind else values.cast(kind)  # lists of a smaller graph have narrower offsets
    return pa.array(values, type=kind)

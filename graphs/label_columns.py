"""Labels of a graph's nodes: read them, and add to them.

The label of a feature or error node and its source are in columns of the node table, so that they stay with the node in every
smaller graph, file and data set.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError

from .annotations import as_text, check_name, node_names, nodes_at
from .data import GraphData
from .labels import LABEL_SOURCES, RANKS, AnyLabel, LabelSource, text_of
from .nodes import ErrorNode, Feature, Token, parse_node
from .schema import LABELS

FEATURE_BITS = 32  # of a number that codes a layer and a feature
NO_NODES = np.empty(0, np.int64)


def node_labels(graph: GraphData) -> dict[Feature | ErrorNode | Token, str]:
    """Return the labels of features and error nodes, in the order of the nodes."""
    labels = graph.column("label")[: graph.order.errors.stop]
    labelled = np.flatnonzero(labels).tolist()
    return {node: labels[number] for node, number in zip(node_names(graph, labelled), labelled, strict=True)}


def with_labels(graph: GraphData, numbers: Iterable[int], label: str) -> pa.Table:
    """Return the node table with the user's label on features and error nodes; a blank one removes theirs.

    Raises ArgumentError for other nodes, and for a label that is not valid Unicode or reads as a node or a span.
    """
    numbers = list(numbers)
    if any(number >= graph.order.errors.stop for number in numbers):
        raise ArgumentError("tokens and targets have a text of their own; label features and error nodes")
    check_name(label, "label")
    label = label if label.strip() else ""
    columns = [graph.column(name) for name in LABELS]
    for column, value in zip(columns, (label, "user" if label else ""), strict=True):
        column[numbers] = value
    return _with_columns(graph, columns)


def with_more_labels(graph: GraphData, labels: Mapping[Any, AnyLabel], source: LabelSource) -> tuple[pa.Table, int]:
    """Return the node table with more labels, and the number of nodes that got one; see `Graph.add_labels`.

    Raises ArgumentError for a source, key or text that is invalid.
    """
    _check_source(source)
    found = _of_features(graph, labels) if not isinstance(labels, dict) else labels
    nodes = _NodeLookup(graph)
    label_M, source_M = (graph.column(name) for name in LABELS)
    rank_M, changed_M = np.vectorize(RANKS.get, otypes=[np.int8])(source_M), np.zeros(len(source_M), bool)
    for key, value in found.items():
        text, origin = as_text("label", getattr(value, "text", value)), getattr(value, "source", source)
        _check_source(origin)
        if value is text and origin == "user":
            check_name(text, "label")
        if not text.strip():
            continue
        found_n = nodes.of(key)
        weaker_n = found_n[rank_M[found_n] <= RANKS[origin]]
        label_M[weaker_n], source_M[weaker_n], rank_M[weaker_n], changed_M[weaker_n] = text, origin, RANKS[origin], True
    return _with_columns(graph, [label_M, source_M]), int(changed_M.sum())


def _check_source(source: Any) -> None:
    if source not in LABEL_SOURCES:
        raise ArgumentError(f"invalid source {source!r}: expected one of {', '.join(LABEL_SOURCES)}")


def _of_features(graph: GraphData, labels: Mapping[Any, AnyLabel]) -> dict[tuple[int, int], AnyLabel]:
    part = graph.order.features
    layer_N, feature_N = (graph.column(name, -1)[part] for name in ("layer", "feature"))
    return labels_of_features(labels, layer_N, feature_N)


def labels_of_features(
    labels: Mapping[Any, AnyLabel], layer_N: np.ndarray, feature_N: np.ndarray
) -> dict[tuple[int, int], AnyLabel]:
    """Return the entries of some features in a mapping by layer and number, which may be too large to read."""
    codes = np.unique(_codes(layer_N, feature_N))
    sites = zip((codes >> FEATURE_BITS).tolist(), (codes % 2**FEATURE_BITS).tolist(), strict=True)
    found = {site: labels.get(site) for site in sites}
    return {key: label for key, label in found.items() if label is not None}


def with_label_texts(nodes: pa.Table, labels: Mapping[Any, AnyLabel]) -> pa.Table:
    """Return a table of nodes whose features have their labels as texts.

    Args:
        nodes: the columns layer, feature (null for other nodes) and text.
        labels: as in `labels_of_features`.
    """
    layer_M, feature_M = (nodes[name].fill_null(-1).to_numpy() for name in ("layer", "feature"))
    is_feature_M, text_M = feature_M >= 0, nodes["text"].to_numpy()
    found = labels_of_features(labels, layer_M[is_feature_M], feature_M[is_feature_M])
    if not found:
        return nodes
    for node in np.flatnonzero(is_feature_M).tolist():
        label = found.get((int(layer_M[node]), int(feature_M[node])))
        text_M[node] = text_M[node] if label is None else text_of(label)
    index = nodes.schema.get_field_index("text")
    return nodes.set_column(index, nodes.schema.field(index), pa.array(text_M, pa.string()))


class _NodeLookup:
    """The nodes of many features and error nodes."""

    def __init__(self, graph: GraphData):
        self.graph = graph
        layer_N, feature_N = (graph.column(name, -1)[: graph.order.errors.stop] for name in ("layer", "feature"))
        code_N = _codes(layer_N, feature_N)  # -1 is the feature of error nodes
        self.order = np.argsort(code_N, kind="stable")
        self.codes = code_N[self.order]

    def of(self, key: Any) -> np.ndarray:
        """Return the nodes of a feature or error node that are in the graph. Raises ArgumentError for another key."""
        node = _as_node(key)
        feature = node.feature if isinstance(node, Feature) else -1
        if max(node.layer, feature) >= 2 ** (FEATURE_BITS - 1) or (isinstance(node, Feature) and feature < 0):
            return NO_NODES
        if node.position == "all":
            code = (node.layer << FEATURE_BITS) + feature
            first, stop = np.searchsorted(self.codes, [code, code + 1])
            return self.order[first:stop]
        try:
            return np.array(nodes_at(self.graph, node), np.int64)
        except ArgumentError:  # a position outside this prompt
            return NO_NODES


def _codes(layer_N: np.ndarray, feature_N: np.ndarray) -> np.ndarray:
    """Return a number for each layer and feature."""
    return (layer_N.astype(np.int64) << FEATURE_BITS) + feature_N


def _as_node(key: Any) -> Feature | ErrorNode:
    node = parse_node(key) if isinstance(key, str) else key
    if isinstance(key, tuple) and len(key) == 2:
        node = Feature(*key)
    if not isinstance(node, Feature | ErrorNode):
        raise ArgumentError(f"cannot label {key!r}: expected a feature or error node, such as L17#264")
    return node


def _with_columns(graph: GraphData, columns: Sequence[np.ndarray]) -> pa.Table:
    """Return the node table with other labels and sources."""
    table = graph.nodes
    for name, column in zip(LABELS, columns, strict=True):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(column, pa.string()))
    return table

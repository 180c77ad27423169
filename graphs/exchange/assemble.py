"""A graph from the nodes and edges of another tool, in any order: sorted, checked, with influence computed from its edges."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import CotraceError, FileError

from ..checks import check_graph, check_table
from ..csr import CSR, indptr_of
from ..graph import Graph
from ..influence import node_influence, weights_of_targets
from ..metadata import check_entries
from ..order import KINDS, NodeKind, NodeOrder
from ..sampling import Draws
from ..schema import DRAWS, EFFECTS, INTEGERS, NULLABLE_VALUES, SAMPLED, VALUES, build_table
from ..scores import graph_scores
from .foreign_nodes import LARGEST_INTEGER, NONE, ForeignEdges, ForeignNodes, listed


def assemble(
    nodes: ForeignNodes, edges: ForeignEdges, info: Mapping[str, Any], columns: Mapping[str, np.ndarray] | None = None
) -> Graph:
    """Return the graph of foreign nodes and edges.

    Influence is computed from the edges. Numbers are stored as float32 if that changes none of them, else as float64.

    Args:
        nodes: the nodes, a token for every position among them.
        edges: the edges.
        info: metadata; the nodes of its targets are places in the file. Sizes and scores are added unless it has them.
        columns: further columns by name, (M,) or (K, M) in the order of the file, such as effects; NaN where inclusion and draws have no
            value.

    Raises FileError, with the names of nodes, for what a graph cannot hold.
    """
    new_to_old = _sorted_places(nodes)
    _check_distinct(nodes, new_to_old)
    old_to_new = np.empty_like(new_to_old)
    old_to_new[new_to_old] = np.arange(len(nodes))
    order = NodeOrder(*np.bincount(np.array(nodes.kinds, np.int64), minlength=len(KINDS)).tolist())
    csr = _csr(nodes, edges, old_to_new)
    entries = {**info, "targets": [{**each, "node": int(old_to_new[each["node"]])} for each in info["targets"]]}
    weights = weights_of_targets(entries["targets"], order.n_nodes)
    entries.setdefault("traced", _traced(order, csr, weights))
    if SAMPLED[0] not in (columns or {}) and "sampling" in entries["traced"]:  # influence is no estimate here
        entries["traced"] = {name: value for name, value in entries["traced"].items() if name != "sampling"}
    table_columns = _columns(nodes, new_to_old, node_influence(csr, weights), order)
    for name, values in (columns or {}).items():
        stop = order.n_editable if name in EFFECTS else order.n_nodes
        table_columns[name] = values[..., new_to_old[:stop]]
    if DRAWS in table_columns:
        drawn_M = ~np.isnan(table_columns[DRAWS]).all(axis=0)
        table_columns[DRAWS] = Draws(np.flatnonzero(drawn_M), table_columns[DRAWS][:, drawn_M].T)
    if "inclusion" in table_columns:
        table_columns["inclusion"] = np.ma.masked_invalid(table_columns["inclusion"])
    return checked_graph(order, table_columns, csr, entries)


def checked_graph(order: NodeOrder, columns: dict[str, Any], csr: CSR, info: dict[str, Any]) -> Graph:
    """Return a graph from its parts. Raises FileError for parts of which no file could be opened again."""
    try:
        check_entries(info)
        graph = Graph(build_table(order, columns, csr, info), info)
        check_table(graph.nodes)
        check_graph(graph)
    except (CotraceError, pa.ArrowException, UnicodeEncodeError) as error:
        reason = str(error).partition(";")[0]
        raise FileError(f"its contents are not those of a graph ({reason}); export it again") from error
    return graph


def _sorted_places(nodes: ForeignNodes) -> np.ndarray:
    """Return the places of nodes in the file, in the order of a graph; targets stay as they are."""
    kind = np.array(nodes.kinds, np.int64)
    keys = [_integers(nodes, name) for name in ("feature", "position", "layer")]
    is_logit = kind == NodeKind.LOGIT
    return np.lexsort([np.where(is_logit, 0, key) for key in keys] + [kind])


def _integers(nodes: ForeignNodes, name: str) -> np.ndarray:
    wrong = [nodes.names[i] for i, each in enumerate(nodes.integers[name]) if not NONE <= each <= LARGEST_INTEGER]
    if wrong:
        raise FileError(f"the {name} of {listed(wrong)} is not a number from 0 to {LARGEST_INTEGER}; export it again")
    return np.array(nodes.integers[name], np.int64)


def _check_distinct(nodes: ForeignNodes, places: np.ndarray) -> None:
    """Raise FileError if two nodes are the same feature, error node or token."""
    sites = np.stack([np.array(nodes.kinds, np.int64), *(_integers(nodes, name) for name in INTEGERS[:3])])[:, places]
    same = (sites[:, 1:] == sites[:, :-1]).all(axis=0) & (sites[0, 1:] != NodeKind.LOGIT)
    if same.any():
        first = int(same.argmax())
        pair = listed([nodes.names[place] for place in places[first : first + 2]])
        raise FileError(f"its nodes {pair} are the same {KINDS[sites[0, first]]}; remove one")


def _csr(nodes: ForeignNodes, edges: ForeignEdges, old_to_new: np.ndarray) -> CSR:
    """Return the edges by new numbers. Raises FileError for edges that no graph has."""
    _check_edges(nodes, edges)
    size = len(nodes)
    place = old_to_new[edges.target] * size + old_to_new[edges.source]
    by_row = np.argsort(place, kind="stable")
    place = place[by_row]
    twice = np.flatnonzero(place[1:] == place[:-1])
    if len(twice):
        _fail_edge(nodes, edges, int(by_row[twice[0]]), "occurs twice; remove one of the two")
    weights = edges.weight[by_row].astype(value_type([edges.weight, *_stored_exactly(nodes)]))
    counts = np.bincount(place // size, minlength=size)
    return CSR(indptr_of(counts), (place % size).astype(np.int32), weights)


def _check_edges(nodes: ForeignNodes, edges: ForeignEdges) -> None:
    kind, layer = np.array(nodes.kinds, np.int64), _integers(nodes, "layer")
    layer[kind == NodeKind.LOGIT] = LARGEST_INTEGER
    has_row = np.isin(kind, (NodeKind.FEATURE, NodeKind.LOGIT))
    for wrong, reason in (
        (~np.isfinite(edges.weight), "has a weight that is not finite"),
        (~has_row[edges.target], "ends at a token or an error node, which have no incoming edges"),
        (kind[edges.source] == NodeKind.LOGIT, "begins at a target, which has no outgoing edges"),
        (layer[edges.source] >= layer[edges.target], "does not run from a lower to a higher layer"),
    ):
        if wrong.any():
            _fail_edge(nodes, edges, int(wrong.argmax()), f"{reason}; export it again")


def _fail_edge(nodes: ForeignNodes, edges: ForeignEdges, edge: int, reason: str) -> None:
    source, target = (nodes.names[int(ends[edge])] for ends in (edges.source, edges.target))
    raise FileError(f"the edge from {source!r} to {target!r} {reason}")


def _stored_exactly(nodes: ForeignNodes) -> list[np.ndarray]:
    """Return the columns of numbers but probabilities, which the metadata has with all their digits."""
    return [np.array(numbers, np.float64) for name, numbers in nodes.values.items() if name != "probability"]


def value_type(numbers: Sequence[np.ndarray]) -> type[np.float32] | type[np.float64]:
    """Return float32 if it holds all numbers exactly, else float64."""
    with np.errstate(over="ignore"):
        exact = all(
            np.array_equal(array.astype(np.float32).astype(np.float64), array, equal_nan=True) for array in numbers
        )
    return np.float32 if exact else np.float64


def _columns(nodes: ForeignNodes, places: np.ndarray, influence: np.ndarray, order: NodeOrder) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in INTEGERS:
        values = _integers(nodes, name)[places]
        columns[name] = np.ma.masked_array(values, values == NONE)
    for name in NULLABLE_VALUES:
        numbers = np.array(nodes.values[name], np.float64)[places]
        columns[name] = np.ma.masked_array(np.nan_to_num(numbers), np.isnan(numbers))
    columns |= {name: [texts[place] for place in places] for name, texts in nodes.texts.items()}
    has_row = order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    dropped = np.nan_to_num(np.array(nodes.values["dropped"], np.float64)[places])
    zeros = dict.fromkeys(VALUES, np.zeros(order.n_nodes))
    return {**columns, **zeros, "influence": influence, "dropped": dropped, "computed": has_row}


def _traced(order: NodeOrder, csr: CSR, weights: np.ndarray) -> dict[str, Any]:
    scores = graph_scores(order, csr, weights)
    return {
        "nodes": order.n_nodes,
        "edges": csr.n_edges,
        "coverage": 1.0,
        "bound": 0.0,
        "scores": {"replacement": scores.replacement, "completeness": scores.completeness},
    }

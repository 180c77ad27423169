"""Sets of nodes that queries start and end at: named nodes, groups, labels and spans of the prompt."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from cotrace.common.errors import ArgumentError

from .annotations import NodeName, find_nodes
from .data import GraphData
from .nodes import parse_integers, resolve_position
from .segments import parse_span

NodeSet = NodeName | slice | Iterable[NodeName | slice]
"""Names as in `Graph.find`, and spans: `"@2:6"` or `slice(2, 6)` is every feature, error node and token at positions 2 to 5."""


def find_set(graph: GraphData, names: NodeSet) -> np.ndarray:
    """Return the numbers of the nodes that names and spans refer to, ascending, each once.

    Raises ArgumentError for a name that no node has, a span outside the prompt, and an empty list of names.
    """
    found: set[int] = set()
    for name in _as_list(names):
        span = _positions(graph, name)
        found.update(find_nodes(graph, name) if span is None else _nodes_at(graph, span))
    if not found:
        raise ArgumentError("no nodes are named: name at least one, such as L17#264@5, or a span such as @2:6")
    return np.array(sorted(found), np.int64)


def _as_list(names: Any) -> Iterable[Any]:
    return [names] if isinstance(names, str) or not isinstance(names, Iterable) else names


def _positions(graph: GraphData, name: NodeName | slice) -> tuple[int, ...] | None:
    """Return the positions of a span, None for a name of nodes."""
    n_positions = graph.order.n_tokens
    if isinstance(name, slice):
        return parse_span(name, n_positions, "a span")
    if not isinstance(name, str) or not name.strip().startswith("@"):
        return None
    positions = parse_integers(name.strip().removeprefix("@"))
    return tuple(resolve_position(position, n_positions, f"span {name!r}: position") for position in positions)


def _nodes_at(graph: GraphData, positions: tuple[int, ...]) -> list[int]:
    editable = graph.column("position", -1)[: graph.order.n_editable]
    return np.flatnonzero(np.isin(editable, positions)).tolist()


def weighted_ends(graph: GraphData, names: NodeSet | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes at which paths end, ascending, and the weight of every node as one of them, (M,) float64.

    Without names, these are the targets of the graph with their weights. Named nodes weigh what they carry of the influence on
    these: targets their weight, features their influence. Weights sum to 1: a single node weighs 1, and nodes without any
    influence weigh the same. Tokens and error nodes are left out, since no path ends there; their span may be named.

    Raises ArgumentError as `find_set`.
    """
    if names is None:
        return np.unique([target["node"] for target in graph.info["targets"]]), graph.target_weights
    nodes, order = find_set(graph, names), graph.order
    nodes = nodes[(nodes < order.n_features) | (nodes >= order.n_editable)]
    carried = (graph.influence() + graph.target_weights)[nodes]
    weights = np.zeros(order.n_nodes)
    weights[nodes] = carried / carried.sum() if carried.sum() > 0 else 1 / max(len(nodes), 1)
    return nodes, weights

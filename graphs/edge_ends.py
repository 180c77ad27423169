"""Nodes between which an edge can run."""

from cotrace.common.errors import ArgumentError

from .annotations import NodeName, find_one, node_names
from .data import GraphData
from .labels import node_label
from .nodes import ErrorNode, Feature, Token


def find_ends(graph: GraphData, source: NodeName, target: NodeName) -> tuple[int, int]:
    """Return the numbers of a source and a target between which an edge can run, whether the graph has it or not.

    Raises ArgumentError for a name that fits no node or several, and for nodes between which no edge can run.
    """
    numbers = find_one(graph, source), find_one(graph, target)
    names = node_label(graph, numbers[0]), node_label(graph, numbers[1])
    order = graph.order
    if numbers[0] >= order.n_editable:
        raise ArgumentError(f"{names[0]} is a target at the unembedding, which has no outgoing edges")
    if order.n_features <= numbers[1] < order.n_editable:
        raise ArgumentError(f"{names[1]} has no incoming edges; name a feature or a target")
    (start,) = node_names(graph, numbers[:1])
    feature = node_names(graph, numbers[1:])[0] if numbers[1] < order.n_features else None
    assert not isinstance(feature, ErrorNode | Token)
    check_reach(start, feature, int(graph.column("position", -1)[numbers[1]]), names)
    return numbers


def check_reach(
    source: Feature | ErrorNode | Token, target: Feature | None, position: int, names: tuple[str, str]
) -> None:
    """Raise ArgumentError unless a source reaches a target at a position: a feature, or None for one at the unembedding.

    `names` are those of both in the message.
    """
    assert isinstance(source.position, int)
    below = isinstance(source, Token) or target is None or source.layer < target.layer
    if not below or source.position > position:
        raise ArgumentError(
            f"there is no edge {names[0]} → {names[1]}: edges run to a higher layer, at the same or a later position"
        )

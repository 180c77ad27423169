"""Groups and notes that users write on a graph, and the nodes that a name refers to.

Groups are in the metadata, as names of nodes, which do not change when nodes are renumbered.
"""

import ast
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from cotrace.common.checks import check_unicode
from cotrace.common.errors import ArgumentError

from .data import GraphData
from .labels import GIVEN_SOURCES, node_label
from .metadata import GROUP_TEXTS
from .nodes import ErrorNode, Feature, Token, parse_node, resolve_position

NodeName = int | str | Feature | ErrorNode | Token
"""A node number; a feature, error node or token; or a text: one of these, a group, a label, a target's or a token's text."""

NODES_LISTED = 8

_QUOTED = re.compile(r"\s*(?P<text>'.*'|\".*\")\s*(?:@\s*(?P<position>[0-9]{1,6}))?\s*", re.DOTALL)


def find_nodes(graph: GraphData, names: NodeName | Iterable[NodeName]) -> list[int]:
    """Return the numbers of the nodes that one name or several refer to, each once, in the order of the names.

    A feature or error node without a position refers to all its nodes. Texts are tried in this order: a number, a
    feature or error node such as `L17#264@5`, a group, a label of the user or of a file, the text of a target, another label,
    and a token as `cotrace show` prints it, such as `' hot'@4`.

    Raises ArgumentError for a name that no node of the graph has.
    """
    found: dict[int, None] = {}
    for name in _as_list(names):
        found |= dict.fromkeys(_find(graph, name))
    return list(found)


def find_one(graph: GraphData, name: NodeName) -> int:
    """Return the number of the one node that a name refers to. Raises ArgumentError if it refers to none, or several."""
    found = find_nodes(graph, name)
    if len(found) != 1:
        raise ArgumentError(
            f"{name!r} names {len(found)} nodes; name one, such as by its number: {_listed(graph, found)}"
        )
    return found[0]


def _listed(graph: GraphData, numbers: Sequence[int]) -> str:
    """Return the numbers and names of some nodes in words."""
    named = [f"{number} ({node_label(graph, number)})" for number in numbers[:NODES_LISTED]]
    return ", ".join([*named, "…"] if len(numbers) > NODES_LISTED else named)


def numbers_of(graph: GraphData, nodes: NodeName | Iterable[NodeName]) -> list[Any]:
    """Return the numbers of nodes. What is not a name stays as it is, for a caller that checks numbers.

    Raises ArgumentError for a name that no node of the graph has.
    """
    names = str | Feature | ErrorNode | Token
    return [each for node in _as_list(nodes) for each in (_find(graph, node) if isinstance(node, names) else [node])]


def _as_list(names: Any) -> Iterable[Any]:
    return [names] if isinstance(names, str | Feature | ErrorNode | Token) or not isinstance(names, Iterable) else names


def _find(graph: GraphData, name: Any) -> list[int]:
    if isinstance(name, str):
        return _find_text(graph, name)
    if isinstance(name, Feature | ErrorNode | Token):
        return nodes_at(graph, name) or _refuse_absent(graph, name)
    if isinstance(name, bool) or not isinstance(name, int | np.integer):
        raise ArgumentError(f"invalid node {name!r}: expected a node number, Feature, ErrorNode, Token or text")
    last = graph.order.n_nodes - 1
    return _require([int(name)] if 0 <= name <= last else [], f"there is no node {name}; the nodes are 0 … {last}")


def _find_text(graph: GraphData, text: str) -> list[int]:
    if text.strip().isdecimal():
        return _find(graph, int(text))
    if _is_node(text):
        return _find(graph, parse_node(text))
    found = _members(graph, text) or _labelled_or_target(graph, text) or _quoted(graph, text)
    return found or _refuse_unknown(graph, text)


def _refuse_absent(graph: GraphData, node: Feature | ErrorNode | Token) -> NoReturn:
    """Raise ArgumentError for a node that is not in the graph; it names those at other positions."""
    elsewhere = [] if node.position == "all" else nodes_at(graph, replace(node, position="all"))
    cure = f"; it is in the graph as {_listed(graph, elsewhere)}" if elsewhere else ""
    raise ArgumentError(f"{node} is not in this graph: it was pruned or never active there{cure}")


def _refuse_unknown(graph: GraphData, text: str) -> NoReturn:
    """Raise ArgumentError for a text that names no node; it suggests one that is spelt alike."""
    labels = graph.column("label")
    names = [
        *node_groups(graph),
        *np.unique(labels[labels != ""]),
        *(target["label"] for target in graph.info["targets"]),
    ]
    alike = difflib.get_close_matches(text, names, n=1)
    cure = f"did you mean {alike[0]!r}? Or " if alike else ""
    raise ArgumentError(
        f"no node of this graph is called {text!r}; {cure}use a node number, a name that `cotrace show` prints, a label or a group"
    )


def _require(found: list[int], message: str) -> list[int]:
    if not found:
        raise ArgumentError(message)
    return found


def nodes_at(graph: GraphData, node: Feature | ErrorNode | Token) -> list[int]:
    """Return the numbers of a node's rows, one for each of its positions that the graph has."""
    order = graph.order
    part = {Feature: order.features, ErrorNode: order.errors, Token: order.tokens}[type(node)]
    here = np.ones(part.stop - part.start, np.bool_)
    for name in ("layer", "feature"):
        if hasattr(node, name):
            here &= graph.column(name, -1)[part] == getattr(node, name)
    if node.position == "generated":
        return []
    if not isinstance(node.position, str):
        given = node.position if isinstance(node.position, tuple) else (node.position,)
        wanted = [resolve_position(position, order.n_tokens) for position in given]
        here &= np.isin(graph.column("position", -1)[part], wanted)
    return (part.start + np.flatnonzero(here)).tolist()


def _members(graph: GraphData, name: str) -> list[int]:
    """Return the nodes of a group that are in the graph. Raises ArgumentError if none of them is."""
    if name not in node_groups(graph):
        return []
    found = groups_inside(graph).get(name, [])
    return _require(found, f"no node of the group {name!r} is in this graph; use a graph that is pruned less")


def _labelled_or_target(graph: GraphData, text: str) -> list[int]:
    """Return the nodes with a label that people gave, else targets with this text, else nodes with another label."""
    if not text:
        return []
    labelled = np.flatnonzero(graph.column("label") == text).tolist()
    sources = graph.nodes["label_source"]
    given = [node for node in labelled if sources[node].as_py() in GIVEN_SOURCES]
    return given or _targets(graph, text) or labelled


def _targets(graph: GraphData, text: str, position: int | None = None) -> list[int]:
    """Return the targets with a text, at one position or at any."""
    texts = graph.column("text")
    named = [(target["node"], (target["label"], texts[target["node"]])) for target in graph.info["targets"]]
    here = graph.column("position", -1)
    found = [node for node, names in named if any(name and text in (name, name.strip()) for name in names)]
    return [node for node in found if position is None or here[node] == position]


def _quoted(graph: GraphData, name: str) -> list[int]:
    """Return the nodes of a text in quotes, as in `' hot'@4`: a token with a position, else a label or target."""
    match = _QUOTED.fullmatch(name)
    try:
        text = ast.literal_eval(match["text"]) if match else None
    except (SyntaxError, ValueError):
        return []
    if match is None or text is None:
        return []
    if match["position"] is None:
        return _labelled_or_target(graph, text)
    position, tokens = int(match["position"]), graph.info["tokens"]
    at_token = [graph.order.tokens.start + position] if position < len(tokens) and tokens[position] == text else []
    return at_token or _targets(graph, text, position)


def node_names(graph: GraphData, numbers: Iterable[int]) -> list[Feature | ErrorNode | Token]:
    """Return the features, error nodes and tokens that have these numbers.

    Raises ArgumentError for the number of a target that is not a feature, and for one outside the graph.
    """
    columns = [graph.column(name, -1) for name in ("layer", "position", "feature")]
    found: list[Feature | ErrorNode | Token] = []
    for node in numbers:
        if not 0 <= node < graph.order.n_editable:
            raise ArgumentError(
                f"node {node} is not a feature, error node or token of this graph, which are the nodes 0 … "
                f"{graph.order.n_editable - 1}"
            )
        layer, position, feature = (int(column[node]) for column in columns)
        if node < graph.order.n_features:
            found.append(Feature(layer, feature, position))
        else:
            found.append(ErrorNode(layer, position) if node < graph.order.errors.stop else Token(position))
    return found


# --- texts ------------------------------------------------------------------------------------


def as_text(what: str, value: Any) -> str:
    """Return a text that a file can hold. Raises ArgumentError for anything else."""
    if not isinstance(value, str):
        raise ArgumentError(f"invalid {what} {value!r}: expected a text")
    check_unicode(value, f"write the {what} again")
    return value


def check_name(name: Any, what: str) -> None:
    """Raise ArgumentError for a name that a file cannot hold, or that queries would read as a node or a span."""
    text = as_text(what, name).strip()
    if text.isdecimal() or _is_node(text):
        raise ArgumentError(f"the {what} {name!r} would be read as a node; choose another")
    if text.startswith("@"):
        raise ArgumentError(f"the {what} {name!r} would be read as a span of positions; choose another")


def _is_node(text: str) -> bool:
    try:
        parse_node(text)
    except ArgumentError:
        return False
    return True


# --- groups ---------------------------------------------------------------------------------


def node_groups(graph: GraphData) -> dict[str, list[Feature | ErrorNode | Token]]:
    """Return the nodes of every group, by name; also nodes that are not in this graph because they were pruned."""
    return {group["name"]: [parse_node(node) for node in group["nodes"]] for group in graph.info.get("groups", [])}


def groups_inside(graph: GraphData) -> dict[str, list[int]]:
    """Return the numbers of the nodes of every group that has some in this graph, by name."""
    found = {
        name: [number for node in nodes for number in nodes_at(graph, node)]
        for name, nodes in node_groups(graph).items()
    }
    return {name: numbers for name, numbers in found.items() if numbers}


def with_group(graph: GraphData, name: str, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Return the groups, as the metadata has them, with one added or replaced; without nodes, it is removed.

    Raises ArgumentError for targets that are not features, and for a name that reads as a node or a span.
    """
    check_name(name, "name of a group")
    if not name.strip():
        raise ArgumentError("the name of a group is empty; write some text")
    nodes = [str(node) for node in node_names(graph, numbers)]
    others = [group for group in graph.info.get("groups", []) if group["name"] != name]
    return [*others, {"name": name, "nodes": nodes}] if nodes else others


def checked_groups(entries: Any) -> list[dict[str, Any]]:
    """Return groups as the metadata has them, `{"name": …, "nodes": […]}` with optional texts `GROUP_TEXTS`.

    Raises ArgumentError for anything else, for a name that is empty, taken, or reads as a node, and for an unknown node.
    """
    names: set[str] = set()
    return [_checked_group(entry, names) for entry in _require_list("groups", entries)]


def _checked_group(entry: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ArgumentError(f"invalid group {entry!r}: expected an object with name and nodes")
    name = as_text("name of a group", entry.get("name"))
    check_name(name, "name of a group")
    if not name.strip() or name in names:
        raise ArgumentError(
            f"the name of a group, {name!r}, is {'empty' if not name.strip() else 'taken'}; choose another"
        )
    names.add(name)
    nodes = [str(parse_node(as_text("node", node))) for node in _require_list("nodes of a group", entry.get("nodes"))]
    texts = {key: as_text(f"{key} of a group", entry[key]) for key in GROUP_TEXTS if entry.get(key) is not None}
    return {"name": name, "nodes": list(dict.fromkeys(nodes)), **texts}


def _require_list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ArgumentError(f"invalid {what} {value!r}: expected a list")
    return value


def groups_of_nodes(graph: GraphData) -> dict[int, list[str]]:
    """Return the names of the groups that a node is in, by node number."""
    found: dict[int, list[str]] = {}
    for name, numbers in groups_inside(graph).items():
        for number in numbers:
            found.setdefault(number, []).append(name)
    return found

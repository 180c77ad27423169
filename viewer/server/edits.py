"""Edits of the model that the page asks for, and who makes them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph
from cotrace.graphs.annotations import as_text
from cotrace.graphs.nodes import ErrorNode, Feature, Token, parse_node

EDIT_KINDS = ("ablate", "multiply", "set")
MAX_EDITED_NODES, MAX_NEW_TOKENS = 1000, 200


@dataclass(frozen=True)
class NodeEdit:
    """One edit of several nodes: ablate, multiply by a factor, or set to a value; a token is set to a text."""

    kind: str
    nodes: tuple[Feature | ErrorNode | Token, ...]
    value: float | str | None = None


@dataclass(frozen=True)
class ChangeRequest:
    """Edits that are made together, and what is computed with them.

    Attributes:
        edits: the edits.
        freeze: "none", "attention" or "all", as in `Model.intervene`.
        everywhere: edit at all positions of the prompt and every new token, instead of at each node's own position.
        max_new_tokens: generate at most this many tokens.
    """

    edits: tuple[NodeEdit, ...]
    freeze: str = "none"
    everywhere: bool = False
    max_new_tokens: int = 20


class ModelEditor(Protocol):
    """Runs the models of graphs. `change` is called from one thread, `obstacle` from any."""

    def obstacle(self, graph: Graph) -> str | None:
        """Return why the model of a graph cannot be run, or None. Loads no weights."""
        ...

    def change(self, graph: Graph, request: ChangeRequest) -> dict[str, Any]:
        """Run the model of a graph without and with edits, and return what differs, as values that JSON can hold.

        Raises CotraceError for edits that cannot be made, and a model that cannot be loaded.
        """
        ...


def parse_change(value: Mapping[str, Any]) -> ChangeRequest:
    """Return the request in JSON that the page sent. Raises ArgumentError for an invalid one."""
    given = value.get("edits")
    if not isinstance(given, list) or not given:
        raise ArgumentError("nothing to change: name at least one node")
    edits = tuple(_edit(each) for each in given)
    nodes = [node for edit in edits for node in edit.nodes]
    if len(set(nodes)) < len(nodes):
        raise ArgumentError("a node is named twice; name each node once, with one edit")
    if len(nodes) > MAX_EDITED_NODES:
        raise ArgumentError(f"{len(nodes)} nodes are too many; change at most {MAX_EDITED_NODES} at once")
    freeze = as_text("freeze", value.get("freeze", ChangeRequest.freeze))
    n_tokens = value.get("max_new_tokens", ChangeRequest.max_new_tokens)
    if type(n_tokens) is not int or not 1 <= n_tokens <= MAX_NEW_TOKENS:
        raise ArgumentError(f"invalid number of new tokens {n_tokens!r}: expected 1 to {MAX_NEW_TOKENS}")
    return ChangeRequest(edits, freeze, value.get("everywhere") is True, n_tokens)


def _edit(given: Any) -> NodeEdit:
    if not isinstance(given, dict) or given.get("kind") not in EDIT_KINDS:
        raise ArgumentError(f"invalid edit {given!r}: expected an object whose kind is {', '.join(EDIT_KINDS)}")
    names = given.get("nodes")
    if not isinstance(names, list) or not names:
        raise ArgumentError("an edit has no nodes: name at least one")
    nodes = tuple(parse_node(as_text("node", name)) for name in names)
    kind = given["kind"]
    return NodeEdit(kind, nodes, None if kind == "ablate" else _value(kind, nodes, given.get("value")))


def _value(kind: str, nodes: tuple[Feature | ErrorNode | Token, ...], value: Any) -> float | str:
    """Return the value of an edit: a text for tokens that are set, else a finite number."""
    if kind == "set" and all(isinstance(node, Token) for node in nodes):
        return as_text("token", value)
    if kind == "set" and not all(isinstance(node, Feature) for node in nodes):
        raise ArgumentError("error nodes are vectors: ablate or multiply them; set tokens apart from features")
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ArgumentError(f"invalid value {value!r}: expected a finite number")
    return float(value)

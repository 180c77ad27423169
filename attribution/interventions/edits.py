"""Edits as users write them: nodes, and the change of each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.sites import Site, check_site
from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph
from cotrace.graphs.annotations import NodeName, node_names, numbers_of
from cotrace.graphs.nodes import ErrorNode, Feature, Token, format_position, normalized_position

from .span_edits import SpanEdit


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """An edit of an activation or a vector `a`, which becomes `scale * a + shift`.

    `ablate`, `set_to`, `add` and `multiply` make edits. `shift` is a number, or for error nodes and tokens, which are
    vectors, a vector (D,).

    Raises:
        ArgumentError: a value that is NaN or infinite.
    """

    scale: float
    shift: float | Tensor

    def __post_init__(self) -> None:
        finite = self.shift.isfinite().all() if isinstance(self.shift, Tensor) else math.isfinite(self.shift)
        if not (math.isfinite(self.scale) and finite):
            raise ArgumentError("the value of an edit is NaN or infinite; use finite numbers")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Edit):
            return NotImplemented
        shifts = (torch.as_tensor(edit.shift, dtype=torch.float64) for edit in (self, other))
        return self.scale == other.scale and torch.equal(*shifts)

    def __repr__(self) -> str:
        vector = isinstance(self.shift, Tensor)
        shift = f"<tensor {tuple(self.shift.shape)}>" if isinstance(self.shift, Tensor) else f"{self.shift:g}"
        if self.scale == 0:
            return f"set_to({shift})" if vector or self.shift else "ablate()"
        if self.scale == 1:
            return f"add({shift})"
        if not vector and not self.shift:
            return f"multiply({self.scale:g})"
        return f"Edit(scale={self.scale:g}, shift={shift})"

    @property
    def only_adds(self) -> bool:
        """True if the edit adds a value that does not depend on the activation."""
        return self.scale == 1.0


def ablate() -> Edit:
    """Return an edit that sets an activation, error node or token to zero, or removes the component along a direction.

    A token's embedding of zero is unlike any that the model knows; `replace_with` the mean of other tokens where nothing
    is frozen.
    """
    return Edit(0.0, 0.0)


def set_to(value: float | Tensor) -> Edit:
    """Return an edit that sets an activation to a value, or an error node or token to a vector (D,).

    Raises ArgumentError for a value that is neither, or is not finite.
    """
    return Edit(0.0, _number_or_vector(value))


def add(value: float | Tensor) -> Edit:
    """Return an edit that adds a value to an activation, or a vector (D,) to an error node or token.

    Raises ArgumentError for a value that is neither, or is not finite.
    """
    return Edit(1.0, _number_or_vector(value))


def multiply(factor: float) -> Edit:
    """Return an edit that multiplies an activation, error node or token by a factor.

    Raises ArgumentError for anything but a finite number.
    """
    return Edit(_number(factor), 0.0)


def _number_or_vector(value: Any) -> float | Tensor:
    if not isinstance(value, Tensor | np.ndarray) or value.ndim == 0:
        return _number(value)
    try:
        vector = torch.as_tensor(value).detach()
        if vector.is_complex() or vector.dtype == torch.bool:
            raise TypeError
    except TypeError as error:  # an array of texts or objects
        raise ArgumentError(f"invalid array of {value.dtype}: expected a tensor (D,) of real numbers") from error
    return vector


def _number(value: Any) -> float:
    try:
        if isinstance(value, str | bytes | bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor with several values
        raise ArgumentError(
            f"invalid value {value!r}: expected a number, or a tensor (D,) for an error node or token; "
            "replace_with(…) takes a token's text"
        ) from error


@dataclass(frozen=True)
class TokenReplacement:
    """An edit that replaces the embedding of a token by the mean embedding of others; `replace_with` makes one.

    Args:
        tokens: at least one text, token id, or `Token` at positions of the prompt.

    Raises:
        ArgumentError: no tokens, or something else among them.
    """

    tokens: tuple[str | int | Token, ...]

    def __post_init__(self) -> None:
        tokens = tuple(each if isinstance(each, str | Token) else _token_id(each) for each in self.tokens)
        if not tokens:
            raise ArgumentError('nothing to replace a token with; write replace_with(" cold"), for example')
        object.__setattr__(self, "tokens", tokens)

    def __repr__(self) -> str:
        return f"replace_with({', '.join(map(repr, self.tokens))})"


def replace_with(*tokens: str | int | Token) -> TokenReplacement:
    """Return an edit that replaces a `Token` by another, or by the mean embedding of several.

    Args:
        tokens: exact texts (" cold", with its space) or ids, or `Token(position)` for the embedding that another
            position of the prompt has without edits. Of several, the mean is taken; one given twice counts twice.

    Raises ArgumentError for no tokens, and for anything else.
    """
    return TokenReplacement(tokens)


def _token_id(value: Any) -> int:
    try:
        return as_index(value, "a token")
    except ArgumentError as error:
        raise ArgumentError(
            f"invalid token {value!r}: expected an exact text, an id or Token(position), each as one argument"
        ) from error


@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """A direction at a site of a layer; its activation is the component of the site's vector along it.

    Args:
        layer: the layer whose site is edited.
        vector: floats (D,) of any length except zero; stored in float64, scaled to length 1.
        position: as in `Feature`, except that masked positions can be named too.
        name: shown in messages.
        site: "resid_post", the residual stream after the layer; "mlp_out", what its MLP adds to the stream; or "attn_out",
            the outputs of its heads side by side before their projection, where vectors have the width of all heads.

    Raises:
        ArgumentError: a vector that is zero, not finite, or not (D,) floats; an invalid layer, position or site.
    """

    layer: int
    vector: Any
    position: Any = "all"
    name: str = field(default="direction", kw_only=True)
    site: Site = field(default="resid_post", kw_only=True)

    def __post_init__(self) -> None:
        check_site(self.site)
        object.__setattr__(self, "layer", as_index(self.layer, "a layer"))
        object.__setattr__(self, "position", normalized_position(self.position))
        object.__setattr__(self, "vector", _unit_vector(self.vector))

    def __str__(self) -> str:
        site = "" if self.site == "resid_post" else f" {self.site}"
        return f"L{self.layer}{site} {self.name}{format_position(self.position)}"

    def __repr__(self) -> str:
        return f"<Direction {self} ({len(self.vector)},)>"


def _unit_vector(vector: Any) -> Tensor:
    """Return a direction in float64, scaled to length 1; ArgumentError where that is impossible."""
    try:
        vector_D = torch.as_tensor(vector).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"invalid direction {vector!r}: expected a vector (D,) of floats") from error
    if vector_D.ndim != 1 or not vector_D.is_floating_point():
        found = f"{vector_D.dtype} {tuple(vector_D.shape)}"
        raise ArgumentError(f"invalid direction of {found}: expected a vector (D,) of floats")
    if not vector_D.isfinite().all() or not vector_D.any():
        raise ArgumentError("a direction is zero, or has NaN or infinite values; use a finite vector that is not zero")
    vector_D = vector_D.double() / vector_D.abs().max()  # so that no square overflows or underflows
    return vector_D / vector_D.norm()


@dataclass(frozen=True)
class Supernode:
    """Features, error nodes and tokens that are edited together.

    Args:
        members: at least one `Feature`, `ErrorNode` or `Token`.
        name: shown in messages; by default the members joined by " + ".

    Raises:
        ArgumentError: no members, or members of another type.
    """

    members: Sequence[Feature | ErrorNode | Token]
    name: str = ""

    def __post_init__(self) -> None:
        members = tuple(self.members) if isinstance(self.members, Iterable) else ()
        if not members or not all(isinstance(member, Feature | ErrorNode | Token) for member in members):
            raise ArgumentError(
                f"the supernode {self.name!r} needs at least one member, each a Feature, ErrorNode or Token"
            )
        object.__setattr__(self, "members", members)

    def __str__(self) -> str:
        return self.name or " + ".join(map(str, self.members))

    @classmethod
    def from_group(cls, graph: Graph, name: str) -> "Supernode":
        """Return the supernode of a group of a graph: the members that are in the graph.

        Raises ArgumentError for a name that no group has, and for a group none of whose nodes is in the graph.
        """
        if name not in graph.groups:
            groups = ", ".join(map(repr, graph.groups)) or "none"
            raise ArgumentError(f"the graph has no group {name!r}; its groups are: {groups}")
        return cls(nodes_of(graph, name), name)


Node = Feature | ErrorNode | Token | Direction
# Keys are nodes or supernodes. Any, since the key type of a Mapping is invariant: a dict[Feature, Edit] would not fit.
NodeEdits = Mapping[Any, Edit | TokenReplacement]
# What one run changes: edits of nodes, an edit of a span, or several of these.
Intervention = NodeEdits | SpanEdit | Sequence[NodeEdits | SpanEdit]


def parts_of(intervention: Any) -> list[NodeEdits | SpanEdit]:
    """Return the edits that one run makes together. Raises ArgumentError for anything that is no edit."""
    parts = list(intervention) if isinstance(intervention, list | tuple) else [intervention]
    for part in parts:
        if not isinstance(part, Mapping | SpanEdit):
            listed = isinstance(part, list | tuple)
            raise ArgumentError(
                "edits are nested too deep: write [edit, edit, …] for one run, and a list of these for several runs"
                if listed
                else "an intervention is a dict from nodes to edits, {Feature(…): ablate()}, a Swap, a Donor, or a list of "
                f"these, not {part!r}"
            )
    return parts


def nodes_of(graph: Graph, nodes: NodeName | Iterable[NodeName]) -> list[Feature | ErrorNode | Token]:
    """Return features, error nodes and tokens of a graph by number, label, group or another name of `Graph.find`.

    They are used in interventions: `{Supernode(nodes_of(graph, "cold")): ablate()}`. Raises ArgumentError for a name that
    no node has, and for one of another kind of node.
    """
    return node_names(graph, [as_index(node, "a node") for node in numbers_of(graph, nodes)])

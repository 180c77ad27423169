"""Edits as users write them: nodes, and the change of each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph
from cotrace.graphs.nodes import ErrorNode, Feature, format_position, normalized_position


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """An edit of an activation or error node `a`, which becomes `scale * a + shift`.

    `ablate`, `set_to`, `add` and `multiply` make edits. `shift` is a number, or for error nodes a vector (D,).

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
    """Return an edit that sets an activation or error node to zero, or removes the component along a direction."""
    return Edit(0.0, 0.0)


def set_to(value: float | Tensor) -> Edit:
    """Return an edit that sets an activation to a value, or an error node to a vector (D,).

    Raises ArgumentError for a value that is neither, or is not finite.
    """
    return Edit(0.0, _number_or_vector(value))


def add(value: float | Tensor) -> Edit:
    """Return an edit that adds a value to an activation, or a vector (D,) to an error node.

    Raises ArgumentError for a value that is neither, or is not finite.
    """
    return Edit(1.0, _number_or_vector(value))


def multiply(factor: float) -> Edit:
    """Return an edit that multiplies an activation or error node by a factor.

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
            f"invalid value {value!r}: expected a number, or a tensor (D,) to set or add to an error node"
        ) from error


@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """A direction in the residual stream after a layer; its activation is the component of the stream along it.

    Args:
        layer: the layer after which the stream is edited.
        vector: floats (D,) of any length except zero; stored in float64, scaled to length 1.
        position: as in `Feature`, except that masked positions can be named too.
        name: shown in messages.

    Raises:
        ArgumentError: a vector that is zero, not finite, or not (D,) floats; an invalid layer or position.
    """

    layer: int
    vector: Any
    position: Any = "all"
    name: str = field(default="direction", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_index(self.layer, "a layer"))
        object.__setattr__(self, "position", normalized_position(self.position))
        object.__setattr__(self, "vector", _unit_vector(self.vector))

    def __str__(self) -> str:
        return f"L{self.layer} {self.name}{format_position(self.position)}"

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
    """Features and error nodes that are edited together.

    Args:
        members: at least one `Feature` or `ErrorNode`.
        name: shown in messages; by default the members joined by " + ".

    Raises:
        ArgumentError: no members, or members of another type.
    """

    members: Sequence[Feature | ErrorNode]
    name: str = ""

    def __post_init__(self) -> None:
        members = tuple(self.members) if isinstance(self.members, Iterable) else ()
        if not members or not all(isinstance(member, Feature | ErrorNode) for member in members):
            raise ArgumentError(f"the supernode {self.name!r} needs at least one member, each a Feature or ErrorNode")
        object.__setattr__(self, "members", members)

    def __str__(self) -> str:
        return self.name or " + ".join(map(str, self.members))


Node = Feature | ErrorNode | Direction
# Keys are nodes or supernodes. Any, since the key type of a Mapping is invariant: a dict[Feature, Edit] would not fit.
Intervention = Mapping[Any, Edit]


def nodes_of(graph: Graph, nodes: Iterable[int]) -> list[Feature | ErrorNode]:
    """Return the features and error nodes that have these numbers in a graph, to be used in interventions.

    Raises ArgumentError for a number that belongs to another kind of node, or to none.
    """
    layer, position, feature = (graph.column(name, -1) for name in ("layer", "position", "feature"))
    editable = graph.order.n_features + graph.order.n_errors
    found: list[Feature | ErrorNode] = []
    for node in nodes:
        node = as_index(node, "a node")
        if not 0 <= node < editable:
            raise ArgumentError(
                f"node {node} is not a feature or an error node of this graph, which are the nodes 0 … {editable - 1}"
            )
        site = int(layer[node]), int(position[node])
        is_feature = node < graph.order.n_features
        found.append(Feature(site[0], int(feature[node]), site[1]) if is_feature else ErrorNode(*site))
    return found

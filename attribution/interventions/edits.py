"""What is changed in a model, and where: as users write it, and checked against a prompt."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError
from cotrace.graphs import Graph
from cotrace.graphs.nodes import ErrorNode, Feature, format_position, normalized_position
from cotrace.kernels.active import FeatureIndex

GENERATED = -1  # in the place of a position: every one after the prompt
ORTHOGONAL = 1e-5  # cosine of two directions up to which neither changes what lies along the other


@dataclass(frozen=True, eq=False)
class Edit:
    """What becomes of an activation: `scale * activation + shift`."""

    scale: float
    shift: float | Tensor  # a vector (D,) of error nodes only

    def __post_init__(self) -> None:
        finite = self.shift.isfinite().all() if isinstance(self.shift, Tensor) else math.isfinite(self.shift)
        if not (math.isfinite(self.scale) and finite):
            raise CotraceError("a change is NaN or infinite; give a finite number")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Edit):
            return NotImplemented
        shifts = (torch.as_tensor(change.shift, dtype=torch.float64) for change in (self, other))
        return self.scale == other.scale and torch.equal(*shifts)


def ablate() -> Edit:
    """Set an activation to zero; take an error node, or what lies along a direction, away."""
    return Edit(0.0, 0.0)


def set_to(value: float | Tensor) -> Edit:
    """Set an activation to a value, or an error node to a vector (D,)."""
    return Edit(0.0, _value(value))


def add(value: float | Tensor) -> Edit:
    """Add a value to an activation, or a vector (D,) to an error node."""
    return Edit(1.0, _value(value))


def multiply(factor: float) -> Edit:
    """Multiply an activation, or an error node, by a factor."""
    return Edit(_number(factor), 0.0)


def _value(value: Any) -> float | Tensor:
    if not isinstance(value, Tensor | np.ndarray) or value.ndim == 0:
        return _number(value)
    try:
        vector = torch.as_tensor(value).detach()
        if vector.is_complex() or vector.dtype == torch.bool:
            raise TypeError
    except TypeError as error:  # of arrays of texts or objects
        raise CotraceError(f"a change by an array of {value.dtype} is none by numbers; give a tensor (D,)") from error
    return vector


def _number(value: Any) -> float:
    try:
        if isinstance(value, str | bytes | bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # of tensors with several values
        raise CotraceError(
            f"a change by {value!r} is no number; give one, or for an error node a tensor (D,)"
        ) from error


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction (D,) in the residual stream after a layer; its activation is the stream along it, at length 1.

    `vector` may have any length, and is kept at length 1, in float64.
    """

    layer: int
    vector: Any
    position: Any = "all"
    name: str = field(default="direction", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_index(self.layer, "a layer"))
        object.__setattr__(self, "position", normalized_position(self.position))
        try:
            vector_D = torch.as_tensor(self.vector).detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise CotraceError(f"a direction is a vector (D,) of floats, not {self.vector!r}") from error
        if vector_D.ndim != 1 or not vector_D.is_floating_point():
            raise CotraceError(f"a direction is a vector (D,) of floats, not {vector_D.dtype} {tuple(vector_D.shape)}")
        if not vector_D.isfinite().all() or not vector_D.any():
            raise CotraceError("a direction is zero, or has NaN or infinite values; give a finite direction")
        vector_D = vector_D.double() / vector_D.abs().max()  # so that no square is out of range
        object.__setattr__(self, "vector", vector_D / vector_D.norm())

    def __str__(self) -> str:
        return f"L{self.layer} {self.name}{format_position(self.position)}"


@dataclass(frozen=True)
class Supernode:
    """Features and error nodes that are changed together."""

    members: Sequence[Feature | ErrorNode]
    name: str = ""

    def __post_init__(self) -> None:
        members = tuple(self.members) if isinstance(self.members, Iterable) else ()
        if not members or not all(isinstance(member, Feature | ErrorNode) for member in members):
            raise CotraceError(f"the supernode {self.name!r} should have features or error nodes, at least one")
        object.__setattr__(self, "members", members)

    def __str__(self) -> str:
        return self.name or " + ".join(map(str, self.members))


Node = Feature | ErrorNode | Direction
Intervention = Mapping[Feature | ErrorNode | Direction | Supernode, Edit]


N = TypeVar("N", bound=Node)


class ResolvedEdit(NamedTuple, Generic[N]):
    """One change of one node, at positions of a prompt, ascending, and perhaps at every generated one."""

    node: N
    positions: tuple[int, ...]
    generated: bool
    change: Edit

    def between(self, first: int, stop: int, n_prompt: int) -> list[int]:
        """Positions from `first` up to `stop` at which it holds."""
        generated = range(max(first, n_prompt), stop) if self.generated else ()
        return [*(p for p in self.positions if first <= p < stop), *generated]

    def covers(self, position: int, n_prompt: int) -> bool:
        """Whether it holds at a position."""
        return bool(self.between(position, position + 1, n_prompt))


# By row, layer and id of a feature: the positions at which its activation was changed.
EditedPositions = dict[tuple[int, int, int], set[int]]


class Place(NamedTuple):
    """Where changes are made: a model's sizes and one prompt."""

    weights: Gemma3
    transcoders: Transcoders
    n_prompt: int
    masked: MaskedPositions

    def open(self, position: int) -> bool:
        """Whether a position may carry features."""
        return position not in self.masked.positions


_Taken = defaultdict[tuple[Any, ...], list[tuple[Any, Any, Edit]]]  # by site: as it was named, node, change


class EditPlan:
    """The changes of one run, each in its place. Raises ValueError for those that cannot be made, or conflict."""

    def __init__(self, intervention: Intervention, place: Place):
        if not isinstance(intervention, Mapping):
            raise CotraceError(f"an intervention maps nodes to changes, {{Feature(…): ablate()}}, not {intervention!r}")
        self.n_prompt = place.n_prompt
        self.features: defaultdict[int, list[ResolvedEdit[Feature]]] = defaultdict(list)
        self.errors: defaultdict[int, list[ResolvedEdit[ErrorNode]]] = defaultdict(list)
        self.directions: defaultdict[int, list[ResolvedEdit[Direction]]] = defaultdict(list)
        taken: _Taken = defaultdict(list)
        for key, change in intervention.items():
            for node in key.members if isinstance(key, Supernode) else (key,):
                self._take(key, node, change, place, taken)

    def _take(self, key: Any, node: Any, change: Any, place: Place, taken: "_Taken") -> None:
        kinds: dict[type, Any] = {Feature: self.features, ErrorNode: self.errors, Direction: self.directions}
        if type(node) not in kinds:
            raise CotraceError(f"{node!r} cannot be changed; use a Feature, Error, Direction or Supernode")
        if not isinstance(change, Edit):
            raise CotraceError(f"the change of {key} is {change!r}; use ablate(), set_to(x), add(x) or multiply(x)")
        placed, apart = _place(node, change, place), set[int]()
        for position in (*placed.positions, *([GENERATED] if placed.generated else ())):
            what = node.feature if isinstance(node, Feature) else None
            site = type(node), node.layer, what, position
            for other_key, other, other_change in taken[site]:
                where = "generated positions" if position == GENERATED else f"position {position}"
                if not isinstance(node, Direction):
                    raise CotraceError(f"{other_key} and {key} both change {_name(node)} at {where}; name each once")
                if id(other) in apart or (_only_adds(change) and _only_adds(other_change)):
                    continue
                if not _orthogonal(node, other):
                    raise CotraceError(
                        f"{other_key} and {key} meet at {where}: directions of one layer and place are only added to, or "
                        "orthogonal (torch.linalg.qr in float32 makes them so)"
                    )
                apart.add(id(other))
            taken[site].append((key, node, change))
        kinds[type(node)][node.layer].append(placed)

    def __iter__(self) -> Iterator[ResolvedEdit[Any]]:
        for kind in (self.features, self.errors, self.directions):
            for placed in kind.values():
                yield from placed

    def idle(self, edited_positions: EditedPositions, row: int = 0) -> list[Feature]:
        """Features whose activation was nowhere changed: not active where they are ablated, say."""
        return [
            placed.node
            for layer, each in self.features.items()
            for placed in each
            if not any(
                placed.covers(p, self.n_prompt) for p in edited_positions.get((row, layer, placed.node.feature), ())
            )
        ]


def _only_adds(change: Edit) -> bool:
    return change.scale == 1.0


def _orthogonal(a: Direction, b: Direction) -> bool:
    """Whether neither changes what lies along the other; those of different widths are refused elsewhere."""
    return a.vector.shape == b.vector.shape and bool((a.vector @ b.vector.to(a.vector)).abs() <= ORTHOGONAL)


def _name(node: Feature | ErrorNode) -> str:
    return f"{f'feature {node.feature}' if isinstance(node, Feature) else 'the error'} of layer {node.layer}"


def _place(node: N, change: Edit, place: Place) -> ResolvedEdit[N]:
    """Find the positions that are meant, and check that the node can be there."""
    arch = place.weights.architecture
    if not 0 <= node.layer < arch.n_layers:
        raise CotraceError(f"{node}: the model has no layer {node.layer}; its layers are 0 … {arch.n_layers - 1}")
    if isinstance(node, Feature):
        width = place.transcoders.width(node.layer, place.weights)
        if not 0 <= node.feature < width:
            raise CotraceError(f"{node}: layer {node.layer} has {width:,} features, 0 … {width - 1}")
    shift = change.shift.shape if isinstance(change.shift, Tensor) else ()
    if isinstance(node, ErrorNode) and (change.shift != 0 if shift == () else shift != (arch.d_model,)):
        raise CotraceError(
            f"{node} is a vector: ablate or multiply it, or set it to one of shape ({arch.d_model},), not a number"
        )
    if not isinstance(node, ErrorNode) and shift != ():
        raise CotraceError(f"the change of {node} has shape {tuple(shift)}, and its activation is one number")
    if isinstance(node, Direction) and node.vector.shape != (arch.d_model,):
        raise CotraceError(f"{node} has shape {tuple(node.vector.shape)} and the model's width is ({arch.d_model},)")
    if isinstance(node.position, str):
        prompt = range(place.n_prompt) if node.position != "generated" else range(0)
        positions = tuple(p for p in prompt if place.open(p))
        return ResolvedEdit(node, positions, node.position != "prompt", change)
    named = node.position if isinstance(node.position, tuple) else (node.position,)
    positions = tuple(sorted(_position(p, node, place) for p in named))
    if len(set(positions)) < len(positions):
        raise CotraceError(f"{node} names a position twice; name each once")
    return ResolvedEdit(node, positions, False, change)


def _position(position: int, node: Node, place: Place) -> int:
    n = place.n_prompt
    if not -n <= position < n:
        raise CotraceError(f"{node}: position {position} is outside the prompt of {n} tokens ({-n} … {n - 1})")
    position %= n
    if isinstance(node, Feature) and not place.open(position):
        raise CotraceError(f"{node}: position {position} is masked and carries no features; choose another")
    if isinstance(node, ErrorNode) and position < place.masked.constant_prefix:
        raise CotraceError(
            f"{node}: position {position} is the same for every prompt, a constant without an error node"
        )
    return position


class FeatureEditTensors(NamedTuple):
    """Changes of one layer's features over a chunk of positions; sites are sorted, by row, position and feature."""

    sites: FeatureIndex
    scale_n: Tensor
    shift_n: Tensor

    def of(self, activation_n: Tensor) -> Tensor:
        """New activations, of those that the features have."""
        return self.scale_n * activation_n + self.shift_n


def feature_edit(
    rows: Sequence[EditPlan], layer: int, first: int, stop: int, like: Tensor
) -> FeatureEditTensors | None:
    """Changes of a layer's features over positions first … stop of several rows; None where there are none.

    Row b's position p is number `b * (stop - first) + p - first`.
    """
    entries = sorted(
        (row * (stop - first) + position - first, placed.node.feature, placed.change.scale, placed.change.shift)
        for row, changes in enumerate(rows)
        for placed in changes.features.get(layer, ())
        for position in placed.between(first, stop, changes.n_prompt)
    )
    if not entries:
        return None
    position, feature, scale, shift = zip(*entries, strict=True)
    sites = FeatureIndex(*(torch.tensor(column, device=like.device) for column in (position, feature)))
    return FeatureEditTensors(
        sites, *(torch.tensor(column, device=like.device, dtype=like.dtype) for column in (scale, shift))
    )


class ErrorEditTensors(NamedTuple):
    """Changes of one layer's error nodes over a chunk of positions, numbered as in `feature_edit`."""

    position_n: Tensor
    scale_n: Tensor
    shift_nD: Tensor

    def moved(self, error_PD: Tensor) -> Tensor:
        """New error nodes minus those that there are, (n, D)."""
        error_nD = error_PD[self.position_n]
        return self.scale_n[:, None] * error_nD + self.shift_nD - error_nD


def error_edit(rows: Sequence[EditPlan], layer: int, first: int, stop: int, like_PD: Tensor) -> ErrorEditTensors | None:
    """Changes of a layer's error nodes; None where there are none."""
    entries = [
        (row * (stop - first) + position - first, placed.change)
        for row, changes in enumerate(rows)
        for placed in changes.errors.get(layer, ())
        for position in placed.between(first, stop, changes.n_prompt)
    ]
    if not entries:
        return None
    position_n = torch.tensor([position for position, _ in entries], device=like_PD.device)
    shift_nD = like_PD.new_zeros(len(entries), like_PD.shape[1])
    for n, (_, change) in enumerate(entries):
        shift_nD[n] = torch.as_tensor(change.shift).to(like_PD)
    return ErrorEditTensors(position_n, like_PD.new_tensor([change.scale for _, change in entries]), shift_nD)


def nodes_of(graph: Graph, nodes: Iterable[int]) -> list[Feature | ErrorNode]:
    """Features and error nodes of a graph, by their numbers, as they can be changed in a model.

    Raises ValueError for tokens, logits and numbers that the graph does not have.
    """
    layer, position, feature = (graph.column(name, -1) for name in ("layer", "position", "feature"))
    changeable, found = graph.order.n_features + graph.order.n_errors, []
    for node in nodes:
        node = as_index(node, "a node")
        if not 0 <= node < changeable:
            raise CotraceError(
                f"node {node} is no feature and no error of this graph: those are the nodes 0 … {changeable - 1}"
            )
        at = int(position[node])
        is_feature = node < graph.order.n_features
        found.append(
            Feature(int(layer[node]), int(feature[node]), position=at)
            if is_feature
            else ErrorNode(int(layer[node]), position=at)
        )
    return found

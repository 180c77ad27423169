"""Resolve the edits of one run to positions of a prompt, and check them for conflicts."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.sites import Site, site_width
from cotrace.attribution.transcoders.base import check_layer
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import ErrorNode, Feature, Token, resolve_position

from .conflicts import GENERATED, ConflictCheck
from .context import PromptContext
from .edits import Direction, Edit, Intervention, Node, NodeEdits, Supernode, TokenReplacement, parts_of
from .span_edits import Donor, Swap
from .span_plan import ResolvedDonor, ResolvedSwap, resolve_donor, resolve_swap

EditedPositions = dict[tuple[int, int, int], set[int]]
"""Positions where activations were changed, by (row, layer, feature)."""

SITE_VALUES: dict[Site, str] = {"resid_post": "residual", "mlp_out": "MLP output", "attn_out": "head outputs"}

N = TypeVar("N", bound=Node)


class ResolvedEdit(NamedTuple, Generic[N]):
    """One edit of one node in one prompt.

    Attributes:
        positions: positions of the prompt, ascending.
        generated: whether the edit also applies at every generated position.
    """

    node: N
    positions: tuple[int, ...]
    generated: bool
    edit: Edit

    def positions_in(self, first: int, stop: int, n_prompt: int) -> list[int]:
        """Return the positions from `first` up to `stop` where the edit applies, after a prompt of `n_prompt`."""
        generated = range(max(first, n_prompt), stop) if self.generated else ()
        return [*(p for p in self.positions if first <= p < stop), *generated]

    def applies_at(self, position: int, n_prompt: int) -> bool:
        """Return whether the edit applies at a position."""
        return bool(self.positions_in(position, position + 1, n_prompt))


class EditPlan:
    """The edits of one run, by kind of node and, except for tokens, layer.

    Raises:
        ArgumentError: an edit that is impossible in this model and prompt, or two edits that conflict.
    """

    def __init__(self, intervention: Intervention, context: PromptContext):
        self.context, self.n_prompt = context, context.n_positions
        self.features: defaultdict[int, list[ResolvedEdit[Feature]]] = defaultdict(list)
        self.errors: defaultdict[int, list[ResolvedEdit[ErrorNode]]] = defaultdict(list)
        self.directions: defaultdict[int, list[ResolvedEdit[Direction]]] = defaultdict(list)
        self.tokens: list[ResolvedEdit[Token]] = []
        self.swaps: list[ResolvedSwap] = []
        self.donors: list[ResolvedDonor] = []
        conflicts = ConflictCheck()
        for part in parts_of(intervention):
            if isinstance(part, Swap):
                self.swaps.append(resolve_swap(part, context))
                conflicts.add(part, part, None, "token", None, self.swaps[-1].positions)
            elif isinstance(part, Donor):
                self.donors.append(resolve_donor(part, context))
                for what, layer in product(part.parts, self.donors[-1].layers):
                    conflicts.add(part, part, None, what, layer, self.donors[-1].positions)
            else:
                self._add_nodes(part, conflicts)

    def _add_nodes(self, edits: NodeEdits, conflicts: ConflictCheck) -> None:
        """Add edits of nodes."""
        for key, edit in edits.items():
            for node in key.members if isinstance(key, Supernode) else (key,):
                same_kind = self._edits_like(node)
                if not isinstance(edit, Edit | TokenReplacement):
                    raise ArgumentError(
                        f"invalid edit of {key}: {edit!r}; use ablate(), set_to(x), add(x), multiply(x), or "
                        "replace_with(token) of a token"
                    )
                resolved = resolve(node, edit, self.context)
                positions = (*resolved.positions, *([GENERATED] if resolved.generated else ()))
                conflicts.add(key, node, resolved.edit, *_edited_value(node), positions)
                same_kind.append(resolved)

    def _edits_like(self, node: Any) -> list[ResolvedEdit[Any]]:
        """Return the list in which an edit of a node belongs: that of the node's kind and layer."""
        if type(node) is Token:
            return self.tokens
        by_layer: dict[type, Any] = {Feature: self.features, ErrorNode: self.errors, Direction: self.directions}
        if type(node) not in by_layer:
            raise ArgumentError(f"{node!r} cannot be edited; use a Feature, ErrorNode, Token, Direction or Supernode")
        return by_layer[type(node)][node.layer]

    def __iter__(self) -> Iterator[ResolvedEdit[Any]]:
        for by_layer in (self.features, self.errors, self.directions):
            for edits in by_layer.values():
                yield from edits
        yield from self.tokens

    def __repr__(self) -> str:
        kinds = (("features", self.features), ("error nodes", self.errors), ("directions", self.directions))
        counts = ", ".join(f"{sum(map(len, by_layer.values()))} {name}" for name, by_layer in kinds)
        spans = f"{len(self.swaps)} swaps, {len(self.donors)} donors"
        return f"<EditPlan of {counts}, {len(self.tokens)} tokens, {spans} in a prompt of {self.n_prompt} tokens>"

    def edits_site(self, site: Site) -> bool:
        """Return whether a direction at a site is edited, in any layer."""
        return any(resolved.node.site == site for edits in self.directions.values() for resolved in edits)

    @property
    def token_ids(self) -> list[int]:
        """The prompt's token ids after swaps."""
        ids = list(self.context.tokens.ids)
        for _, positions, new in self.swaps:
            for position, token in zip(positions, new, strict=True):
                ids[position] = token
        return ids

    def idle(self, edited_positions: EditedPositions, row: int = 0) -> list[Feature]:
        """Return the features whose activation changed nowhere: ablated where they are not active, for example."""
        return [
            resolved.node
            for layer, edits in self.features.items()
            for resolved in edits
            if not any(
                resolved.applies_at(position, self.n_prompt)
                for position in edited_positions.get((row, layer, resolved.node.feature), ())
            )
        ]


def _edited_value(node: Node) -> tuple[str, int | None]:
    """Return the name and the layer of the value that an edit of a node changes."""
    if isinstance(node, Token):
        return "token", None
    if isinstance(node, Direction):
        return SITE_VALUES[node.site], node.layer
    return f"feature {node.feature}" if isinstance(node, Feature) else "error node", node.layer


def resolve(node: N, edit: Edit | TokenReplacement, context: PromptContext) -> ResolvedEdit[N]:
    """Return an edit with its positions in a prompt, and with the embedding that replaces a token.

    Raises ArgumentError for a node that the model does not have, an edit of the wrong shape, and a position outside
    the prompt or without such nodes; PromptError for a text that is not one token.
    """
    _require_in_model(node, context)
    if isinstance(edit, TokenReplacement):
        edit = _replacement_edit(node, edit, context)
    _require_shapes(node, edit, context.weights.architecture)
    return ResolvedEdit(node, *_resolve_positions(node, context), edit)


def _resolve_positions(node: Node, context: PromptContext) -> tuple[tuple[int, ...], bool]:
    """Return a node's positions in the prompt, ascending, and whether it is also at every generated position."""
    if isinstance(node.position, str):
        prompt = range(context.n_positions) if node.position != "generated" else range(0)
        return tuple(p for p in prompt if context.is_open(p)), node.position != "prompt"
    named = node.position if isinstance(node.position, tuple) else (node.position,)
    positions = tuple(sorted(_position(p, node, context) for p in named))
    if len(set(positions)) < len(positions):
        raise ArgumentError(f"{node} names a position twice; name each once")
    return positions, False


def _replacement_edit(node: Node, replacement: TokenReplacement, context: PromptContext) -> Edit:
    """Return the edit that sets a token to the mean embedding of the tokens in `replacement`."""
    if not isinstance(node, Token):
        raise ArgumentError(f"{node} is not a token, so {replacement} does not fit; use set_to(x)")
    ids: list[int] = []
    for token in replacement.tokens:
        if isinstance(token, Token):
            positions, _ = _resolve_positions(token, context)
            if not positions:
                raise ArgumentError(f"{replacement}: {token} is at no position of the prompt; name one")
            ids += context.ids_P[list(positions)].tolist()
        else:
            ids.append(context.tokenizer.token_id(token))
    ids_n = torch.tensor(ids, device=context.ids_P.device)
    return Edit(0.0, context.weights.embed(ids_n).mean(0, dtype=torch.float64))


def _require_in_model(node: Node, context: PromptContext) -> None:
    if isinstance(node, Feature):
        context.transcoders.check_feature(node, context.weights)
    elif not isinstance(node, Token):
        check_layer(node, context.n_layers)


def _require_shapes(node: Node, edit: Edit, arch: Architecture) -> None:
    d_model = arch.d_model
    shift = tuple(edit.shift.shape) if isinstance(edit.shift, Tensor) else ()
    if isinstance(node, ErrorNode | Token):
        if edit.shift != 0 if shift == () else shift != (d_model,):
            other = "; or replace it: replace_with(token)" if isinstance(node, Token) else ""
            raise ArgumentError(
                f"{node} is a vector: ablate or multiply it, or set it to a tensor of shape ({d_model},), not a number"
                f"{other}"
            )
    elif shift != ():
        raise ArgumentError(f"the edit of {node} has shape {shift}, but its activation is one number")
    if isinstance(node, Direction) and len(node.vector) != (width := site_width(arch, node.site)):
        raise ArgumentError(f"{node} has shape {tuple(node.vector.shape)} and the model's width is ({width},)")


def _position(position: int, node: Node, context: PromptContext) -> int:
    """Return a position counted from the start of the prompt."""
    position = resolve_position(position, context.n_positions, f"{node}: position")
    if isinstance(node, Feature) and not context.is_open(position):
        raise ArgumentError(f"{node}: position {position} is masked and carries no features; choose another")
    if isinstance(node, ErrorNode) and position < context.masked.constant_prefix:
        raise ArgumentError(
            f"{node}: position {position} is in the constant prefix, without an error node; choose a later one"
        )
    return position

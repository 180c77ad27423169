"""Find edits of one run that change the same value at the same position."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from cotrace.common.errors import ArgumentError

from .edits import Direction, Edit

GENERATED = -1  # in place of a position: all generated positions
MAX_COSINE = 1e-5  # of two directions, up to which neither edit changes the component along the other
SHOWN = {  # how messages name a value; all others are those "of layer N"
    "token": "the token",
    "residual": "the residual stream after layer {layer}",
}


class _Claim(NamedTuple):
    """An edit of one value at one position, with the key that the user wrote: a node, its supernode, a swap or donor."""

    key: Any
    node: Any
    edit: Edit | None


class ConflictCheck:
    """Finds edits of the same value at the same position. Edits of directions may share one where they commute."""

    def __init__(self) -> None:
        self._claims: defaultdict[tuple[str, int | None, int], list[_Claim]] = defaultdict(list)

    def add(
        self, key: Any, node: Any, edit: Edit | None, value: str, layer: int | None, positions: Iterable[int]
    ) -> None:
        """Record an edit. Raises ArgumentError if it conflicts with an earlier one.

        Args:
            key: what the user wrote: the node, its supernode, a swap or a donor.
            node: the node, swap or donor.
            edit: the edit of a node; None for a swap or donor.
            value: what changes, such as "token", "residual", "keys" or "feature 7".
            layer: the layer of the value; None for a token.
            positions: where it changes; `GENERATED` for all generated positions.
        """
        claim, checked = _Claim(key, node, edit), set[int]()
        for position in positions:
            claims = self._claims[value, layer, position]
            for other in claims:
                if id(other.node) not in checked:
                    _require_compatible(other, claim, _describe(value, layer), position)
                    checked.add(id(other.node))
            claims.append(claim)


def _require_compatible(one: _Claim, other: _Claim, value: str, position: int) -> None:
    """Raise ArgumentError for two edits at one position, unless they are of directions and commute."""
    where = "generated positions" if position == GENERATED else f"position {position}"
    if not (isinstance(one.node, Direction) and isinstance(other.node, Direction)):
        raise ArgumentError(f"{one.key} and {other.key} both edit {value} at {where}; name each once")
    assert one.edit is not None
    assert other.edit is not None
    if (one.edit.only_adds and other.edit.only_adds) or _orthogonal(one.node, other.node):
        return
    raise ArgumentError(
        f"{one.key} and {other.key} overlap at {where}: directions in one layer must be orthogonal (see "
        "torch.linalg.qr, in float32 or better) or only added to"
    )


def _orthogonal(a: Direction, b: Direction) -> bool:
    """Return whether edits along two directions commute; EditPlan refuses different widths elsewhere."""
    return a.vector.shape == b.vector.shape and bool((a.vector @ b.vector.to(a.vector)).abs() <= MAX_COSINE)


def _describe(value: str, layer: int | None) -> str:
    if value in SHOWN:
        return SHOWN[value].format(layer=layer)
    return f"{'' if value.startswith('feature ') else 'the '}{value} of layer {layer}"

"""Where the columns of a backward pass differ: blocks of positions, each with the columns that have to be computed there.

Gradients go from later positions to earlier ones only. A column has none after its target. And above the last position
that its paths avoid, it equals the column of the same target that avoids nothing, or less: it starts there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# On a CPU small enough to leave out most positions at which a column need not be computed, and large enough for matrix
# products at full speed. A GPU needs much work per launch.
BLOCK_POSITIONS = {"cpu": 128, "cuda": 4096}


class EffectColumns(NamedTuple):
    """K columns of a backward pass.

    Attributes:
        layers: the layer before whose MLP each target is read; L is the unembedding.
        position_K: the position where it is read.
        read_KD: the gradient of its value with respect to the residual stream there.
        open_KP: False at the positions that paths must avoid; None without cuts.
    """

    layers: Sequence[int]
    position_K: Tensor
    read_KD: Tensor
    open_KP: Tensor | None = None

    def __repr__(self) -> str:
        return f"<EffectColumns: {len(self.layers)}>"

    def part(self, chosen: Sequence[int]) -> "EffectColumns":
        """Return some of the columns."""
        open_KP = None if self.open_KP is None else self.open_KP[chosen]
        return EffectColumns([self.layers[k] for k in chosen], self.position_K[chosen], self.read_KD[chosen], open_KP)


class PositionBlock(NamedTuple):
    """Consecutive positions, and the columns that are computed there: the first ones in the order of the layout.

    Attributes:
        start, stop: the positions.
        n_columns: K', the number of columns.
        followers: of these, the ones that start in this block, below a column that they equal in later blocks.
        leaders: that column of each.
        closed: positions, counted from `start`, and columns at which gradients are zero.
    """

    start: int
    stop: int
    n_columns: int
    followers: slice
    leaders: Tensor
    closed: tuple[Tensor, ...] | None


class ColumnLayout:
    """The columns in the order of the blocks where they start, from the last block to the first.

    Attributes:
        blocks: all blocks up to the last target.
        place_K: the place of each column in that order.
    """

    def __init__(self, columns: EffectColumns, n_positions: int, block_positions: int):
        self.columns, self.size = columns, block_positions
        self.n_columns = len(columns.layers)
        last_cut = _last_cuts(columns, n_positions)
        leaders = _leaders(columns, last_cut)
        tops = [p if k == leaders[k] else last_cut[k] for k, p in enumerate(columns.position_K.tolist())]
        self._start = [
            top // block_positions for top in tops
        ]  # the block; -1 for what equals another column everywhere
        self.order = sorted(range(self.n_columns), key=lambda k: (-self._start[k], leaders[k] != k))
        place = {k: i for i, k in enumerate(self.order)}
        self.place_K = torch.tensor([place[k] for k in range(self.n_columns)], device=columns.position_K.device)
        self._leader_place = [place[leaders[k]] for k in self.order]
        self.blocks = [self._block(b) for b in range(max(self._start) + 1)]

    def __repr__(self) -> str:
        return f"<ColumnLayout: {self.n_columns} columns in {len(self.blocks)} blocks>"

    @property
    def followed(self) -> list[tuple[int, int, int]]:
        """For each column that equals another one in later blocks: its place, the other's, and the first such block."""
        pairs = zip(self.order, self._leader_place, strict=True)
        return [(i, leader, self._start[k] + 1) for i, (k, leader) in enumerate(pairs) if i != leader]

    def starts(self, block: int, layer: int) -> tuple[list[int], list[int]]:
        """Return the targets read at a layer in a block: columns, and their places."""
        chosen = [
            (k, i)
            for i, k in enumerate(self.order[: self.blocks[block].n_columns])
            if self.columns.layers[k] == layer and int(self.columns.position_K[k]) // self.size == block
        ]
        return [k for k, _ in chosen], [i for _, i in chosen]

    def _block(self, b: int) -> PositionBlock:
        places = [i for i, k in enumerate(self.order) if self._start[k] >= b]
        n_columns = len(places)
        start, stop = b * self.size, min((b + 1) * self.size, int(self.columns.position_K.max()) + 1)
        followers = [i for i in places if self._start[self.order[i]] == b and self._leader_place[i] != i]
        device = self.columns.position_K.device
        leaders = torch.tensor([self._leader_place[i] for i in followers], dtype=torch.long, device=device)
        closed = None
        if self.columns.open_KP is not None:
            closed_pk = ~self.columns.open_KP[self.order[:n_columns], start:stop].T
            closed = torch.where(closed_pk) if bool(closed_pk.any()) else None
        return PositionBlock(start, stop, n_columns, slice(n_columns - len(followers), n_columns), leaders, closed)


def _last_cuts(columns: EffectColumns, n_positions: int) -> list[int]:
    """Return the last position before its target that each column avoids; -1 for none."""
    if columns.open_KP is None:
        return [-1] * len(columns.layers)
    position_P = torch.arange(n_positions, device=columns.position_K.device)
    closed_KP = ~columns.open_KP & (position_P < columns.position_K[:, None])
    return torch.where(closed_KP, position_P, -1).amax(1).tolist()


def _leaders(columns: EffectColumns, last_cut: Sequence[int]) -> list[int]:
    """Return for each column the one of the same target whose cut ends first; often one without a cut."""
    reads = columns.read_KD.cpu().numpy()
    targets = [
        (layer, position, read.tobytes())
        for layer, position, read in zip(columns.layers, columns.position_K.tolist(), reads, strict=True)
    ]
    first: dict[tuple[int, int, bytes], int] = {}
    for k in sorted(range(len(targets)), key=lambda k: last_cut[k]):
        first.setdefault(targets[k], k)
    return [first[target] for target in targets]

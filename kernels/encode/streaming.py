"""Encode over tiles of the dictionary on the vendor's matrix product: the part all fast backends share.

Backends differ in how they pick the active entries of one tile.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# Positions of a tile, and its entries: large enough for full-speed products, on the CPU small enough to
# be read back from the cache, and all that is ever there of the dense pre-activations. A GPU's tile is
# larger than its cache: it is read at several times the rate at which it is computed.
POSITIONS = {"cpu": 1024}
ENTRIES = {"cpu": 1024 * 2048}
POSITIONS_ELSEWHERE, ENTRIES_ELSEWHERE = 8192, 8192 * 8192
FEATURES = 8192  # at most: a copy of so many encoder columns is made where they are stored in another type
DROPPED_BITS = 16  # of a float32, when values are counted for BatchTopK: the rest tells 1% apart
GROUP = 8  # features whose largest value stands for them when a first bound is sought


class Found(NamedTuple):
    """Active entries of some positions and features, sorted by (position, feature)."""

    count_p: Tensor  # entries of each position, int64
    feature_n: Tensor
    z_n: Tensor


class Picker(Protocol):
    """What takes the tiles of a call, and returns what is active in them."""

    def add(self, product_pf: Tensor, bias_f: Tensor, positions: slice, features: slice) -> None:
        """Take a tile of `x @ w_enc`, which may be overwritten. Raises ValueError unless it is finite."""

    def end_of_features(self) -> None:
        """All positions of these features are there; the next tile is of later features."""

    def result(self) -> Found:
        """All active entries."""


# `compact(product_pf, bias_f, least_f, bound_p)` finds the entries of a tile's `z = product + bias` above
# what is asked of their feature, at least 0, and above the bound of their position, if there is one.
Compact = Callable[[Tensor, Tensor, Tensor, Tensor | None], Found]


def encode(picker: Picker, x_PD: Tensor, w_enc_DF: Tensor, bias_F: Tensor):
    """Active features tile by tile; see `api.encode`. Features ascend, then positions."""
    device, n_features = x_PD.device.type, len(bias_F)
    n_positions = max(1, min(POSITIONS.get(device, POSITIONS_ELSEWHERE), len(x_PD)))
    width = max(1, min(ENTRIES.get(device, ENTRIES_ELSEWHERE) // n_positions, FEATURES, n_features))
    room = x_PD.new_empty(n_positions * width)
    for start in range(0, n_features, width):
        features = slice(start, min(start + width, n_features))
        w_enc_Df, bias_f = w_enc_DF[:, features].to(x_PD), bias_F[features]
        for first in range(0, len(x_PD), n_positions):
            positions = slice(first, min(first + n_positions, len(x_PD)))
            x_pD = x_PD[positions]
            product_pf = torch.mm(x_pD, w_enc_Df, out=room[: len(x_pD) * len(bias_f)].view(len(x_pD), -1))
            picker.add(product_pf, bias_f, positions, features)
        picker.end_of_features()
    count_P, feature_n, z_n = picker.result()
    return _positions(count_P), feature_n, z_n, z_n


def encode_with(
    compact: Compact,
    x_PD: Tensor,
    w_enc_DF: Tensor,
    bias_F: Tensor,
    threshold_F: Tensor | None,
    k: int | None,
    batch_k: int | None,
):
    """Active features, with a backend's way to find entries above bounds; see `api.encode`."""
    return encode(above(compact, x_PD, threshold_F, k, batch_k), x_PD, w_enc_DF, bias_F)


def require_finite(finite: bool) -> None:
    """Raise ValueError unless all pre-activations that were looked at are finite."""
    if not finite:
        raise ValueError("NaN or infinite pre-activations")


def above(compact: Compact, x_PD: Tensor, threshold_F: Tensor | None, k: int | None, batch_k: int | None) -> Picker:
    """The picker of an activation, with a backend's way to find entries above bounds."""
    if k is not None:
        return LargestOfPosition(compact, x_PD, k)
    if batch_k is not None:
        return LargestOfBatch(compact, x_PD, batch_k)
    return AboveThreshold(compact, x_PD, threshold_F)


class AboveThreshold:
    """JumpReLU and ReLU."""

    def __init__(self, compact: Compact, x_PD: Tensor, threshold_F: Tensor | None = None):
        self.compact, self.like = compact, x_PD
        self.least_F = None if threshold_F is None else threshold_F.clamp(min=0)
        self.tiles: list[Found] = []  # of all positions and consecutive features each
        self.part: list[Found] = []  # of consecutive positions each

    def add(self, product_pf: Tensor, bias_f: Tensor, positions: slice, features: slice) -> None:
        """Keep what the backend finds above the thresholds and bounds."""
        least_f = torch.zeros_like(bias_f) if self.least_F is None else self.least_F[features]
        found = self.compact(product_pf, bias_f, least_f, self.bound(product_pf, bias_f, positions))
        self.part.append(found._replace(feature_n=found.feature_n + features.start))

    def bound(self, product_pf: Tensor, bias_f: Tensor, positions: slice) -> Tensor | None:
        """For each position, a value that all entries to keep exceed; None if there is none."""
        return None

    def end_of_features(self) -> None:
        """Positions follow one another: their entries are in order as they came."""
        if self.part:
            self.tiles.append(Found(*(torch.cat(parts) for parts in zip(*self.part, strict=True))))
        self.part = []

    def result(self) -> Found:
        """All entries, brought from an order of tiles into an order of positions."""
        if len(self.tiles) < 2:
            none = self.like.new_zeros(0, dtype=torch.int64)
            return self.tiles[0] if self.tiles else Found(none.new_zeros(len(self.like)), none, self.like.new_zeros(0))
        count_tP = torch.stack([tile.count_p for tile in self.tiles])
        entries = torch.cat([tile.feature_n for tile in self.tiles]), torch.cat([tile.z_n for tile in self.tiles])
        start_tP = _exclusive(count_tP.T.flatten()).view(-1, len(self.tiles)).T  # where each run of entries belongs
        runs = count_tP.flatten()
        shift_n = (start_tP.flatten() - _exclusive(runs)).repeat_interleave(runs)
        place_n = torch.arange(len(shift_n), device=shift_n.device) + shift_n
        return Found(count_tP.sum(0), *(torch.empty_like(entry).scatter_(0, place_n, entry) for entry in entries))


class Largest(AboveThreshold):
    """A stated number of the largest entries, by a bound that rises from tile to tile."""

    def __init__(self, compact: Compact, x_PD: Tensor, n_kept: int):
        super().__init__(compact, x_PD)
        self.n_kept, self.bound_P = n_kept, x_PD.new_zeros(len(x_PD))

    def end_of_features(self) -> None:
        """Forget what cannot be among the largest before it fills memory."""
        super().end_of_features()
        if sum(len(tile.z_n) for tile in self.tiles) > 4 * self.n_kept:
            self.tiles = [self.result()]
            self.raise_bound(self.tiles[0])

    def raise_bound(self, largest: Found) -> None:
        """To what the largest entries so far say."""


class LargestOfPosition(Largest):
    """TopK: as many entries of each position as are asked for."""

    def __init__(self, compact: Compact, x_PD: Tensor, k: int):
        super().__init__(compact, x_PD, k * len(x_PD))
        self.k = k

    def bound(self, product_pf: Tensor, bias_f: Tensor, positions: slice) -> Tensor | None:
        """The k-th largest of what stands for groups of features is at most the k-th largest of all."""
        bound_p, largest_pg = self.bound_P[positions], _largest_of_groups(product_pf, bias_f)
        if self.k <= largest_pg.shape[1]:
            kth_p = largest_pg.topk(self.k, dim=1).values[:, -1]
            torch.maximum(bound_p, _just_below(kth_p), out=bound_p)
        return bound_p

    def raise_bound(self, largest: Found) -> None:
        """To the smallest entry of each position that has as many as are asked for."""
        count_P, _, z_n = largest
        smallest_P = torch.full_like(self.bound_P, torch.inf).scatter_reduce(0, _positions(count_P), z_n, "amin")
        full_P = count_P == self.k
        self.bound_P[full_P] = torch.maximum(self.bound_P, _just_below(smallest_P))[full_P]

    def result(self) -> Found:
        """The k largest of each position."""
        count_P, feature_n, z_n = super().result()
        order = torch.argsort(z_n, descending=True, stable=True)
        order = order[torch.argsort(_positions(count_P)[order], stable=True)]
        rank = torch.arange(len(order), device=order.device) - _exclusive(count_P).repeat_interleave(count_P)
        keep = order[rank < self.k].sort().values
        return Found(count_P.clamp(max=self.k), feature_n[keep], z_n[keep])


class LargestOfBatch(Largest):
    """BatchTopK: as many entries of all positions together as are asked for."""

    def __init__(self, compact: Compact, x_PD: Tensor, batch_k: int):
        super().__init__(compact, x_PD, batch_k * len(x_PD))
        # How many entries were found so far, by the leading bits of their value as float32.
        self.histogram = self._counts(x_PD.new_zeros(0))

    def bound(self, product_pf: Tensor, bias_f: Tensor, positions: slice) -> Tensor | None:
        """The smallest value that could still be kept; before the first tile, a guess on the safe side."""
        if not self.part and not self.tiles:
            self._raise_bound(self._counts(_largest_of_groups(product_pf, bias_f).nan_to_num(0).clamp(min=0).flatten()))
        return self.bound_P[positions]

    def add(self, product_pf: Tensor, bias_f: Tensor, positions: slice, features: slice) -> None:
        """Raise the bound once there is more than will be kept."""
        super().add(product_pf, bias_f, positions, features)
        self.histogram += self._counts(self.part[-1].z_n)
        self._raise_bound(self.histogram)

    def _counts(self, z_n: Tensor) -> Tensor:
        return torch.bincount(z_n.float().view(torch.int32) >> DROPPED_BITS, minlength=1 << (31 - DROPPED_BITS))

    def _raise_bound(self, histogram: Tensor) -> None:
        """To where there is enough above it."""
        enough = histogram.flip(0).cumsum(0).flip(0) >= self.n_kept  # of this value or more; true, then false
        edge = (enough.sum() - 1).clamp(min=0).to(torch.int32) << DROPPED_BITS
        bound = _just_below(_just_below(edge.view(torch.float32)).to(self.bound_P))  # in both types' rounding
        torch.maximum(self.bound_P, bound, out=self.bound_P)

    def result(self) -> Found:
        """The largest entries; of equal ones the first in order of position and feature."""
        count_P, feature_n, z_n = super().result()
        if len(z_n) <= self.n_kept:
            return Found(count_P, feature_n, z_n)
        smallest = z_n.topk(self.n_kept, sorted=False).values.min()
        larger, equal = z_n > smallest, z_n == smallest
        keep = larger | (equal & (equal.cumsum(0) <= self.n_kept - larger.sum()))
        count_P = torch.bincount(_positions(count_P)[keep], minlength=len(count_P))
        return Found(count_P, feature_n[keep], z_n[keep])


def _largest_of_groups(product_pf: Tensor, bias_f: Tensor) -> Tensor:
    """The largest entry of each group of a tile's features; what is left of a last group has none."""
    whole = slice(0, len(bias_f) // GROUP * GROUP)
    return (product_pf[:, whole] + bias_f[whole]).unflatten(1, (-1, GROUP)).amax(2)


def _positions(count_P: Tensor) -> Tensor:
    """The position of each entry."""
    return torch.arange(len(count_P), device=count_P.device).repeat_interleave(count_P)


def _exclusive(count: Tensor) -> Tensor:
    """Sum of all earlier entries."""
    return count.cumsum(0) - count


def _just_below(value: Tensor) -> Tensor:
    return torch.nextafter(value, torch.full_like(value, -torch.inf))

"""Encode over tiles of the dictionary, with a BLAS or cuBLAS matrix product: the part all fast backends share.

Backends differ in how they find the active entries of one tile.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

# Size of a tile of dense pre-activations: large enough for full-speed products, and on the CPU small enough to be read
# back from the cache. A GPU's tile is larger than its cache, but is read at several times the rate of its computation.
TILE_POSITIONS = {"cpu": 1024}
TILE_ENTRIES = {"cpu": 1024 * 4096}
TILE_POSITIONS_ELSEWHERE, TILE_ENTRIES_ELSEWHERE = 8192, 8192 * 8192
MAX_TILE_FEATURES = 8192  # limits the copy of encoder columns that are stored in another type
SAMPLE_FEATURES, SAMPLE_POSITIONS = 256, 256  # at most, for the guess of BatchTopK's bound
SAMPLE_RUN_FEATURES = 16  # adjacent features of a sample: one memory access each
GROUP_FEATURES = 8  # only the largest value of each group is ranked for a first bound


class ActiveEntries(NamedTuple):
    """Active entries of some positions and features, sorted by (position, feature)."""

    count_p: Tensor  # entries of each position, int64
    feature_n: Tensor
    z_n: Tensor


class TileSelector(Protocol):
    """Selects the active entries from the tiles of one call of encode."""

    def add(self, product_pf: Tensor, positions: slice, features: slice) -> None:
        """Add a tile of `x @ w_enc`, which may be overwritten. Raises ValueError unless it is finite."""

    def end_of_features(self) -> None:
        """Announce that the next tile has later features."""

    def result(self) -> ActiveEntries:
        """Return all active entries."""


class TileScanner(Protocol):
    """Finds the active entries of a tile, in the way of a backend."""

    def __init__(self, bias_F: Tensor, least_F: Tensor):
        """Take the bias of every feature, and the value, at least 0, that its active entries exceed."""

    def __call__(self, product_pf: Tensor, positions: slice, features: slice, bound_P: Tensor | None) -> ActiveEntries:
        """Return the entries of `product + bias` that exceed `least_F` of their feature and `bound_P` of their position.

        Where `bound_P` is given, `least_F` is 0.
        """


def encode(selector: TileSelector, x_PD: Tensor, w_enc_DF: Tensor):
    """Return active features, computed tile by tile over features, then positions; see `api.encode`."""
    device, n_features = x_PD.device.type, w_enc_DF.shape[1]
    n_positions = max(1, min(TILE_POSITIONS.get(device, TILE_POSITIONS_ELSEWHERE), len(x_PD)))
    width = max(1, min(TILE_ENTRIES.get(device, TILE_ENTRIES_ELSEWHERE) // n_positions, MAX_TILE_FEATURES, n_features))
    room = x_PD.new_empty(n_positions * width)
    for start in range(0, n_features, width):
        features = slice(start, min(start + width, n_features))
        w_enc_Df = w_enc_DF[:, features].to(x_PD)
        for first in range(0, len(x_PD), n_positions):
            positions = slice(first, min(first + n_positions, len(x_PD)))
            x_pD = x_PD[positions]
            product_pf = torch.mm(x_pD, w_enc_Df, out=room[: len(x_pD) * w_enc_Df.shape[1]].view(len(x_pD), -1))
            selector.add(product_pf, positions, features)
        selector.end_of_features()
    count_P, feature_n, z_n = selector.result()
    return _positions(count_P), feature_n, z_n, z_n


def encode_with(
    scanner: type[TileScanner],
    x_PD: Tensor,
    w_enc_DF: Tensor,
    bias_F: Tensor,
    threshold_F: Tensor | None,
    k: int | None,
    batch_k: int | None,
):
    """Return active features, found with a backend's `TileScanner`; see `api.encode`."""
    if k is not None:
        return encode(TopKSelector(scanner, x_PD, bias_F, k), x_PD, w_enc_DF)
    if batch_k is None:
        return encode(ThresholdSelector(scanner, x_PD, bias_F, threshold_F), x_PD, w_enc_DF)
    for bound in _guesses(x_PD, w_enc_DF, bias_F, batch_k):
        found = encode(BatchTopKSelector(scanner, x_PD, bias_F, batch_k, bound), x_PD, w_enc_DF)
        if bound == 0 or len(found[-1]) == batch_k * len(x_PD):
            return found
    raise AssertionError("the last guess is 0")


def require_finite(finite: bool) -> None:
    """Raise ValueError unless the pre-activations are finite."""
    if not finite:
        raise ValueError("NaN or infinite pre-activations")


class ThresholdSelector:
    """Selects for JumpReLU and ReLU: all entries above the thresholds."""

    def __init__(self, scanner: type[TileScanner], x_PD: Tensor, bias_F: Tensor, threshold_F: Tensor | None = None):
        least_F = torch.zeros_like(bias_F) if threshold_F is None else threshold_F.clamp(min=0)
        self.scanner, self.like, self.bias_F = scanner(bias_F, least_F), x_PD, bias_F
        self.tiles: list[ActiveEntries] = []  # of all positions and consecutive features each
        self.part: list[ActiveEntries] = []  # of consecutive positions each

    def add(self, product_pf: Tensor, positions: slice, features: slice) -> None:
        """Add the entries of a tile above the thresholds and bounds."""
        bound_P = self.bounds(product_pf, positions, features)
        self.part.append(self.scanner(product_pf, positions, features, bound_P))

    def bounds(self, product_pf: Tensor, positions: slice, features: slice) -> Tensor | None:
        """Return a value for each position that all selected entries exceed; None if there is none."""
        return None

    def end_of_features(self) -> None:
        """Join the tiles of consecutive positions, which came in order."""
        if self.part:
            self.tiles.append(ActiveEntries(*(torch.cat(parts) for parts in zip(*self.part, strict=True))))
        self.part = []

    def result(self) -> ActiveEntries:
        """Return all entries, sorted by position instead of by tile."""
        if len(self.tiles) < 2:
            none = self.like.new_zeros(0, dtype=torch.int64)
            return (
                self.tiles[0]
                if self.tiles
                else ActiveEntries(none.new_zeros(len(self.like)), none, self.like.new_zeros(0))
            )
        count_tP = torch.stack([tile.count_p for tile in self.tiles])
        entries = torch.cat([tile.feature_n for tile in self.tiles]), torch.cat([tile.z_n for tile in self.tiles])
        start_tP = (
            _exclusive_cumsum(count_tP.T.flatten()).view(-1, len(self.tiles)).T
        )  # where each run of entries belongs
        runs = count_tP.flatten()
        shift_n = (start_tP.flatten() - _exclusive_cumsum(runs)).repeat_interleave(runs)
        place_n = torch.arange(len(shift_n), device=shift_n.device) + shift_n
        return ActiveEntries(
            count_tP.sum(0), *(torch.empty_like(entry).scatter_(0, place_n, entry) for entry in entries)
        )


class LargestSelector(ThresholdSelector):
    """Selects a given number of the largest entries, with a bound that rises from tile to tile."""

    def __init__(self, scanner: type[TileScanner], x_PD: Tensor, bias_F: Tensor, n_kept: int):
        super().__init__(scanner, x_PD, bias_F)
        self.n_kept, self.bound_P = n_kept, x_PD.new_zeros(len(x_PD))

    def end_of_features(self) -> None:
        """Drop entries that cannot be among the largest before they fill memory."""
        super().end_of_features()
        if sum(len(tile.z_n) for tile in self.tiles) > 4 * self.n_kept:
            self.tiles = [self.result()]
            self.raise_bound(self.tiles[0])

    def raise_bound(self, largest: ActiveEntries) -> None:
        """Raise the bound, given the largest entries so far."""


class TopKSelector(LargestSelector):
    """Selects for TopK: the k largest entries of each position."""

    def __init__(self, scanner: type[TileScanner], x_PD: Tensor, bias_F: Tensor, k: int):
        super().__init__(scanner, x_PD, bias_F, k * len(x_PD))
        self.k = k

    def bounds(self, product_pf: Tensor, positions: slice, features: slice) -> Tensor:
        """Return bounds from the k-th largest group maximum, which is at most the k-th largest entry."""
        largest_pg = _largest_of_groups(product_pf, self.bias_F[features])
        if self.k <= largest_pg.shape[1]:
            bound_p, kth_p = self.bound_P[positions], largest_pg.topk(self.k, dim=1).values[:, -1]
            torch.maximum(bound_p, _just_below(kth_p), out=bound_p)
        return self.bound_P

    def raise_bound(self, largest: ActiveEntries) -> None:
        """Raise the bound of each position with k entries to the smallest of them."""
        count_P, _, z_n = largest
        smallest_P = torch.full_like(self.bound_P, torch.inf).scatter_reduce(0, _positions(count_P), z_n, "amin")
        full_P = count_P == self.k
        self.bound_P[full_P] = torch.maximum(self.bound_P, _just_below(smallest_P))[full_P]

    def result(self) -> ActiveEntries:
        """Return the k largest entries of each position."""
        count_P, feature_n, z_n = super().result()
        order = torch.argsort(z_n, descending=True, stable=True)
        order = order[torch.argsort(_positions(count_P)[order], stable=True)]
        rank = torch.arange(len(order), device=order.device) - _exclusive_cumsum(count_P).repeat_interleave(count_P)
        keep = order[rank < self.k].sort().values
        return ActiveEntries(count_P.clamp(max=self.k), feature_n[keep], z_n[keep])


class BatchTopKSelector(LargestSelector):
    """Selects for BatchTopK: the largest entries of all positions together, or all above a bound if they are fewer."""

    def __init__(self, scanner: type[TileScanner], x_PD: Tensor, bias_F: Tensor, batch_k: int, bound: float):
        super().__init__(scanner, x_PD, bias_F, batch_k * len(x_PD))
        self.bound_P += bound

    def bounds(self, product_pf: Tensor, positions: slice, features: slice) -> Tensor:
        """Return the one bound of all positions."""
        return self.bound_P

    def raise_bound(self, largest: ActiveEntries) -> None:
        """Raise the bound to the smallest entry, if there are enough."""
        if len(largest.z_n) == self.n_kept:
            self.bound_P.fill_(_just_below(largest.z_n.min()))

    def result(self) -> ActiveEntries:
        """Return the largest entries; of equal ones the first in order of position and feature."""
        found = super().result()
        n_smaller = len(found.z_n) - self.n_kept
        if n_smaller <= 0:
            return found
        smallest = _kth_smallest(found.z_n, n_smaller)
        reach = found.z_n >= smallest
        n_too_many = int(reach.count_nonzero()) - self.n_kept
        if n_too_many:
            reach[(found.z_n == smallest).nonzero()[-n_too_many:, 0]] = False
        return _kept(found, reach)


def _guesses(x_PD: Tensor, w_enc_DF: Tensor, bias_F: Tensor, batch_k: int) -> Iterator[float]:
    """Yield falling bounds, guessed from a sample, that enough entries should exceed; the last is 0."""
    n_features = len(bias_F)
    # A sample of a small problem would cost too much of the total time.
    if len(x_PD) * n_features > 8 * SAMPLE_FEATURES * SAMPLE_POSITIONS:
        run = min(SAMPLE_RUN_FEATURES, n_features)
        # From all parts of the dictionary: the first features of a Matryoshka are active more often.
        first = torch.linspace(0, n_features - run, SAMPLE_FEATURES // SAMPLE_RUN_FEATURES).long()
        feature_f = (first[:, None] + torch.arange(run)).flatten()
        x_pD = x_PD[:: -(-len(x_PD) // SAMPLE_POSITIONS)]
        z_n = x_pD @ w_enc_DF[:, feature_f.to(w_enc_DF.device)].to(x_PD) + bias_F[feature_f.to(bias_F.device)]
        expected = batch_k * z_n.numel() / n_features
        rank = int(1.2 * expected + 3 * expected**0.5) + 1
        while rank < z_n.numel() and (bound := z_n.flatten().topk(rank).values[-1].item()) > 0:
            yield bound
            rank *= 4
    yield 0.0


def _kept(found: ActiveEntries, keep_n: Tensor) -> ActiveEntries:
    """Return the entries in a mask."""
    kept = keep_n.nonzero()[:, 0]
    n_before_P = torch.searchsorted(kept, found.count_p.cumsum(0))
    count_P = torch.diff(n_before_P, prepend=n_before_P.new_zeros(1))
    return ActiveEntries(count_P, found.feature_n[kept], found.z_n[kept])


def _kth_smallest(z_n: Tensor, k: int) -> Tensor:
    """Return the entry at index k of the ascending order; on the CPU numpy finds it ten times faster than torch."""
    if z_n.device.type != "cpu":
        return z_n.kthvalue(k + 1).values
    exact = z_n if z_n.dtype == torch.float64 else z_n.float()
    return torch.from_numpy(np.partition(exact.numpy(), k)[k : k + 1]).to(z_n)[0]


def _largest_of_groups(product_pf: Tensor, bias_f: Tensor) -> Tensor:
    """Return the largest entry of each whole group of a tile's features."""
    whole = slice(0, len(bias_f) // GROUP_FEATURES * GROUP_FEATURES)
    return (product_pf[:, whole] + bias_f[whole]).unflatten(1, (-1, GROUP_FEATURES)).amax(2)


def _positions(count_P: Tensor) -> Tensor:
    """Return the position of each entry."""
    return torch.arange(len(count_P), device=count_P.device).repeat_interleave(count_P)


def _exclusive_cumsum(count: Tensor) -> Tensor:
    """Return for each entry the sum of all earlier ones."""
    return count.cumsum(0) - count


def _just_below(value: Tensor) -> Tensor:
    return torch.nextafter(value, torch.full_like(value, -torch.inf))

"""Nearest features by the cosine of their encoders and of their decoders.

The decoder of a cross-layer transcoder is the vectors of all written layers side by side: features are near if they write
alike at the same layers.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .source import FeatureSource

NEIGHBOURS = 5
BLOCK_FEATURES = 1024
TINY = 1e-30  # for vectors of length 0, whose cosines are 0


class Neighbours(NamedTuple):
    """The k nearest features of n, largest cosine first: layers, features and cosines (n, k)."""

    layer_nk: Tensor
    feature_nk: Tensor
    cosine_nk: Tensor


class Vectors:
    """Vectors of all features that are compared, of the layers that are compared with one another, each of length 1.

    `sides[f]` maps a written layer, or 0 for encoders, to the rows (F, D) of the layer f.
    """

    def __init__(self, sides: dict[int, dict[int, Tensor]]):
        self.sides = {}
        for layer, rows in sides.items():
            length_F = torch.stack([vectors.norm(dim=1) for vectors in rows.values()]).norm(dim=0).clamp(min=TINY)
            self.sides[layer] = {written: vectors / length_F[:, None] for written, vectors in rows.items()}

    def nearest(self, layer: int, features: slice) -> Neighbours:
        """Return the nearest features of some features of a layer, themselves left out."""
        starts = range(features.start, features.stop, BLOCK_FEATURES)
        blocks = [self._nearest(layer, slice(start, min(start + BLOCK_FEATURES, features.stop))) for start in starts]
        return Neighbours(*(torch.cat(column) for column in zip(*blocks, strict=True)))

    def _nearest(self, layer: int, rows: slice) -> Neighbours:
        found: list[Neighbours] = []
        for other, vectors in self.sides.items():
            cosine_nF = self._cosines(layer, rows, vectors)
            if other == layer:
                cosine_nF.diagonal(rows.start).fill_(-torch.inf)
            best = cosine_nF.topk(min(NEIGHBOURS, cosine_nF.shape[1]))
            found.append(Neighbours(torch.full_like(best.indices, other), best.indices, best.values))
        joined = Neighbours(*(torch.cat(column, 1) for column in zip(*found, strict=True)))
        order = joined.cosine_nk.sort(dim=1, descending=True, stable=True).indices[:, :NEIGHBOURS]
        return Neighbours(*(column.gather(1, order) for column in joined))

    def _cosines(self, layer: int, rows: slice, others: dict[int, Tensor]) -> Tensor:
        """Return the cosines (n, F) of some features of a layer with those of another layer."""
        mine = {written: vectors[rows] for written, vectors in self.sides[layer].items()}
        shared = [written for written in mine if written in others]
        if not shared:
            n_others = len(next(iter(others.values())))
            return next(iter(mine.values())).new_zeros(len(next(iter(mine.values()))), n_others)
        return sum((mine[written] @ others[written].T for written in shared), torch.zeros(()))


def encoder_vectors(source: FeatureSource, layers: tuple[int, ...]) -> Vectors:
    """Return the encoders of some layers."""
    return Vectors({layer: {0: source.encoder_rows(layer, features)} for layer, features in _all(source, layers)})


def decoder_vectors(source: FeatureSource, layers: tuple[int, ...]) -> Vectors:
    """Return the decoders of some layers."""
    sides = {}
    for layer, features in _all(source, layers):
        rows_FJD = source.decoder_rows(layer, features)
        sides[layer] = dict(zip(source.written_layers(layer), rows_FJD.unbind(1), strict=True))
    return Vectors(sides)


def _all(source: FeatureSource, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
    """Yield some layers, each with the numbers of all its features."""
    for layer, width in zip(source.layers, source.widths, strict=True):
        if layer in layers:
            yield layer, torch.arange(width)

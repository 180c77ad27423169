"""A label of a feature, and the labels of a store as a mapping that reads a layer when it is first asked for one."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

AUTOMATIC_SOURCES = ("examples", "outputs")
"""Sources of automatic labels: what a feature is active on, and what it promotes."""
SOURCES = ("user", "file", "neuronpedia", *AUTOMATIC_SOURCES)
"""Sources of labels, as in the column `label_source` of a graph; an earlier one wins, and automatic ones are equal."""
LABEL_COLUMNS = ("label", "label_source", "label_score", "label_null")


class FeatureLabel(NamedTuple):
    """The label of a feature."""

    text: str
    source: str
    """One of `SOURCES`."""
    score: float | None = None
    """How well an automatic label separates held-out examples from random text: the area under the ROC curve, 0 to 1."""
    null: float | None = None
    """95th percentile of the scores of other features' labels on the same examples; a label that is kept beats it."""


class StoreLabels(Mapping[tuple[int, int], FeatureLabel]):
    """Labels by (layer, feature). Features without a label are not in it.

    Looking up a label reads the labels of one layer, once; iterating reads all layers.
    """

    def __init__(self, widths: dict[int, int], read: Callable[[int], pa.Table]):
        self._widths, self._read = widths, read
        self._layers: dict[int, pa.Table] = {}

    def _layer(self, layer: int) -> pa.Table:
        if layer not in self._layers:
            self._layers[layer] = self._read(layer)
        return self._layers[layer]

    def __getitem__(self, key: tuple[int, int]) -> FeatureLabel:
        layer, feature = key
        if not 0 <= feature < self._widths.get(layer, 0):
            raise KeyError(key)
        table = self._layer(layer)
        values = [table[name][feature].as_py() for name in LABEL_COLUMNS]
        if not values[0]:
            raise KeyError(key)
        return FeatureLabel(*values)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for layer in self._widths:
            texts = self._layer(layer)["label"].to_pylist()
            yield from ((layer, feature) for feature, text in enumerate(texts) if text)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<labels of features in layers {', '.join(map(str, self._widths))}>"

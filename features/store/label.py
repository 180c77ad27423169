"""A label of a feature, and the labels of a store as a mapping that reads a layer when it is first asked for one."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from cotrace.graphs.labels import Label, LabelSource

AUTOMATIC_SOURCES: tuple[LabelSource, ...] = ("examples", "outputs")
"""Sources of automatic labels: what a feature is active on, and what it promotes."""
LABEL_COLUMNS = ("label", "label_source", "label_score", "label_null")


class FeatureLabel(NamedTuple):
    """The label of a feature, with its score where it is automatic."""

    text: str
    source: LabelSource
    score: float | None = None
    """How well an automatic label separates held-out examples from random text: the area under the ROC curve, 0 to 1."""
    null: float | None = None
    """95th percentile of the scores of other features' labels on the same examples; a label that is kept beats it."""


class StoreLabels(Mapping[tuple[int, int], Label]):
    """Labels by (layer, feature). Features without a label are not in it.

    Looking up a label reads the labels of one layer, once; iterating reads all layers.
    """

    def __init__(self, widths: dict[int, int], read: Callable[[int], pa.Table]):
        self._widths, self._read = widths, read
        self._layers: dict[int, tuple[pa.ChunkedArray, pa.ChunkedArray]] = {}

    def _layer(self, layer: int) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        if layer not in self._layers:
            table = self._read(layer)
            self._layers[layer] = table["label"].combine_chunks(), table["label_source"].combine_chunks()
        return self._layers[layer]

    def __getitem__(self, key: tuple[int, int]) -> Label:
        layer, feature = key
        if not 0 <= feature < self._widths.get(layer, 0):
            raise KeyError(key)
        text, source = (column[feature].as_py() for column in self._layer(layer))
        if not text:
            raise KeyError(key)
        return Label(text, source)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for layer in self._widths:
            texts = self._layer(layer)[0].to_pylist()
            yield from ((layer, feature) for feature, text in enumerate(texts) if text)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<labels of features in layers {', '.join(map(str, self._widths))}>"

    def forget(self) -> None:
        """Read labels again when they are next asked for, because the files have changed."""
        self._layers.clear()

"""`FeatureStore`: what features respond to, what they promote, and their labels, read from a folder."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError, FileError
from cotrace.graphs.labels import Label, LabelSource
from cotrace.graphs.nodes import Feature

from .card import FeatureCard
from .card_reading import read_cards
from .diff import StoreDiff, diff_stores
from .files import CURE, read_info, read_part
from .label import StoreLabels
from .label_writing import add_labels
from .schema import EXAMPLES, FEATURES, SEQUENCES, SEQUENCES_FILE, TOKENS, TOKENS_FILE, file_of
from .search import SearchHit, search
from .sequences import TokenSequences
from .tokens import TokenTexts

FeatureKey = str | Feature | tuple[int, int]
"""A feature: `"L17#264"`, `Feature(17, 264)` or `(17, 264)`; a position is ignored."""


class FeatureStore:
    """A feature store, open for reading. `FeatureStore.open(path)` makes one.

    `store["L17#264"]` is the card of a feature, `store.labels[17, 264]` its label. Files are read when they are first
    needed, one layer at a time, and of a card only the rows of its feature.

    Attributes:
        path: the folder.
        info: metadata of the build: model, dictionary, data, tokens, settings, versions.
        widths: number of features by layer.
        labels: labels by (layer, feature).
    """

    def __init__(self, path: Path, info: dict[str, Any]):
        self.path, self.info = path, MappingProxyType(info)
        self.widths: dict[int, int] = dict(zip(info["layers"], info["widths"], strict=True))
        self.labels = StoreLabels(self.widths, lambda layer: self.features(layer, ("label", "label_source")))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "FeatureStore":
        """Open a feature store. Raises FileError if the folder is not one, or is incomplete or damaged.

        The files of a layer are checked when they are read.
        """
        folder = Path(path)
        store = cls(folder, read_info(folder))
        parts = [file_of(part, layer) for layer in store.widths for part in ("features", "examples")]
        missing = [name for name in (*parts, SEQUENCES_FILE, TOKENS_FILE) if not (folder / name).is_file()]
        if missing:
            raise FileError(f"{folder} lacks {', '.join(missing[:3])}, so the feature store is incomplete; {CURE}")
        return store

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose features the store has."""
        return tuple(self.widths)

    @property
    def name(self) -> str:
        """Name of the transcoders, SAE or crosscoder that the features belong to."""
        return str(self.info["dictionary"]["name"])

    @cached_property
    def tokens(self) -> TokenTexts:
        """Texts of token ids."""
        return TokenTexts(read_part(self.path / TOKENS_FILE, TOKENS))

    @cached_property
    def sequences(self) -> TokenSequences:
        """Token sequences that examples are in."""
        return TokenSequences(read_part(self.path / SEQUENCES_FILE, SEQUENCES), **self.info["context"])

    def features(self, layer: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table of a layer's features, one row each, in their order; with `columns` only some columns.

        Raises ArgumentError for a layer that the store does not have, FileError for a damaged file.
        """
        self._check_layer(layer)
        path = self.path / file_of("features", layer)
        wanted = None if columns is None else list(dict.fromkeys(("feature", *columns)))
        table = read_part(path, FEATURES, wanted)
        if not np.array_equal(table["feature"].to_numpy(), np.arange(self.widths[layer])):
            raise FileError(f"{path} does not have one row for each of {self.widths[layer]} features; {CURE}")
        return table if columns is None else table.select(list(columns))

    def examples(self, layer: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table of the examples of a layer's features, sorted by feature, kind and rank.

        Raises ArgumentError for a layer that the store does not have, FileError for a damaged file.
        """
        self._check_layer(layer)
        return read_part(self.path / file_of("examples", layer), EXAMPLES, columns)

    def parse(self, key: FeatureKey) -> tuple[int, int]:
        """Return the layer and the number of a feature.

        Raises ArgumentError for anything that is not a feature of this store.
        """
        layer, feature = _layer_and_feature(key)
        self._check_layer(layer)
        if not 0 <= feature < self.widths[layer]:
            raise ArgumentError(
                f"L{layer}#{feature} does not exist: layer {layer} of {self.name} has {self.widths[layer]} features, "
                f"#0 … #{self.widths[layer] - 1}"
            )
        return layer, feature

    def __getitem__(self, key: FeatureKey) -> FeatureCard:
        """Return the card of a feature. Raises ArgumentError as `parse`, FileError for damaged files."""
        (card,) = self.cards([key])
        return card

    def cards(self, keys: Iterable[FeatureKey]) -> list[FeatureCard]:
        """Return the cards of several features, which is faster than one at a time. Raises as `store[key]`."""
        parsed = [self.parse(key) for key in keys]
        found = read_cards(self, parsed)
        return [found[key] for key in parsed]

    def search(self, word: str, *, layer: int | None = None, n: int = 20) -> list[SearchHit]:
        """Return at most n features with a word in their label, among the tokens they are active on, or that they promote.

        Raises ArgumentError for an empty word, and for a layer that the store does not have.
        """
        return search(self, word, layer=layer, n=n)

    def add_labels(self, labels: Mapping[Any, str | Label], source: LabelSource = "user") -> int:
        """Write labels to the files of the store; return how many features got one.

        `labels` are texts, or `Label`s with a source of their own, by feature. The label of a stronger source stays: user, file,
        neuronpedia, then automatic ones. An empty text removes the label of a feature, if its source is not stronger.

        Raises ArgumentError for a feature that the store does not have, and for an invalid source or text; FileError where
        the files cannot be written.
        """
        changed = add_labels(self, {self.parse(key): label for key, label in labels.items()}, source)
        self.labels.forget()
        return changed

    def diff(self, other: "FeatureStore", match: str | None = None) -> StoreDiff:
        """Return the difference between this store and another one, as `diff_stores` does.

        `match` is "number" (same layer and number), "profile" (most similar), or None: by number if both have the same layers
        and widths. Raises ArgumentError for stores that cannot be matched in this way.
        """
        return diff_stores(self, other, match)

    def summary(self) -> dict[str, Any]:
        """Return the metadata of the store; `layers` has counts of each layer: features, active, labelled, out_of_format."""
        return dict(self.info) | {"layers": [self._layer_summary(layer) for layer in self.widths]}

    def _layer_summary(self, layer: int) -> dict[str, int]:
        table = self.features(layer, ("count", "markup_count", "label"))
        text, markup = (table[name].to_numpy() for name in ("count", "markup_count"))
        return {
            "layer": layer,
            "features": self.widths[layer],
            "active": int(((text > 0) | (markup > 0)).sum()),
            "labelled": sum(map(bool, table["label"].to_pylist())),
            "out_of_format": int((markup > text).sum()),
        }

    def _check_layer(self, layer: int) -> None:
        if layer not in self.widths:
            listed = ", ".join(map(str, self.widths))
            raise ArgumentError(f"the feature store of {self.name} has no layer {layer}; it has {listed}")

    def __contains__(self, key: object) -> bool:
        try:
            self.parse(key)  # type: ignore[arg-type]
        except ArgumentError:
            return False
        return True

    def __iter__(self) -> Iterator[Feature]:
        for layer, width in self.widths.items():
            yield from (Feature(layer, feature) for feature in range(width))

    def __len__(self) -> int:
        return sum(self.widths.values())

    def __repr__(self) -> str:
        return (
            f"<cotrace.FeatureStore {self.name} of {self.info['model']['name']}: {len(self):,} features in "
            f"{len(self.widths)} layers, {self.info['tokens']:,} tokens>"
        )


def _layer_and_feature(key: Any) -> tuple[int, int]:
    if isinstance(key, str):
        key = Feature.parse(key)
    if isinstance(key, Feature):
        return key.layer, key.feature
    if isinstance(key, tuple | list) and len(key) == 2:
        return as_index(key[0], "a layer"), as_index(key[1], "a feature")
    raise ArgumentError(f"{key!r} is not a feature; expected one such as 'L17#264' or (17, 264)")

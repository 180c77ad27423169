"""What cards, search and differences need of an open store: the interface of `FeatureStore` to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from .label import StoreLabels
from .sequences import TokenSequences
from .tokens import TokenTexts


class StoreParts(Protocol):
    """An open store; see `FeatureStore`."""

    path: Path
    labels: StoreLabels
    widths: dict[int, int]

    @property
    def info(self) -> Mapping[str, Any]:
        """Metadata of the store."""
        ...

    @property
    def name(self) -> str:
        """Name of the dictionary."""
        ...

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose features the store has."""
        ...

    @property
    def tokens(self) -> TokenTexts:
        """Texts of tokens."""
        ...

    @property
    def sequences(self) -> TokenSequences:
        """Sequences that examples are in."""
        ...

    def features(self, layer: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table of a layer's features."""
        ...

"""Nodes and edges in the order of a file of another tool, as `assemble` takes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..order import NodeKind
from ..schema import INTEGERS, NULLABLE_VALUES

NONE = -1
"""Stands for a missing layer, position, feature or token."""
LISTED = 5
LARGEST_INTEGER = 2**31 - 1
TEXTS = ("text", "label", "label_source")


@dataclass
class ForeignNodes:
    """Nodes in the order of a file: a value for each in every list, and the name that the file has for it."""

    names: list[str] = field(default_factory=list)
    kinds: list[NodeKind] = field(default_factory=list)
    integers: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in INTEGERS})
    """`NONE` where there is none."""
    texts: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in TEXTS})
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (*NULLABLE_VALUES, "dropped")})
    """NaN where there is none."""

    def add(self, name: str, kind: NodeKind, **entries: Any) -> None:
        """Add a node; what is not given is missing."""
        self.names.append(name)
        self.kinds.append(kind)
        for group, missing in ((self.integers, NONE), (self.texts, ""), (self.values, np.nan)):
            for column, entry in group.items():
                entry.append(entries.get(column, missing))

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class ForeignEdges:
    """Edges between nodes by their place in a file: three arrays (E,), int64, int64 and float64."""

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def listed(names: Sequence[str]) -> str:
    """Return the first names of several, and how many more there are."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(map(repr, names[:LISTED])) + more

"""A difference summed over nodes with the same label, group, layer, position or kind."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from .measures import weighted_jaccard
from .tables import STATUS_NAMES, SideBySide

GroupBy = Literal["label", "group", "layer", "position", "kind"]
GROUPINGS: tuple[GroupBy, ...] = get_args(GroupBy)


def counts_and_measures(rows: SideBySide) -> dict[str, Any]:
    """Return the numbers of some nodes or edges by status, the influence of both graphs, and how alike they are."""
    counts = np.bincount(rows.status, minlength=len(STATUS_NAMES)).tolist()
    a, b = float(rows.influence_a.sum()), float(rows.influence_b.sum())
    return {
        **dict(zip(STATUS_NAMES, counts, strict=True)),
        "influence_a": a,
        "influence_b": b,
        "change": b - a,
        "jaccard": weighted_jaccard(rows.influence_a, rows.influence_b),
    }


def grouped_table(rows: SideBySide, keys: Sequence[Sequence[Any]], names: Sequence[str]) -> pa.Table:
    """Return a table with a row for each key, the largest change first.

    Args:
        rows: N nodes.
        keys: of every node, the keys it counts for, each a tuple with a value for each of `names`.
        names: of the first columns of the table.
    """
    members: dict[Any, list[int]] = {}
    for number, of_node in enumerate(keys):
        for key in of_node:
            members.setdefault(key, []).append(number)
    found = [
        {**dict(zip(names, key, strict=True)), **counts_and_measures(rows.take(np.array(numbers)))}
        for key, numbers in members.items()
    ]
    found.sort(key=lambda row: -abs(row["change"]))
    if not found:
        return pa.table({name: pa.nulls(0) for name in [*names, *counts_and_measures(rows)]})
    return pa.Table.from_pylist(found)

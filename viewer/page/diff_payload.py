"""What the page shows of the difference of two graphs, as JSON can hold it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cotrace.common.visible_text import printable
from cotrace.graphs.diff.diff import GraphDiff
from cotrace.graphs.diff.matching import UNIT_KINDS
from cotrace.graphs.diff.tables import STATUS_NAMES
from cotrace.graphs.drawing.diff_scene import unit_places

MAX_EDGES = 20_000  # those with the largest influence in either graph
DIGITS = 6


def diff_entries(diff: GraphDiff) -> dict[str, Any]:
    """Return what corresponds in two graphs, and how it differs.

    Units are nodes of one graph or of both, as the rows of `GraphDiff.nodes`. The keys are:

    - `units`: columns {kind, status, layer, column, name, label, influence_a, influence_b, node_a, node_b}; kind and status are
      indices into `kinds` and `statuses`; layer and column say where a unit is drawn; nodes are the numbers of its most
      influential one, -1 where a graph lacks it.
    - `unit_of`: the unit of every node of A, and of B.
    - `columns`: the position in A and in B of every column, None where a prompt has none.
    - `edges`: columns {source, target, status, influence_a, influence_b, weight_a, weight_b} of the edges between units with the
      largest influence; `n_edges` is the number of all.
    - `similarity`: rows of `GraphDiff.similarity`; `match`, `min_change`, `cautions`: its attributes.
    """
    subject = diff.subject
    nodes, edges, matching = subject.nodes, subject.edges, subject.matching
    layers, columns = unit_places(subject)
    strongest = np.sort(np.argsort(-edges.larger, kind="stable")[:MAX_EDGES])
    numbers = ("source", "target", "status", "influence_a", "influence_b", "weight_a", "weight_b")
    return {
        "kinds": UNIT_KINDS,
        "statuses": STATUS_NAMES,
        "units": {
            "kind": _values(matching.kind),
            "layer": _values(layers),
            "column": _values(columns),
            "name": list(map(printable, diff.names.names())),
            "label": list(map(printable, diff.names.labels())),
            **{
                name: _values(getattr(nodes, name))
                for name in ("status", "influence_a", "influence_b", "node_a", "node_b")
            },
        },
        "unit_of": list(map(_values, matching.unit_of)),
        "columns": [[None if at is None else int(at) for at in pair] for pair in diff.alignment.positions],
        "edges": {name: _values(getattr(edges, name)[strongest]) for name in numbers},
        "n_edges": len(edges.source),
        "similarity": diff.similarity.to_pylist(),
        "match": diff.match,
        "min_change": diff.min_change,
        "cautions": diff.cautions,
    }


def _values(values: np.ndarray) -> Sequence[float]:
    """Return numbers with as many digits as a reader needs."""
    return [float(f"{value:.{DIGITS}g}") for value in values] if values.dtype.kind == "f" else values.tolist()

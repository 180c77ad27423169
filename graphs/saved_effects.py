"""Effects of nodes that a trace saved in the graph: total effects, and the changes expected when nodes are ablated.

Unlike the effects in `graphs/effects.py` they need no edges, so that they are those of the whole prompt also in a pruned
graph and in one without some rows.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from cotrace.common.errors import ArgumentError

from .data import GraphData

SavedEffect = Literal["expected", "total"]
COLUMN_OF: dict[SavedEffect, str] = {"expected": "expected_effect", "total": "effect"}


def has_effects(graph: GraphData) -> bool:
    """Return whether a graph has the columns of effects: it was traced with them."""
    return COLUMN_OF["expected"] in graph.nodes.column_names


def saved_effects(graph: GraphData, targets: Sequence[dict[str, Any]], kind: SavedEffect = "expected") -> np.ndarray:
    """Return the effect of every node on T targets, (T, M), NaN for targets at the unembedding.

    Args:
        graph: a graph with effects.
        targets: entries of `graph.info["targets"]`.
        kind: "expected" for the change of the target expected when the node is ablated, "total" for its contribution.

    Raises:
        ArgumentError: the graph has no effects, or an unknown kind.
    """
    if kind not in get_args(SavedEffect):
        raise ArgumentError(f"kind={kind!r} is not one of {', '.join(get_args(SavedEffect))}")
    if not has_effects(graph):
        raise ArgumentError("the graph has no effects; trace the prompt again with effects")
    column, n_nodes = graph.nodes[COLUMN_OF[kind]].chunk(0), graph.order.n_editable
    number_of = {each["node"]: k for k, each in enumerate(graph.info["targets"])}
    offsets = column.offsets.to_numpy()
    values_MK = column.values.to_numpy()[offsets[0] : offsets[n_nodes]].reshape(n_nodes, len(number_of))
    effect_TM = np.full((len(targets), graph.order.n_nodes), np.nan, values_MK.dtype)
    effect_TM[:, :n_nodes] = values_MK.T[[number_of[each["node"]] for each in targets]]
    return effect_TM


def expected_sizes(graph: GraphData, targets: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """Return the absolute expected effect of every node, averaged over targets by their weights, (M,) float64.

    It is zero for targets at the unembedding. None for a graph without effects.
    """
    if not has_effects(graph):
        return None
    weights = np.array([each["weight"] for each in targets], np.float64)
    size_TM = np.abs(np.nan_to_num(saved_effects(graph, targets)).astype(np.float64))
    return (weights / (weights.sum() or 1.0)) @ size_TM

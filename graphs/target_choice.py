"""The targets of a graph that an answer is about: one that the user names, one that dominates, or all."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import quoted

from .data import GraphData
from .influence import weights_of_targets

DOMINANT_WEIGHT = 0.5  # a target above this weight weighs more than all others together
ALL_TARGETS = "all"


def choose_targets(graph: GraphData, target: int | str | None = None) -> list[dict[str, Any]]:
    """Return the targets that an answer is about, heaviest first: entries of `graph.info["targets"]`.

    Args:
        graph: the graph.
        target: the text, label or node number of one target, or "all". By default the one target that weighs more than all
            others together; all of them if there is none.

    Raises:
        ArgumentError: the graph has no such target, or several of that name.
    """
    heaviest = sorted(graph.info["targets"], key=lambda each: -each["weight"])
    if target == ALL_TARGETS:
        return heaviest
    if target is None:
        return heaviest[:1] if heaviest and heaviest[0]["weight"] > DOMINANT_WEIGHT else heaviest
    node = find_target(_with_labels(graph), str(target))
    return [each for each in heaviest if each["node"] == node]


def _with_labels(graph: GraphData) -> list[dict[str, Any]]:
    """Return the targets; those that are features and have a label, with the label in place of their name."""
    label, n_features = graph.column("label"), graph.order.n_features
    return [
        {**target, "label": label[target["node"]] or target["label"]} if target["node"] < n_features else target
        for target in graph.info["targets"]
    ]


def find_target(targets: list[dict[str, Any]], name: str) -> int:
    """Return the node number of a target given by text or number.

    Raises ArgumentError, which lists the targets, for an unknown one and for a text that several have.
    """
    for texts in (lambda t: (str(t["node"]),), lambda t: (t["label"],), lambda t: (t["label"].strip(),)):
        matches = [target["node"] for target in targets if name in texts(target)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            break
    names = ", ".join(f"{quoted(target['label'])} ({target['node']})" for target in targets)
    if matches:
        raise ArgumentError(f"several targets are {quoted(name)}; give the number of one: {names}")
    raise ArgumentError(f"the graph has no target {quoted(name)}; its targets are {names}")


def chosen_weights(graph: GraphData, targets: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the weight of every node as one of some targets, (M,) float64, scaled so that they sum to 1."""
    weights = weights_of_targets(list(targets), graph.order.n_nodes)
    return weights / (weights.sum() or 1.0)

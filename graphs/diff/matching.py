"""Which nodes of two graphs correspond."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from cotrace.graphs.annotations import groups_inside
from cotrace.graphs.data import GraphData
from cotrace.graphs.order import KINDS, NodeKind

from .align import Alignment, token_key

Match = Literal["feature", "label", "group", "site"]
MATCH_CHOICES: tuple[Match, ...] = get_args(Match)
UNIT_KINDS = (*KINDS, "label", "site", "group")
FEATURE, ERROR, TOKEN, LOGIT = (int(kind) for kind in NodeKind)
LABEL, SITE, GROUP = range(len(KINDS), len(UNIT_KINDS))

Graphs = tuple[GraphData, GraphData]
Targets = tuple[list[dict[str, Any]], list[dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class Matching:
    """U units, each a node of one graph or of both; or, of labels, sites and groups, several nodes.

    Units are sorted by kind, layer, column and number.
    """

    kind: np.ndarray
    """Index into `UNIT_KINDS`, (U,)."""
    layer: np.ndarray
    """(U,), -1 where a unit has none."""
    column: np.ndarray
    """Column of the aligned prompts, (U,), -1 where a unit has none."""
    unit_of: tuple[np.ndarray, np.ndarray]
    """The unit of every node of A, (M_A,), and of B, (M_B,)."""

    @property
    def n_units(self) -> int:
        """Number of units U."""
        return len(self.kind)


def same_dictionary(a: GraphData, b: GraphData) -> bool:
    """Return whether features of two graphs with equal numbers are the same: they come from the same transcoders.

    Neurons are those of models with equally many layers, also after fine-tuning.
    """
    ours, theirs = a.info["transcoders"], b.info["transcoders"]
    if ours.get("kind") == theirs.get("kind") == "neurons":
        return a.info["model"]["n_layers"] == b.info["model"]["n_layers"]
    hashes = ours.get("sha256"), theirs.get("sha256")
    return hashes[0] == hashes[1] if all(hashes) else ours["name"] == theirs["name"]


def default_match(a: GraphData, b: GraphData) -> Match:
    """Return how features of two graphs are matched: by number, or by label if their transcoders differ."""
    return "feature" if same_dictionary(a, b) else "label"


def match_nodes(graphs: Graphs, alignment: Alignment, match: Match, targets: Targets, paired: bool = False) -> Matching:
    """Return which nodes of two graphs correspond.

    Error nodes correspond at the same layer and column, tokens with equal text at the same column, targets with equal
    labels; where a graph has targets at several positions, at the same column. Features follow `match`.

    Args:
        graphs: A and B.
        alignment: of their prompts.
        match: "feature" for equal layers, numbers and columns; "label" for equal labels at the same column, and features
            without a label as "feature" has them if both graphs have the same transcoders, else not at all; "group" for nodes of
            groups with the same name, and all others as `default_match` has them; "site" for all features of a layer and
            column together.
        targets: the targets of each graph that are compared.
        paired: the one target of A and the one of B correspond, whatever their labels.
    """
    keys = _Keys(graphs, alignment)
    parts = [keys.of_nodes(side, default_match(*graphs) if match == "group" else match) for side in range(2)]
    by_position = any(len({*graph.column("position", -1)[graph.order.logits].tolist()}) > 1 for graph in graphs)
    for side, part in enumerate(parts):
        if not by_position:
            part.column[graphs[side].order.logits] = -1
        if paired:
            part.set(targets[side][0]["node"], LOGIT, -1, -1, keys.number("paired"))
        if match == "group":
            keys.set_groups(side, part)
    kind_M, layer_M, column_M, number_M = (np.concatenate(both) for both in zip(*parts, strict=True))
    unit_M, first = _numbered(kind_M, layer_M, column_M, number_M)
    n_a = graphs[0].order.n_nodes
    return Matching(kind_M[first], layer_M[first], column_M[first], (unit_M[:n_a], unit_M[n_a:]))


def _numbered(*columns_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of every node's key in sorted order, (M,), and where each key occurs first, (U,)."""
    packed = np.zeros(len(columns_M[0]), np.int64)
    for column in columns_M:
        low = int(column.min(initial=0))
        packed = packed * (int(column.max(initial=0)) - low + 1) + (column - low)
    _, first, number = np.unique(packed, return_index=True, return_inverse=True)
    return number.reshape(-1), first


class _NodeKeys(NamedTuple):
    """The key of every node of a graph, each (M,) int64; nodes with equal keys correspond."""

    kind: np.ndarray
    layer: np.ndarray
    column: np.ndarray
    number: np.ndarray

    def set(self, nodes: Any, *key: int) -> None:
        """Set the key of some nodes."""
        for values, value in zip(self, key, strict=True):
            values[nodes] = value


class _Keys:
    """Keys of nodes, with numbers for texts that are the same in both graphs."""

    def __init__(self, graphs: Graphs, alignment: Alignment):
        self.graphs, self.alignment = graphs, alignment
        self._numbers: dict[Hashable, int] = {}

    def number(self, *text: Hashable) -> int:
        """Return a number for a token, target, label or group."""
        return self._numbers.setdefault(text, len(self._numbers))

    def of_nodes(self, side: int, match: Match) -> _NodeKeys:
        """Return the keys of the nodes of a graph."""
        graph, columns = self.graphs[side], self.alignment.columns(side)
        order = graph.order
        layer, position, number = (graph.column(name, -1).astype(np.int64) for name in ("layer", "position", "feature"))
        column = np.where(position >= 0, columns[position], -1)
        keys = _NodeKeys(order.kind_codes().astype(np.int64), layer, column, number)
        layer[order.tokens] = layer[order.logits] = -1
        number[order.tokens] = [self.number("token", *token_key(graph, each)) for each in position[order.tokens]]
        for target in graph.info["targets"]:
            if target["node"] >= order.logits.start:
                number[target["node"]] = self.number("target", target["kind"], target["label"])
        if match == "site":
            keys.kind[order.features], number[order.features] = SITE, -1
        elif match == "label":
            self._set_labels(side, keys)
        return keys

    def _set_labels(self, side: int, keys: _NodeKeys) -> None:
        """Let features with equal labels at one column correspond, and no others if the transcoders differ."""
        features = self.graphs[side].order.features
        if not same_dictionary(*self.graphs):
            keys.number[features] = 2 * keys.number[features] + side
        for node, label in enumerate(labels_of(self.graphs[side])[features]):
            if label:
                keys.set(node, LABEL, -1, int(keys.column[node]), self.number("label", label))

    def set_groups(self, side: int, keys: _NodeKeys) -> None:
        """Give the nodes of each group one key; a node in several groups counts for the first."""
        free = np.ones(len(keys.kind), bool)
        for name, nodes in groups_inside(self.graphs[side]).items():
            members = np.array(nodes)[free[nodes]]
            free[members] = False
            keys.set(members, GROUP, -1, -1, self.number("group", name))


def labels_of(graph: GraphData) -> list[str]:
    """Return the label of every node, (M,), empty where it has none."""
    return graph.nodes["label"].to_pylist()

"""The score of an attention head from a query to a key, divided among pairs of nodes. Imports no torch.

A score, the logarithm of an attention probability up to a constant, is the dot product of a query and a key. With norm
scales frozen each of the two is a sum over nodes, so that the score is a sum over pairs of nodes: (what a node adds to
the query) · (what a node adds to the key). The matrix of all pairs is never built.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

from .drawing.attention_plot import AttentionPanels, draw_attention
from .nodes import describe_node, resolve_position
from .top_pairs import top_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Side = Literal["query", "key"]
Group = Literal["kind", "layer", "position"]
SIDES: tuple[Side, ...] = ("query", "key")
GROUPS: tuple[Group, ...] = ("kind", "layer", "position")
NODE_COLUMNS = ("kind", "layer", "position", "feature", "text")
PLOTTED_KEYS, PLOTTED_NODES = 12, 10


class ScoreSide:
    """One side of a score: the nodes that add up to the query, or to the key.

    Attributes:
        nodes: a table of M rows: kind ("feature", "error", "token", and "bias" for all constants together), layer,
            position, feature and text; null where a kind has none.
        vector_Md: what each node adds to the query, or to the key, after its norm and rotation. The attention's scale is
            contained in that of queries.
    """

    def __init__(self, nodes: pa.Table, vector_Md: np.ndarray):
        self.nodes, self.vector_Md = nodes, np.ascontiguousarray(vector_Md)

    def __repr__(self) -> str:
        return f"<ScoreSide: {len(self.vector_Md):,} nodes>"

    @cached_property
    def total_d(self) -> np.ndarray:
        """The sum over all nodes: the query or key itself, up to rounding."""
        return self.vector_Md.sum(0)

    def names(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return the short names of nodes, given by row."""
        columns = self.nodes.select(NODE_COLUMNS).take(pa.array(rows, pa.int64()))
        return [describe_node(**row) for row in columns.to_pylist()]

    def grouped(self, by: Group) -> tuple[list[Any], np.ndarray]:
        """Return the values of a column (G), None for nodes without one, and the sums of vectors (G, d)."""
        codes = self.nodes[by].combine_chunks().dictionary_encode("encode")
        values, code_M = codes.dictionary.to_pylist(), codes.indices.to_numpy()
        total_Gd = np.zeros((len(values), self.vector_Md.shape[1]), self.vector_Md.dtype)
        order = np.argsort(code_M, kind="stable")
        starts = np.searchsorted(code_M[order], np.arange(len(values)))
        total_Gd[:] = np.add.reduceat(self.vector_Md[order], starts)
        return values, total_Gd


class AttentionScore:
    """Why a head attends from one position to another: its score before the softmax, as a sum over pairs of nodes.

    Norm scales are frozen, those of queries and keys too. The pairs then add up to the score, and so do the nodes of
    either side; the score is bilinear, so that a node's part is what the score loses without it on that side.

    Attributes:
        layer, head: the head.
        query, key: the positions.
        query_side, key_side: the nodes that add up to the query and to the key.
        info: model, transcoders, prompt, tokens, settings.
    """

    def __init__(
        self,
        place: tuple[int, int, int, int],
        score_K: np.ndarray,
        key_Kd: np.ndarray,
        query_side: ScoreSide,
        key_side: ScoreSide,
        info: dict[str, Any],
    ):
        """Take layer, head, query and key, and the scores and keys of the K positions that the query sees, itself last."""
        self.layer, self.head, self.query, self.key = place
        self.query_side, self.key_side, self.info = query_side, key_side, info
        self._score_K, self._key_Kd = score_K.astype(np.float64), key_Kd

    def __repr__(self) -> str:
        return (
            f"<AttentionScore of L{self.layer}H{self.head} from {self.query} to {self.key}: {self.score:.3g}, "
            f"probability {self.probability:.1%}>"
        )

    @property
    def first_key(self) -> int:
        """The first position that the query sees."""
        return self.query + 1 - len(self._score_K)

    @property
    def score(self) -> float:
        """The score before the softmax, as the model computes it."""
        return float(self._score_K[self.key - self.first_key])

    @property
    def probability(self) -> float:
        """The share of the query's attention that the key gets."""
        return float(self._probability_K[self.key - self.first_key])

    @cached_property
    def _probability_K(self) -> np.ndarray:
        exp_K = np.exp(self._score_K - self._score_K.max())
        return exp_K / exp_K.sum()

    @cached_property
    def keys(self) -> pa.Table:
        """A table of the keys that the query sees: position, text, score, probability, and margin.

        The margin is the score of the chosen key minus that of the row: exp(margin) is the ratio of their probabilities.
        """
        positions = range(self.first_key, self.query + 1)
        return pa.table(
            {
                "position": pa.array(positions, pa.int32()),
                "text": [self.info["tokens"][position] for position in positions],
                "score": self._score_K,
                "probability": self._probability_K,
                "margin": self.score - self._score_K,
            }
        )

    @cached_property
    def query_nodes(self) -> pa.Table:
        """The table of the query's nodes, with columns score and preference.

        The scores add up to the score. The preference is the part in the difference between the chosen key's score and
        the mean of the other keys, weighted by the attention they get; null if the query sees no other key.
        """
        scored = self.query_side.nodes.append_column("score", [self.query_side.vector_Md @ self.key_side.total_d])
        others = len(self._score_K) > 1
        preference = self._preference(self._mean_other_key()) if others else pa.nulls(len(scored), pa.float64())
        return scored.append_column("preference", [preference])

    @cached_property
    def key_nodes(self) -> pa.Table:
        """The table of the key's nodes, with a column score; the scores add up to the score."""
        return self.key_side.nodes.append_column("score", [self.key_side.vector_Md @ self.query_side.total_d])

    def preference(self, other: int) -> pa.Table:
        """Return the query's nodes, with the parts that add up to the chosen key's score minus that of another.

        Raises ArgumentError for a key that the query does not see.
        """
        other = resolve_position(other, len(self.info["tokens"]), "key")
        if not self.first_key <= other <= self.query:
            raise ArgumentError(
                f"key {other} is not seen by query {self.query}: choose one of {self.first_key} … {self.query}"
            )
        return self.query_side.nodes.append_column(
            "preference", [self._preference(self._key_Kd[other - self.first_key])]
        )

    def _preference(self, other_d: np.ndarray) -> np.ndarray:
        return self.query_side.vector_Md @ (self._key_Kd[self.key - self.first_key] - other_d)

    def _mean_other_key(self) -> np.ndarray:
        """Return the mean of the keys that were not chosen, weighted by the attention they get among themselves."""
        others = np.arange(len(self._score_K)) != self.key - self.first_key
        exp_K = np.exp(self._score_K[others] - self._score_K[others].max())
        return (exp_K / exp_K.sum()).astype(self._key_Kd.dtype) @ self._key_Kd[others]

    def top(self, n: int = 10, side: Side = "query") -> pa.Table:
        """Return the `n` nodes of a side with the largest scores by absolute value, with their names; none with a score of 0.

        Raises ArgumentError for an unknown side, and for an `n` below 1.
        """
        n = _checked_count(n)
        _check_choice(side, "side", SIDES)
        own, table = (self.query_side, self.query_nodes) if side == "query" else (self.key_side, self.key_nodes)
        rows = _largest(table["score"].to_numpy(), n)
        return table.take(rows).add_column(0, "name", [own.names(rows)])

    def pairs(self, n: int = 10) -> pa.Table:
        """Return the `n` pairs of nodes with the largest scores by absolute value: query_node, key_node, score.

        The nodes are named, and their rows in `query_nodes` and `key_nodes` given as query_row and key_row. The search is
        exact. Raises ArgumentError for an `n` below 1.
        """
        found = top_pairs(self.query_side.vector_Md, self.key_side.vector_Md, _checked_count(n))
        return pa.table(
            {
                "query_node": pa.array(self.query_side.names(found.left), pa.string()),
                "key_node": pa.array(self.key_side.names(found.right), pa.string()),
                "score": found.product,
                "query_row": found.left,
                "key_row": found.right,
            }
        )

    def by(self, group: Group) -> pa.Table:
        """Return a table of the score by kind, layer or position of both nodes: query, key, score. All rows add up to it.

        Tokens and constants have no layer, and constants no position: there, query and key are null. Raises ArgumentError
        for another group.
        """
        _check_choice(group, "group", GROUPS)
        queries, query_Gd = self.query_side.grouped(group)
        keys, key_Hd = self.key_side.grouped(group)
        return pa.table(
            {
                "query": [each for each in queries for _ in keys],
                "key": [each for _ in queries for each in keys],
                "score": (query_Gd @ key_Hd.T).ravel(),
            }
        )

    def as_json(self, n: int = 10) -> dict[str, Any]:
        """Return the head, the score, the keys with the highest scores and the `n` largest nodes and pairs, for JSON."""
        keys = self.keys.take(np.argsort(-self._score_K, kind="stable")[:n])
        nodes = {f"{side}_nodes": self.top(n, side).to_pylist() for side in SIDES}
        place = {"layer": self.layer, "head": self.head, "query": self.query, "key": self.key}
        values = {"score": self.score, "probability": self.probability, "keys": keys.to_pylist()}
        pairs = self.pairs(n).select(["query_node", "key_node", "score"]).to_pylist()
        return {**self.info, **place, **values, "by_kind": self.by("kind").to_pylist(), **nodes, "pairs": pairs}

    def plot(self, path: str | os.PathLike | None = None) -> "Path | Figure":
        """Draw the keys that compete, and the largest nodes of both sides with their pairs.

        Returns the path, whose suffix chooses SVG, PNG or PDF, or without one the matplotlib figure. Raises ArgumentError for
        another suffix.
        """
        return draw_attention(self._panels(), None if path is None else Path(path))

    def _panels(self) -> AttentionPanels:
        """Return what the picture shows; rows and columns of the matrix end with all other nodes together."""
        tokens, shown = self.info["tokens"], self._plotted_keys()
        names, vectors = [], []
        for side, table in ((self.query_side, self.query_nodes), (self.key_side, self.key_nodes)):
            rows = _largest(table["score"].to_numpy(), PLOTTED_NODES)
            chosen_nd = side.vector_Md[rows]
            rest = len(side.nodes) - len(rows)
            names.append([*side.names(rows), f"{rest:,} others"])
            vectors.append(np.concatenate([chosen_nd, (side.total_d - chosen_nd.sum(0))[None]]))
        return AttentionPanels(
            title=f"layer {self.layer}, head {self.head}: from {tokens[self.query]!r}@{self.query} "
            f"to {tokens[self.key]!r}@{self.key}",
            prompt=self.info["prompt"],
            score=self.score,
            probability=self.probability,
            key_names=[f"{tokens[self.first_key + i]!r}@{self.first_key + i}" for i in shown],
            key_scores=self._score_K[shown],
            key_probabilities=self._probability_K[shown],
            is_chosen=shown == self.key - self.first_key,
            query_nodes=names[0],
            key_nodes=names[1],
            pair_scores=vectors[0] @ vectors[1].T,
        )

    def _plotted_keys(self) -> np.ndarray:
        """Return the chosen key and those with the highest scores, in the order of the prompt, counted from the first."""
        chosen = self.key - self.first_key
        order = np.argsort(-self._score_K, kind="stable")
        return np.sort([chosen, *order[order != chosen][: PLOTTED_KEYS - 1]])


def _largest(value_M: np.ndarray, n: int) -> np.ndarray:
    order = np.argsort(-np.abs(value_M), kind="stable")[:n]
    return order[value_M[order] != 0]


def _checked_count(n: int) -> int:
    if as_index(n, "n") < 1:
        raise ArgumentError(f"n is {n}: it must be at least 1")
    return as_index(n, "n")


def _check_choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(f"{name}={value!r} is not one of {', '.join(choices)}")

"""Selection of the nodes and edges that a picture shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cotrace.graphs.data import GraphData
from cotrace.graphs.saved_effects import expected_sizes
from cotrace.graphs.target_choice import choose_targets, chosen_weights

# Of the nodes that a cut picture shows beside targets and the tokens of a short prompt, at least these shares are left to
# tokens and error nodes together, and to error nodes.
OTHERS_SHARE, ERRORS_SHARE = 0.35, 0.15
MANY_TOKENS = 24  # a cut picture of a longer prompt shows only the tokens of columns that it uses


@dataclass(frozen=True)
class EdgeTable:
    """Edges between the nodes of a picture, as five arrays of equal length."""

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    input_share: np.ndarray
    """|weight| over the sum of |weight| of all edges into the target, (E,)."""
    influence: np.ndarray
    """Influence that passes through the edge: `input_share` times the influence of the target, (E,)."""

    def __len__(self) -> int:
        return len(self.source)

    def take(self, index: np.ndarray) -> EdgeTable:
        """Return the edges that an index array or a mask selects."""
        columns = (self.source, self.target, self.weight, self.input_share, self.influence)
        return EdgeTable(*(column[index] for column in columns))


def node_positions(graph: GraphData) -> np.ndarray:
    """Return the position of every node, (M,) int; that of the last token for a target without one."""
    return graph.column("position", missing=len(graph.info["tokens"]) - 1)


@dataclass(frozen=True)
class PictureSubject:
    """The subject of a picture: some targets, and how much every node matters to them."""

    graph: GraphData
    targets: list[dict[str, Any]]
    """Entries of `graph.info["targets"]`, heaviest first."""
    influence: np.ndarray
    """Along the edges of the graph, (M,) float64."""
    weights: np.ndarray
    """Weight of every node as a target, (M,) float64; sums to 1."""
    size: np.ndarray
    """The measure that ranks and sizes nodes, (M,) float64: the size of the expected effect, or the influence."""
    ranked_by: str = "influence"
    """The measure in `size`: "expected effect" or "influence"."""


def picture_subject(graph: GraphData, target: int | str | None = None) -> PictureSubject:
    """Return the subject of a picture; `target` and errors are those of `choose_targets`."""
    targets = choose_targets(graph, target)
    weights = chosen_weights(graph, targets)
    influence, size = graph.influence_on(weights), expected_sizes(graph, targets)
    if size is None:
        return PictureSubject(graph, targets, influence, weights, influence)
    return PictureSubject(graph, targets, influence, weights, size, "expected effect")


def strongest_nodes(subject: PictureSubject, max_nodes: int) -> np.ndarray:
    """Return the sorted numbers of at most `max_nodes` nodes: targets, features, and the tokens that feed them.

    Every column that is used has its token. Features and error nodes without an edge to a shown node give way to the
    next ones, so that a cut picture shows connected paths. Where the limit allows, every node is shown that influences
    the targets; with all targets, every node.
    """
    graph = subject.graph
    targets = [target["node"] for target in subject.targets]
    if len(targets) == len(graph.info["targets"]) and graph.order.n_nodes <= max_nodes:
        return np.arange(graph.order.n_nodes)
    excluded = np.zeros(graph.order.n_nodes, bool)
    while True:
        shown = _Choice(subject, max_nodes, excluded).nodes()
        dangling = np.setdiff1d(shown, edges_among(subject, shown).source)
        dangling = np.setdiff1d(dangling[dangling < graph.order.errors.stop], targets)
        if not len(dangling):
            return shown
        excluded[dangling] = True


class _Choice:
    """Nodes of a cut picture, collected in order of importance until there are `max_nodes`."""

    def __init__(self, subject: PictureSubject, max_nodes: int, excluded: np.ndarray):
        self.subject, self.order, self.max_nodes = subject, subject.graph.order, max_nodes
        self.position = node_positions(subject.graph)
        tokens = self.order.tokens
        self.token_at = {int(self.position[row]): row for row in range(tokens.start, tokens.stop)}
        self.candidates = (subject.influence > 0) & ~excluded
        self.shown: set[int] = set()

    def nodes(self) -> np.ndarray:
        """Return the sorted numbers of the chosen nodes."""
        order = self.order
        self._add([target["node"] for target in self.subject.targets], max(2, self.max_nodes // 2))
        if order.n_tokens <= min(self.max_nodes // 4, MANY_TOKENS):
            self.shown |= set(self.token_at.values())
        free = self.max_nodes - len(self.shown)
        features = self._ranked(self.subject.size, order.features)
        self._add(features, self.max_nodes - round(free * OTHERS_SHARE))
        self._add(self._ranked(self._fed(), order.tokens), self.max_nodes - round(free * ERRORS_SHARE))
        self._add(self._ranked(self.subject.size, order.errors), self.max_nodes)
        self._add(features, self.max_nodes)
        self._add(self._ranked(self.subject.size, order.tokens), self.max_nodes)
        return np.array(sorted(self.shown))

    def _ranked(self, score: np.ndarray, part: slice) -> list[int]:
        nodes = np.arange(part.start, part.stop)
        nodes = nodes[self.candidates[nodes] & (score[nodes] > 0)]
        return nodes[np.argsort(-score[nodes], kind="stable")].tolist()

    def _add(self, nodes: list[int], limit: int) -> None:
        """Show nodes, each with the token of its column, as long as at most `limit` nodes are shown."""
        for node in nodes:
            with_token = self.shown | {node, self.token_at.get(int(self.position[node]), node)}
            if len(with_token) <= limit:
                self.shown = with_token
            elif len(self.shown) >= limit:
                break

    def _fed(self) -> np.ndarray:
        """Return the influence that passes from each node directly into the shown features, (M,)."""
        fed = np.zeros(self.order.n_nodes)
        for node in sorted(self.shown):
            if node < self.order.n_features:
                csr = self.subject.graph.csr
                fed[csr.row(node)[0]] += csr.row_shares(node) * (self.subject.influence + self.subject.weights)[node]
        return fed


def edges_among(subject: PictureSubject, nodes: np.ndarray) -> EdgeTable:
    """Return all edges between the given nodes; shares are of the target's whole row."""
    graph = subject.graph
    inside = np.zeros(graph.order.n_nodes, bool)
    inside[nodes] = True
    mass = subject.influence + subject.weights
    parts: list[tuple[np.ndarray, ...]] = []
    for target in nodes.tolist():  # row by row: a traced graph can have far more edges than the picture
        sources, weights = graph.csr.row(target)
        keep = inside[sources] & (weights != 0)
        share = graph.csr.row_shares(target)[keep]
        weight = weights[keep].astype(np.float64)
        parts.append((sources[keep], np.full(keep.sum(), target), weight, share, share * mass[target]))
    return EdgeTable(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def strongest_edges(edges: EdgeTable, max_edges: int) -> EdgeTable:
    """Return the `max_edges` edges that carry the most influence, weakest first.

    The strongest edge out of each node is always among them, so that every node stays connected.
    """
    ranked = np.argsort(-edges.influence, kind="stable")
    _, first_of_source = np.unique(edges.source[ranked], return_index=True)
    kept = np.union1d(ranked[:max_edges], ranked[first_of_source])
    return edges.take(kept[np.argsort(edges.influence[kept], kind="stable")])

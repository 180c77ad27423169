"""Selection of the nodes and edges that a picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cotrace.graphs.data import GraphData

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


def influence_column(graph: GraphData) -> np.ndarray:
    """Return the column `influence`, (M,), with NaN as 0."""
    return np.nan_to_num(graph.column("influence"))


def strongest_nodes(graph: GraphData, max_nodes: int) -> np.ndarray:
    """Return the sorted numbers of at most `max_nodes` nodes: targets, then the most influential nodes.

    Every column that is used has its token. Features and error nodes without an edge to a shown node give way to the
    next ones, so that a cut picture shows connected paths.
    """
    if graph.order.n_nodes <= max_nodes:
        return np.arange(graph.order.n_nodes)
    excluded = np.zeros(graph.order.n_nodes, bool)
    targets = [target["node"] for target in graph.info["targets"]]
    while True:
        shown = _pick(graph, max_nodes, excluded)
        dangling = np.setdiff1d(shown, edges_among(graph, shown).source)
        dangling = np.setdiff1d(dangling[dangling < graph.order.errors.stop], targets)
        if not len(dangling):
            return shown
        excluded[dangling] = True


def _pick(graph: GraphData, max_nodes: int, excluded: np.ndarray) -> np.ndarray:
    order, position, influence = graph.order, node_positions(graph), influence_column(graph)
    token_at = {int(position[row]): row for row in range(order.tokens.start, order.tokens.stop)}
    shown = _pick_targets(graph, max_nodes, position, token_at)
    if order.n_tokens <= min(max_nodes // 4, MANY_TOKENS):
        shown |= set(token_at.values())
    candidates = np.flatnonzero((influence > 0) & ~excluded)
    for row in candidates[np.argsort(-influence[candidates], kind="stable")].tolist():
        if len(shown) >= max_nodes:
            break
        if row < order.logits.start:
            with_token = shown | {row, token_at.get(int(position[row]), row)}
            shown = with_token if len(with_token) <= max_nodes else shown
    return np.array(sorted(shown))


def _pick_targets(graph: GraphData, max_nodes: int, position: np.ndarray, token_at: dict[int, int]) -> set[int]:
    """Return the heaviest targets and their tokens: at most half of the nodes, the rest is for their sources."""
    shown: set[int] = set()
    for target in sorted(graph.info["targets"], key=lambda target: -target["weight"]):
        node = target["node"]
        with_token = shown | {node, token_at.get(int(position[node]), node)}
        if len(with_token) <= max(2, max_nodes // 2):
            shown = with_token
    return shown


def edges_among(graph: GraphData, nodes: np.ndarray) -> EdgeTable:
    """Return all edges between the given nodes; shares are of the target's whole row."""
    inside = np.zeros(graph.order.n_nodes, bool)
    inside[nodes] = True
    mass = influence_column(graph) + graph.target_weights
    parts: list[tuple[np.ndarray, ...]] = []
    for target in nodes.tolist():  # row by row: a traced graph can have far more edges than the picture
        sources, weights = graph.csr.row(target)
        weights = weights.astype(np.float64)
        keep = inside[sources] & (weights != 0)
        share = np.abs(weights[keep]) / (np.abs(weights).sum() or 1.0)
        parts.append((sources[keep], np.full(keep.sum(), target), weights[keep], share, share * mass[target]))
    return EdgeTable(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def strongest_edges(edges: EdgeTable, max_edges: int) -> EdgeTable:
    """Return the `max_edges` edges that carry the most influence, weakest first.

    The strongest edge out of each node is always among them, so that every node stays connected.
    """
    ranked = np.argsort(-edges.influence, kind="stable")
    _, first_of_source = np.unique(edges.source[ranked], return_index=True)
    kept = np.union1d(ranked[:max_edges], ranked[first_of_source])
    return edges.take(kept[np.argsort(edges.influence[kept], kind="stable")])

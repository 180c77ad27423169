"""The contents of a graph: its node table, its metadata, and both as arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError

from .csr import CSR
from .influence import estimated_influence, node_influence, weights_of_targets
from .order import KINDS, NodeKind, NodeOrder
from .sampling import Draws, Estimate, estimate, passed_influence, replicate_influence, sampled_scores
from .schema import DRAWS, SAMPLED
from .scores import GraphScores, ScoredGraph, graph_scores

if TYPE_CHECKING:
    import scipy.sparse


class GraphData:
    """A node table with incoming edges as list columns, and metadata.

    Row = target, column = source, everywhere. Arrays are read-only views of the table, without a copy.
    `Graph` adds pruning, files and pictures. Functions that need none of these take a `GraphData`.
    """

    def __init__(self, nodes: pa.Table, info: dict[str, Any], check_edges: Callable[[GraphData], None] | None = None):
        """Take a table and its metadata; `check_edges` is called once, before the first use of the edges."""
        in_one_part = all(column.num_chunks == 1 for column in nodes.columns)
        self._table, self._pending_check = nodes if in_one_part else nodes.combine_chunks(), check_edges
        self.info = info
        self._last_estimate: tuple[np.ndarray, Estimate] | None = None

    def check_edges(self) -> None:
        """Check the edges now if they are those of a huge file and were not used yet. Raises FileError for damage."""
        if self._pending_check:
            self._pending_check(self)
            self._pending_check = None

    @property
    def nodes(self) -> pa.Table:
        """The node table of M rows, with its edges. Raises FileError as `check_edges` does."""
        self.check_edges()
        return self._table

    @cached_property
    def order(self) -> NodeOrder:
        """Counts and offsets of the four kinds of nodes."""
        codes = self._table["kind"].chunk(0).indices.to_numpy()
        return NodeOrder(*np.bincount(codes, minlength=len(KINDS))[: len(KINDS)].tolist())

    @cached_property
    def csr(self) -> CSR:
        """The edges: indptr (M+1,), indices (E,) int32 and weights (E,)."""
        return csr_of(self.nodes)

    def column(self, name: str, missing: float | None = None) -> np.ndarray:
        """Return a column of the node table as an array (M,), with nulls replaced by `missing`, else by NaN.

        An integer column with nulls is float64 unless `missing` is given.
        """
        table = self.nodes if name in ("sources", "weights") else self._table
        column = table[name].chunk(0)
        filled = column if missing is None else column.fill_null(missing)
        return filled.to_numpy(zero_copy_only=False)

    @cached_property
    def target_weights(self) -> np.ndarray:
        """Weight of every node as a target, (M,) float64; sums to 1."""
        return weights_of_targets(self.info["targets"], self.order.n_nodes)

    @cached_property
    def computed(self) -> np.ndarray:
        """Mask of the nodes whose rows were computed, (M,) bool."""
        return self.column("computed").astype(bool)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self._table["sources"].chunk(0).values)

    def edges(self) -> pa.Table:
        """Return all edges as a table of source, target (node numbers) and weight."""
        arrays = {"source": self.csr.indices, "target": self.csr.edge_targets(), "weight": self.csr.weights}
        return pa.table({name: pa.array(array) for name, array in arrays.items()})

    def adjacency(self) -> scipy.sparse.csr_array:
        """Return the (M, M) adjacency matrix in the order of `nodes`: row = target, column = source."""
        from scipy.sparse import csr_array

        size, csr = self.order.n_nodes, self.csr
        return csr_array((csr.weights, csr.indices, csr.indptr), shape=(size, size))

    @property
    def sampled(self) -> bool:
        """True if the rows of this graph were sampled: `influence()` and `scores()` are estimates."""
        return DRAWS in self._table.column_names

    @property
    def estimated(self) -> bool:
        """True for a sampled graph and what was cut from one: the column `influence` holds estimates."""
        return SAMPLED[0] in self._table.column_names

    @cached_property
    def draws(self) -> Draws | None:
        """Which rows each replicate drew, and their factors; None unless the graph is sampled."""
        if not self.sampled:
            return None
        return Draws.of_column(self._table[DRAWS].chunk(0), self.info["traced"]["sampling"]["replicates"])

    def influence(self) -> np.ndarray:
        """Return the influence of every node on the targets along this graph's edges, (M,) float64.

        The column `influence` of `nodes` is that of the graph as it was traced, before pruning. Without
        some rows it is a lower bound; of a sampled graph it is an unbiased estimate.
        """
        return self.influence_on(self.target_weights)

    @cached_property
    def influence_estimate(self) -> Estimate:
        """Influence of every node of a sampled graph on the targets, with standard errors and 95% intervals, (M,) each.

        Raises ArgumentError for a graph that is not sampled.
        """
        return estimate(self.influence_replicates())

    def influence_on(self, weights_M: np.ndarray) -> np.ndarray:
        """Return the influence of every node on nodes with these weights, (M,), along this graph's edges, (M,) float64.

        Of a sampled graph it is the mean over the replicates: an unbiased estimate.
        """
        if self.draws is None:
            return node_influence(self.csr, weights_M)
        return self.estimate_on(weights_M).value.copy()

    def estimate_on(self, weights_M: np.ndarray) -> Estimate:
        """Return `influence_on` of a sampled graph with standard errors and 95% intervals; do not change its arrays.

        The last one is kept: tables and pictures of one query ask for it several times.
        Raises ArgumentError for a graph that is not sampled.
        """
        if np.array_equal(weights_M, self.target_weights):
            return self.influence_estimate
        if self._last_estimate is None or not np.array_equal(weights_M, self._last_estimate[0]):
            self._last_estimate = weights_M.copy(), estimate(self.influence_replicates(weights_M))
        return self._last_estimate[1]

    def influence_replicates(self, weights_M: np.ndarray | None = None) -> np.ndarray:
        """Return the influence of every node in each of R replicates of a sampled graph, (R, M) float64.

        They are uncorrelated and each unbiased, so that their spread shows the error of their mean.

        Args:
            weights_M: weight of every node as an end of paths, (M,); the graph's targets by default. If all rows of these nodes
                are in the graph, paths start from them exactly; else drawn rows also stand for those that were not drawn.

        Raises ArgumentError for a graph that is not sampled.
        """
        if self.draws is None:
            raise ArgumentError("this graph has no replicates: trace with sampled=True, and keep the whole graph")
        weights, exact = self._sampled_ends(self.target_weights if weights_M is None else weights_M)
        return replicate_influence(self.csr, weights, self.draws, exact_ends=exact)

    def passed_on(self, weights_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each node passes on to its sources: of the influence that reaches it, and of its weight, both (M,).

        `weights_M` is as in `influence_on`. Only drawn rows of a sampled graph pass on influence, as much as several.
        """
        if self.draws is None:
            return node_influence(self.csr, weights_M), weights_M
        weights, exact = self._sampled_ends(weights_M)
        return passed_influence(self.csr, weights, self.draws, exact_ends=exact)

    def _sampled_ends(self, weights_M: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return the weights of ends of paths in a sampled graph, and whether all their rows are in the graph.

        Where some are not, drawn rows stand for them, and rows that no replicate drew must not count as well.
        """
        assert self.draws is not None
        is_feature = self.order.has_kind(NodeKind.FEATURE)
        if not (is_feature & (weights_M != 0) & ~self.computed).any():
            return weights_M, True
        is_feature[self.draws.row_D] = False
        return np.where(is_feature, 0.0, weights_M), False

    def estimated_influence(self) -> np.ndarray:
        """Return an estimate of every node's influence, (M,) float64, for a graph without some of its rows.

        That of a sampled graph is `influence()`, which has no bias. In others, a feature without a row is taken to pass
        influence on as the others of its layer and position do; see `influence.estimated_influence`.
        """
        if self.sampled:
            return self.influence()
        features, n_positions = self.order.features, self.order.n_tokens
        site_N = self.column("layer", 0)[features].astype(np.int64) * n_positions + self.column("position", 0)[features]
        sites = np.append(np.unique(site_N, return_index=True)[1], self.order.n_features).astype(np.int64)
        return estimated_influence(self.csr, self.target_weights, self.computed, sites)

    def scores(self) -> GraphScores:
        """Return the replacement and completeness score of this graph's edges, and whether it is traced or pruned.

        `info["traced"]["scores"]` keeps the scores of the graph as it was traced, before pruning.
        """
        graph: ScoredGraph = "pruned" if self.info["pruning"] else "traced"
        return self.scores_without(None, graph)

    def scores_without(self, left_out_M: np.ndarray | None, graph: ScoredGraph, csr: CSR | None = None) -> GraphScores:
        """Return the scores along these edges, or those of `csr` between the same nodes, and of a sampled graph their intervals.

        `left_out_M` is the absolute weight of each row's edges from nodes that count as error, (M,); `graph` is recorded.
        """
        given = self.order, csr or self.csr, self.target_weights
        if self.draws is not None:
            return sampled_scores(*given, self.draws, left_out=left_out_M, graph=graph)
        return graph_scores(*given, computed=self.computed, left_out=left_out_M, graph=graph)


def csr_of(nodes: pa.Table) -> CSR:
    """Return the edges of a node table, without a copy."""
    sources, weights = nodes["sources"].chunk(0), nodes["weights"].chunk(0)
    return CSR(sources.offsets.to_numpy(), sources.values.to_numpy(), weights.values.to_numpy())

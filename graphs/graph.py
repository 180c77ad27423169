"""The graph as its users see it."""

from __future__ import annotations

import os
import reprlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import CotraceError

from .drawing.config import DrawingConfig
from .influence import estimated_influence, node_influence, weights_of_targets
from .order import KINDS, NodeOrder
from .prune import GraphSelection, check_threshold, dropped_sums, select
from .pruning_bounds import PruningBounds, certainty
from .schema import build_table, metadata_of
from .scores import Scores, graph_scores
from .store import save_table

if TYPE_CHECKING:
    import networkx
    import scipy.sparse


class Graph:
    """One prompt's attribution graph: a node table with incoming edges as list columns.

    Row = target, column = source, everywhere. `nodes` is the Arrow table with the columns of
    `graphs/schema.py`; `info` its metadata: model, transcoders, prompt, tokens, targets, settings,
    scores of the traced graph. Arrays are read-only views of the table, without a copy.
    """

    def __init__(self, nodes: pa.Table, info: dict[str, Any]):
        self.nodes = nodes
        self.info = info

    # --- arrays -----------------------------------------------------------------------------

    @cached_property
    def order(self) -> NodeOrder:
        """Counts and offsets of the four kinds of nodes."""
        codes = self.nodes["kind"].chunk(0).indices.to_numpy()
        return NodeOrder(*np.bincount(codes, minlength=len(KINDS))[: len(KINDS)].tolist())

    def list_offsets(self, name: str) -> np.ndarray:
        """Offsets (M+1,) of a list column."""
        return self.nodes[name].chunk(0).offsets.to_numpy()

    @cached_property
    def indptr(self) -> np.ndarray:
        """CSR row pointer, (M+1,)."""
        return self.list_offsets("sources")

    @cached_property
    def indices(self) -> np.ndarray:
        """CSR columns: the source of every edge, (E,) int32."""
        return self.nodes["sources"].chunk(0).values.to_numpy()

    @cached_property
    def weights(self) -> np.ndarray:
        """CSR values: the direct effect of every edge, (E,)."""
        return self.nodes["weights"].chunk(0).values.to_numpy()

    def column(self, name: str, missing: float | None = None) -> np.ndarray:
        """A column of the node table as an array (M,), with nulls replaced by `missing`, else by NaN.

        An integer column with nulls is float64 unless `missing` is given.
        """
        column = self.nodes[name].chunk(0)
        filled = column if missing is None else column.fill_null(missing)
        return filled.to_numpy(zero_copy_only=False)

    @cached_property
    def target_weights(self) -> np.ndarray:
        """Weight of every node as a target, (M,) float64; sums to 1."""
        return weights_of_targets(self.info["targets"], self.order.n_nodes)

    @cached_property
    def computed(self) -> np.ndarray:
        """Which nodes' rows were computed, (M,) bool."""
        return self.column("computed").astype(bool)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.indices)

    def __repr__(self) -> str:
        features, errors, tokens, logits = self.order.counts
        return (
            f"<Graph of {reprlib.repr(self.info['prompt'])}: {features} features, {errors} errors, {tokens} tokens, "
            f"{logits} logits, {self.n_edges} edges>"
        )

    # --- questions --------------------------------------------------------------------------

    def edges(self) -> pa.Table:
        """All edges as a table of source, target (node numbers) and weight."""
        targets = np.repeat(np.arange(self.order.n_nodes, dtype=np.int32), np.diff(self.indptr))
        return pa.table(
            {"source": pa.array(self.indices), "target": pa.array(targets), "weight": pa.array(self.weights)}
        )

    def adjacency(self) -> scipy.sparse.csr_array:
        """The (M, M) adjacency matrix in the order of `nodes`: row = target, column = source."""
        from scipy.sparse import csr_array

        size = self.order.n_nodes
        return csr_array((self.weights, self.indices, self.indptr), shape=(size, size))

    def influence(self) -> np.ndarray:
        """Influence of every node on the targets along this graph's edges, (M,) float64.

        The column `influence` of `nodes` is that of the graph as it was traced, before pruning. Without
        some rows it is a lower bound.
        """
        return node_influence(self.indptr, self.indices, self.weights, self.target_weights)

    def estimated_influence(self) -> np.ndarray:
        """Influence of every node, (M,) float64, where features without a row pass on what others of their site do."""
        features, n_positions = self.order.features, self.order.n_tokens
        site_N = self.column("layer", 0)[features].astype(np.int64) * n_positions + self.column("position", 0)[features]
        sites = np.append(np.unique(site_N, return_index=True)[1], self.order.n_features).astype(np.int64)
        arrays = self.indptr, self.indices, self.weights, self.target_weights
        return estimated_influence(*arrays, self.computed, sites)

    def scores(self) -> Scores:
        """Replacement and completeness of this graph's edges.

        `info["scores"]` holds those of the graph as it was traced, before pruning.
        """
        arrays = self.indptr, self.indices, self.weights, self.target_weights
        return graph_scores(self.order, *arrays, self.computed)

    def certainty(self, node_threshold: float = 0.8) -> PruningBounds:
        """Which nodes are above the node threshold of `prune`, or below, whatever the rows hold that are not there.

        Tokens and targets stay wherever they are. Raises ValueError for a pruned graph.
        """
        if self.info["pruning"]:
            raise CotraceError("a pruned graph has lost influence; ask the graph that was traced")
        check_threshold("node_threshold", node_threshold)
        return certainty(self.influence(), self.column("influence_bound"), node_threshold)

    # --- smaller graphs ---------------------------------------------------------------------

    def select(
        self, node_threshold: float = 0.8, edge_threshold: float = 0.98, keep_errors: bool = False
    ) -> GraphSelection:
        """Masks of what `prune` keeps: nodes (M,) and edges (E,)."""
        return select(
            self.order,
            self.indptr,
            self.indices,
            self.weights,
            self.target_weights,
            node_threshold=node_threshold,
            edge_threshold=edge_threshold,
            keep_errors=keep_errors,
            computed=self.computed,
            influence=self.estimated_influence() if self._lacks_rows else None,
        )

    @property
    def _lacks_rows(self) -> bool:
        """Whether this is a graph as it was traced, without some rows."""
        return self.info["bound"] > 0 and not self.info["pruning"]

    def prune(self, node_threshold: float = 0.8, edge_threshold: float = 0.98, keep_errors: bool = False) -> Graph:
        """Keep the nodes and edges that carry the stated shares of the influence.

        Every row's removed edges are summed into its `dropped`, so that it still adds up to the
        pre-activation. Raises ValueError for thresholds outside [0, 1].
        """
        kept = self.select(node_threshold, edge_threshold, keep_errors)
        pruning: dict[str, Any] = {
            "node_threshold": node_threshold,
            "edge_threshold": edge_threshold,
            "keep_errors": keep_errors,
        }
        if self._lacks_rows:
            pruning["certainty"] = self.certainty(node_threshold).counts()
        return self.subgraph(kept, pruning)

    def subgraph(self, kept: GraphSelection, pruning: dict[str, Any]) -> Graph:
        """The graph of the nodes and edges that the masks keep; `pruning` goes into the metadata."""
        assert kept.nodes[[target["node"] for target in self.info["targets"]]].all(), "targets must be kept"
        new_number = np.cumsum(kept.nodes, dtype=np.int64) - 1
        edge_K = np.flatnonzero(kept.edges)
        row_K = np.searchsorted(self.indptr, edge_K, side="right") - 1
        per_row = np.bincount(row_K, minlength=self.order.n_nodes)[kept.nodes]
        lost = dropped_sums(self.indptr, self.weights, kept.edges)
        columns: dict[str, Any] = {
            name: self.nodes[name].chunk(0).filter(pa.array(kept.nodes))
            for name in self.nodes.column_names
            if name not in ("node", "kind", "sources", "weights", "dropped")
        }
        columns["dropped"] = (self.column("dropped") + lost)[kept.nodes].astype(self.weights.dtype)
        targets = [{**target, "node": int(new_number[target["node"]])} for target in self.info["targets"]]
        info = {**self.info, "targets": targets, "pruning": pruning}
        info.pop("validation", None)  # its nodes have other numbers here
        table = build_table(
            self.order.keep(kept.nodes),
            columns,
            np.concatenate([[0], np.cumsum(per_row)]),
            new_number[self.indices[edge_K]].astype(np.int32),
            self.weights[edge_K],
            info,
        )
        return Graph(table, info)

    def with_validation(self, validation: dict[str, Any]) -> Graph:
        """The same graph with what `Model.validate` found in its metadata."""
        info = {**self.info, "validation": validation}
        return Graph(self.nodes.replace_schema_metadata(metadata_of(info)), info)

    # --- files and exchange -----------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> Path:
        """Write one Arrow IPC file, atomically; parent folders are made.

        A path that ends in .zst is packed: half as large where no edge was pruned, and unpacked into a temporary
        file when it is opened.
        """
        path = Path(path)
        save_table(self.nodes, path)
        return path

    def render(
        self,
        path: str | os.PathLike,
        *,
        max_nodes: int = DrawingConfig.max_nodes,
        max_edges: int = DrawingConfig.max_edges,
    ) -> Path:
        """Draw the graph as SVG, PNG, PDF or DOT, by the suffix of `path`; see `graphs.drawing.render.render`."""
        from .drawing.render import render

        return render(self, path, max_nodes=max_nodes, max_edges=max_edges)

    def to_networkx(self) -> networkx.DiGraph:
        """A NetworkX DiGraph with edges from source to target; see `graphs.convert`."""
        from .exchange.networkx import to_networkx

        return to_networkx(self)

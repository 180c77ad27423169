"""Draws of rows from a graph that has all of them: what a trace with `sampled=True` draws, without the model."""

from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch

from cotrace.attribution.tracing import sampled_rows
from cotrace.attribution.tracing.activations import ActiveFeatures
from cotrace.attribution.tracing.batches import BatchSize
from cotrace.attribution.tracing.config import RowBudget
from cotrace.attribution.tracing.graph_assembly import GraphRows, SampledRows
from cotrace.attribution.tracing.row_cache import CachedRows
from cotrace.common.progress import Progress
from cotrace.graphs import CSR, Graph
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.rows import SparseRows
from cotrace.graphs.shares import covering_spans


class StoredRows:
    """Stands in for a `RowBuilder`: gives the sampler rows of a graph instead of computing them."""

    def __init__(self, graph: Graph, selection):
        self.order, self.csr, self.selection = graph.order, graph.csr, selection

    def add_targets(self, reads, size):
        self._add(np.arange(self.order.logits.start, self.order.logits.stop))

    def add_target_rows(self, rows):
        self.add_targets(None, None)

    def add_layer(self, layer, size, step):
        self._add(self.selection.select(layer).numpy())

    def _add(self, node_T):
        rows = self.csr.select_rows(node_T)
        self.selection.add_cached_rows(SparseRows(node_T, rows.row_lengths(), rows.indices, rows.weights))

    def finish(self):
        computed_N = self.selection.computed_N.numpy()
        return GraphRows(self.order, self.csr, computed_N, np.ma.masked_array(np.zeros(self.order.n_nodes)))


def sampler_of(graph: Graph, n_layers: int, **limits) -> sampled_rows.RowSampler:
    """Return the sampler of a trace of the graph's prompt with some options."""
    order = graph.order
    sites = [torch.tensor(graph.column(name, -1)[order.features].astype(np.int64)) for name in ("layer", "position")]
    none = torch.zeros(order.n_features)
    prompt = SimpleNamespace(
        features=ActiveFeatures(*sites, none, none, none, none), n_layers=n_layers, n_positions=order.n_tokens
    )
    return sampled_rows.RowSampler(
        prompt,
        order,
        graph.target_weights,
        RowBudget(sampled=True, **limits),
        covering_spans(order.n_tokens, None),
        BatchSize(None, True, 1),
        CachedRows(np.full(order.n_features, -1)),
        None,
        Progress(False),
    )


def sample(graph: Graph, n_layers: int, **limits) -> SampledRows:
    """Return the rows that a trace of the graph's prompt draws; the CSR arrays hold all rows, drawn or not."""
    with mock.patch.object(sampled_rows, "RowBuilder", lambda _r, _o, selection, _c, _w: StoredRows(graph, selection)):
        return sampler_of(graph, n_layers, **limits).run(None, False)


def only_rows(csr: CSR, has_row_M: np.ndarray) -> CSR:
    """Return the edges of some rows, with the other rows empty."""
    edge_E = np.repeat(has_row_M, csr.row_lengths())
    return CSR(indptr_of(csr.row_lengths() * has_row_M), csr.indices[edge_E], csr.weights[edge_E])

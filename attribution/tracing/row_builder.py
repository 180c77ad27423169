"""Finished rows of a prompt, from the last node to the first: computed, or taken from a cache, and written to disk."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cotrace.graphs import NodeOrder, RowWriter
from cotrace.graphs.rows import SparseRows, in_node_order, rows_of_block
from cotrace.kernels.threads import spin_control
from cotrace.kernels.workers import Workers

from .batches import BatchSize, TargetBatch, feature_batches, stream_batches
from .graph_assembly import GraphRows
from .replacement import LocalReplacementModel
from .row_cache import CachedRows
from .sweep import DenseRows, SourceColumns, compute_rows


class Selection(Protocol):
    """Chooses the rows of each layer when all rows above are finished."""

    computed_N: Tensor
    """Features whose rows were added, (N,) bool."""
    cached_N: Tensor
    """Features whose rows need not be computed, (N,) bool."""

    def select(self, layer: int) -> Tensor:
        """Return the features of a layer whose rows are wanted by index, ascending."""

    def add_rows(self, batch: TargetBatch, rows: DenseRows, seconds: float) -> None:
        """Take notice of computed rows, and of the seconds that they took."""

    def add_cached_rows(self, rows: SparseRows) -> None:
        """Take notice of rows from the cache."""


class RowBuilder:
    """Computes the selected rows of a prompt, or takes them from the cache, and writes them to temporary files.

    Rows are added from the last node to the first: the influence of a feature, which decides whether its row is
    computed, depends on the rows of later nodes only.
    """

    def __init__(
        self,
        replacement: LocalReplacementModel,
        order: NodeOrder,
        selection: Selection,
        cached: CachedRows,
        workers: Workers,
    ):
        self.replacement, self.order, self.selection, self.cached = replacement, order, selection, cached
        self.workers, self.columns = workers, SourceColumns(replacement, order)
        dtype = torch.empty(0, dtype=replacement.dtype).numpy().dtype
        max_edges = replacement.max_edges + order.n_logits * order.n_nodes
        self.writer = RowWriter(dtype, order.n_nodes, max_edges)
        self.bias_M = np.ma.masked_array(np.zeros(order.n_nodes, dtype), mask=True)

    def add_targets(self, reads: tuple[Tensor, Tensor], size: BatchSize) -> None:
        """Add the rows of targets at the unembedding, given by positions (T,) and read vectors (T, D)."""
        first_node = self.order.logits.start
        for batch, rows, seconds in self._computed(stream_batches(*reads, self.replacement.n_layers, first_node, size)):
            self._add(batch, rows, seconds, np.empty(0, np.int64))

    def add_target_rows(self, rows: GraphRows) -> None:
        """Add the rows of targets at the unembedding that were computed before."""
        node_T = np.arange(self.order.logits.start, self.order.logits.stop)
        found = rows.csr.select_rows(node_T)
        self.bias_M[node_T] = rows.bias_M[node_T]
        chunk = SparseRows(node_T, found.row_lengths(), found.indices, found.weights)
        self.selection.add_cached_rows(chunk)
        self.writer.prepend(chunk)

    def add_layer(self, layer: int, size: BatchSize, step: Callable[..., None]) -> None:
        """Add the selected rows of one layer's features; `step` advances the progress bar by a number of features."""
        selected = self.selection.select(layer)
        cached = self.selection.cached_N[selected]
        cached_T = selected[cached].cpu().numpy()
        step(len(cached_T))
        batches = feature_batches(self.replacement, layer, selected[~cached], size)
        for batch, rows, seconds in self._computed(batches):
            later = cached_T > int(batch.node_T[0])
            self._add(batch, rows, seconds, cached_T[later])
            cached_T = cached_T[~later]
            step(len(batch.node_T))
        for chunk in self._cached_chunks(cached_T):
            self.writer.prepend(chunk)
        step(int((self.replacement.features.layer_N == layer).sum()) - len(selected))

    def finish(self) -> GraphRows:
        """Return all rows. Nothing can be added afterwards."""
        return GraphRows(self.order, self.writer.finish(), self.selection.computed_N.cpu().numpy(), self.bias_M)

    def _computed(self, batches: Iterator[TargetBatch]) -> Iterator[tuple[TargetBatch, DenseRows, float]]:
        """Yield batches with their rows, and the seconds since the batch before was yielded."""

        def compute(batch: TargetBatch) -> tuple[TargetBatch, DenseRows]:
            return batch, compute_rows(self.replacement, batch, self.columns)

        started = time.monotonic()
        for batch, rows in self.workers.map(compute, batches):
            if self.workers.n == 1:
                spin_control.adapt()
            seconds, started = time.monotonic() - started, time.monotonic()
            yield batch, rows, seconds

    def _add(self, batch: TargetBatch, rows: DenseRows, seconds: float, cached_T: np.ndarray) -> None:
        """Write the rows of a batch, with cached rows of nodes after the batch's first, and pass influence on."""
        self._write(batch, rows, cached_T)
        self.selection.add_rows(batch, rows, seconds)

    def _write(self, batch: TargetBatch, rows: DenseRows, cached_T: np.ndarray) -> None:
        """Write computed rows, merged with cached rows by node, from the last to the first."""
        node_T = batch.node_T.cpu().numpy()
        block_TC = rows.block_TC.cpu().contiguous().numpy()
        self.bias_M[node_T] = rows.bias_T.cpu().numpy()
        computed = rows_of_block(node_T, block_TC, rows.columns_C.to("cpu", torch.int32).numpy())
        for chunk in self._cached_chunks(cached_T):
            later = computed.node_T > chunk.node_T[0]
            self.writer.prepend(in_node_order(computed.only(later), chunk))
            computed = computed.only(~later)
        self.writer.prepend(computed)

    def _cached_chunks(self, node_T: np.ndarray) -> Iterator[SparseRows]:
        """Yield cached rows from the last to the first, and pass their influence on."""
        if not len(node_T):
            return
        self.bias_M[node_T] = self.cached.bias(node_T)
        for chunk in self.cached.chunks(node_T):
            self.selection.add_cached_rows(chunk)
            yield chunk

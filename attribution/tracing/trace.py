"""Tracing of one prompt: from its local replacement model to a graph."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.common.progress import Progress
from cotrace.graphs import Graph, NodeOrder, RowWriter
from cotrace.graphs.influence import weights_of_targets
from cotrace.graphs.rows import SparseRows, free_mapped_pages, in_node_order, rows_of_block
from cotrace.kernels.threads import spin_control
from cotrace.kernels.workers import Workers

from .batches import BatchSize, TargetBatch, feature_batches, stream_batches
from .config import RowBudget
from .graph_assembly import GraphRows, TracedEffects, assemble_graph, target_records, weighted_effects
from .plan import TracePlan
from .replacement import LocalReplacementModel
from .row_cache import CachedRows, RowCache
from .row_selection import EffectRowSelection, RowSelection
from .sweep import DenseRows, SourceColumns, compute_rows
from .targets import Target, unembedding_reads


def trace(
    replacement: LocalReplacementModel,
    targets: list[Target],
    info: dict[str, Any],
    row_budget: RowBudget,
    plan: TracePlan,
    *,
    row_cache: RowCache | None,
    progress: Progress,
    effects: TracedEffects | None = None,
) -> Graph:
    """Return the graph of one prompt.

    Args:
        replacement: the prompt's local replacement model; its decoder vectors are freed after the last row.
        targets: the targets, with directions and weights.
        info: the caller's metadata: model, transcoders, prompt, tokens, settings.
        row_budget: limits of the rows that are computed.
        plan: the plan of this trace, for its batch size.
        row_cache: rows of earlier traces are reused from here, and rows of this trace stored; None for no cache.
        progress: progress bars.
        effects: effects of the nodes on the targets, to save with the nodes; needed to select rows by effect.
    """
    # 1. Order of the nodes, and rows that need not be computed.
    added = [target for target in targets if target.feature_index is None]
    order = _node_order(replacement, len(added))
    target_weights_M = weights_of_targets(target_records(targets, order), order.n_nodes)
    row_cache = RowCache() if row_cache is None else row_cache
    cached = row_cache.rows_for(replacement, order)
    selected_by = replacement.features, order, target_weights_M, row_budget, cached.mask_N
    selection: RowSelection
    if row_budget.select == "effect":
        assert effects is not None, "checked by TraceConfig"
        selection = EffectRowSelection(*selected_by, weighted_effects(effects, targets)[order.features])
    else:
        selection = RowSelection(*selected_by)
    with Workers(plan.batch_size.n_workers) as workers, progress.phase("computing rows", order.n_features) as step:
        builder = RowBuilder(replacement, order, selection, cached, workers)
        # 2. Rows of targets at the unembedding.
        builder.add_targets(unembedding_reads(replacement, added), plan.batch_size)
        # 3. Rows of features, from the last layer to the first.
        for layer in reversed(range(replacement.n_layers)):
            builder.add_layer(layer, plan.batch_size, step)
    replacement.free_decoder_vectors()
    # 4. The graph.
    with progress.phase("finishing the graph"):
        rows = builder.finish()
        row_cache.store(replacement, rows)
        graph = assemble_graph(replacement, targets, rows, info, effects)
        free_mapped_pages(*rows.csr)
        return graph


class RowBuilder:
    """Computes the selected rows of a prompt, or takes them from the cache, and writes them to temporary files.

    Rows are added from the last node to the first: the influence of a feature, which decides whether its row is
    computed, depends on the rows of later nodes only.
    """

    def __init__(
        self,
        replacement: LocalReplacementModel,
        order: NodeOrder,
        selection: RowSelection,
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


def _node_order(replacement: LocalReplacementModel, n_added: int) -> NodeOrder:
    """Return the order of the nodes of a prompt's graph, with an error node at every layer and position."""
    n_positions = replacement.n_positions
    return NodeOrder(len(replacement.features), replacement.n_layers * n_positions, n_positions, n_added)

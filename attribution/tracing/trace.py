"""Tracing of one prompt: from its local replacement model to a graph."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from cotrace.common.progress import Progress
from cotrace.graphs import Graph, NodeOrder
from cotrace.graphs.influence import weights_of_targets
from cotrace.graphs.rows import free_mapped_pages
from cotrace.graphs.shares import covering_spans
from cotrace.kernels.workers import Workers

from .config import RowBudget
from .graph_assembly import TracedEffects, assemble_graph, target_records, weighted_effects
from .plan import TracePlan
from .replacement import LocalReplacementModel
from .row_builder import RowBuilder
from .row_cache import CachedRows, RowCache
from .row_selection import EffectRowSelection, RowSelection
from .sampled_rows import RowSampler, SampledRows
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
    keep_partial: bool = False,
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
        keep_partial: with sampled rows, return the graph of the finished rounds after an interruption.
    """
    # 1. Order of the nodes, targets, and rows that are there already.
    row_cache = RowCache() if row_cache is None else row_cache
    start = _TraceStart.of(replacement, targets, row_cache, info.get("segments"))
    order = start.order
    # 2. Rows of the targets and of features, from the last layer to the first.
    sampled: SampledRows | None = None
    with Workers(plan.batch_size.n_workers) as workers:
        if row_budget.sampled:
            sampled = start.sampler(row_budget, plan, workers, progress).run(start.reads, keep_partial)
            rows = sampled.rows
        else:
            selected_by = replacement.features, order, start.target_weights_M, row_budget, start.cached.mask_N
            selection = RowSelection(*selected_by)
            if row_budget.select == "effect":
                assert effects is not None, "checked by TraceConfig"
                selection = EffectRowSelection(*selected_by, weighted_effects(effects, targets)[order.features])
            with progress.phase("computing rows", order.n_features) as step:
                builder = RowBuilder(replacement, order, selection, start.cached, workers)
                builder.add_targets(start.reads, plan.batch_size)
                for layer in reversed(range(replacement.n_layers)):
                    builder.add_layer(layer, plan.batch_size, step)
            rows = builder.finish()
    replacement.free_decoder_vectors()
    # 3. The graph.
    with progress.phase("finishing the graph"):
        row_cache.store(replacement, rows)
        graph = assemble_graph(replacement, targets, rows, info, effects, sampled)
        free_mapped_pages(*rows.csr)
        return graph


def forecast(
    replacement: LocalReplacementModel,
    targets: list[Target],
    row_budget: RowBudget,
    plan: TracePlan,
    *,
    row_cache: RowCache | None,
    progress: Progress,
    segments: Mapping[str, Any] | None = None,
) -> TracePlan:
    """Return the plan of a trace that draws rows, with the rows, the time and the standard error that a pilot predicts.

    Arguments are those of `trace`; `segments` are those that its metadata would have.
    """
    start = _TraceStart.of(replacement, targets, RowCache() if row_cache is None else row_cache, segments)
    with Workers(plan.batch_size.n_workers) as workers:
        found = start.sampler(row_budget, plan, workers, progress).forecast(start.reads)
    return replace(plan, forecast=found)


class _TraceStart(NamedTuple):
    """The order of nodes, targets and cached rows from which the rows of a prompt are computed."""

    replacement: LocalReplacementModel
    order: NodeOrder
    target_weights_M: np.ndarray
    cached: CachedRows
    reads: tuple[Tensor, Tensor]  # positions (T,) and read vectors (T, D) of targets at the unembedding
    spans: Mapping[str, tuple[int, ...]]  # of `Graph.shares`

    @classmethod
    def of(
        cls,
        replacement: LocalReplacementModel,
        targets: list[Target],
        row_cache: RowCache,
        segments: Mapping[str, Any] | None,
    ) -> "_TraceStart":
        added = [target for target in targets if target.feature_index is None]
        order = _node_order(replacement, len(added))
        weights_M = weights_of_targets(target_records(targets, order), order.n_nodes)
        reads = unembedding_reads(replacement, added)
        spans = covering_spans(order.n_tokens, segments)
        return cls(replacement, order, weights_M, row_cache.rows_for(replacement, order), reads, spans)

    def sampler(self, row_budget: RowBudget, plan: TracePlan, workers: Workers, progress: Progress) -> RowSampler:
        given = self.replacement, self.order, self.target_weights_M, row_budget, self.spans
        return RowSampler(*given, plan.batch_size, self.cached, workers, progress)


def _node_order(replacement: LocalReplacementModel, n_added: int) -> NodeOrder:
    """Return the order of the nodes of a prompt's graph, with an error node at every layer and position."""
    n_positions = replacement.n_positions
    return NodeOrder(len(replacement.features), replacement.n_layers * n_positions, n_positions, n_added)

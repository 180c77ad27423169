"""One prompt, traced: from token ids to a graph."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.memory import release_freed_memory
from cotrace.common.progress import Progress
from cotrace.graphs import CSR, Graph, NodeKind, NodeOrder, RowWriter
from cotrace.graphs.influence import node_influence, weights_of_targets
from cotrace.graphs.rows import SparseRows, free_mapped_pages, in_node_order, rows_of_block
from cotrace.graphs.schema import build_table
from cotrace.graphs.scores import graph_scores

from .batches import BatchSize, TargetBatch, feature_batches, unembedding_batches
from .plan import TracePlan
from .replacement import LocalReplacementModel
from .row_cache import KnownRows, RowCache, traced_prompt
from .row_selection import RowBudget, RowSelection, influence_bound
from .sweep import DenseRows, SourceColumns, compute_rows
from .targets import Target


class RowCollector:
    """Streams finished rows to the spool and keeps what becomes columns of the node table."""

    def __init__(self, order: NodeOrder, most_edges: int, value_type: np.dtype):
        self.spool = RowWriter(value_type, order.n_nodes, most_edges)
        self.bias_M = np.ma.masked_array(np.zeros(order.n_nodes, value_type), mask=True)

    def add(self, batch: TargetBatch, rows: DenseRows, known: Iterator[SparseRows]) -> None:
        """Take a batch of finished rows, and known ones between and behind them; the last batch comes first."""
        node_T = batch.node_T.cpu().numpy()
        block = rows.block_TC.cpu().contiguous().numpy()
        self.bias_M[node_T] = rows.bias_T.cpu().numpy()
        fresh = rows_of_block(node_T, block, rows.columns_C.to("cpu", torch.int32).numpy())
        for part in known:
            behind = fresh.node_T > part.node_T[0]
            self.spool.prepend(in_node_order(fresh.only(behind), part))
            fresh = fresh.only(~behind)
        self.spool.prepend(fresh)

    def add_known(self, parts: Iterator[SparseRows]) -> None:
        """Take known rows, the last first."""
        for part in parts:
            self.spool.prepend(part)


class Run:
    """The rows of one prompt on their way: computed, or known from a prompt that begins the same."""

    def __init__(
        self,
        replacement: LocalReplacementModel,
        order: NodeOrder,
        expansion: RowSelection,
        most_edges: int,
        known: KnownRows | None,
    ):
        self.replacement, self.expansion, self.known = replacement, expansion, known
        self.collector = RowCollector(order, most_edges, _numpy_type(replacement.dtype))
        self.columns = SourceColumns(replacement, order)

    def compute(self, batch: TargetBatch, known_T: np.ndarray) -> None:
        """Compute a batch, and take the known rows of features between and behind its own."""
        started = time.monotonic()
        rows = compute_rows(self.replacement, batch, self.columns)
        self.collector.add(batch, rows, self._taken(known_T))
        self.expansion.add(batch, rows, time.monotonic() - started)

    def layer(self, layer: int, size: BatchSize, step: Callable[..., None]) -> None:
        """All rows of a layer's features that are wanted."""
        chosen = self.expansion.choose(layer)
        known = self.expansion.known_N[chosen]
        known_T = chosen[known].cpu().numpy()
        step(len(known_T))
        for batch in feature_batches(self.replacement, layer, chosen[~known], size):
            behind = known_T > int(batch.node_T[0])
            self.compute(batch, known_T[behind])
            known_T = known_T[~behind]
            step(len(batch.node_T))
        self.collector.add_known(self._taken(known_T))
        step(int((self.replacement.features.layer_N == layer).sum()) - len(chosen))

    def _taken(self, node_T: np.ndarray) -> Iterator[SparseRows]:
        """Known rows, the last first; each is accounted for on its way."""
        if self.known is not None and len(node_T):
            self.collector.bias_M[node_T] = self.known.bias(node_T)
            for part in self.known.parts(node_T):
                self.expansion.add_known(part)
                yield part


def trace(
    replacement: LocalReplacementModel,
    targets: list[Target],
    info: dict[str, Any],
    limits: RowBudget,
    plan: TracePlan,
    *,
    prefixes: RowCache | None,
    progress: Progress,
) -> Graph:
    """Compute the rows of one prompt's graph that the limits ask for, from the top, and assemble it.

    `info` is the metadata that the caller knows: model, transcoders, prompt, settings. Rows that `prefixes`
    knows are not computed again, and those of this prompt are remembered there.
    """
    features = replacement.features
    own_rows = [target for target in targets if target.feature_index is None]
    order = NodeOrder(
        len(features), replacement.n_layers * replacement.n_positions, replacement.n_positions, len(own_rows)
    )
    records = _target_records(targets, order)
    weights_M = weights_of_targets(records, order.n_nodes)
    known = None if prefixes is None else prefixes.known_rows(replacement, order)
    expansion = RowSelection(features, order, weights_M, limits, None if known is None else known.known_N)
    run = Run(replacement, order, expansion, replacement.max_edges + len(own_rows) * order.n_nodes, known)
    none = np.empty(0, np.int64)
    reads = _read_by(replacement, own_rows)
    for batch in unembedding_batches(*reads, replacement.n_layers, order.logits.start, plan.batch_size):
        run.compute(batch, none)
    with progress.phase("computing rows", len(features)) as step:
        for layer in reversed(range(replacement.n_layers)):
            run.layer(layer, plan.batch_size, step)
    replacement.decoder_vectors.clear()
    release_freed_memory()
    with progress.phase("finishing the graph"):
        csr = run.collector.spool.finish()
        computed_N, bias_M = expansion.computed_N.cpu().numpy(), run.collector.bias_M
        if prefixes is not None:
            prefixes.remember(
                traced_prompt(replacement, order, computed_N, bias_M[order.features].filled(0).copy(), csr)
            )
        rows = FinishedRows(order, csr, computed_N, bias_M)
        graph = _assemble(replacement, targets, records, rows, info)
        free_mapped_pages(*csr)
        return graph


def _numpy_type(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _read_by(replacement: LocalReplacementModel, targets: list[Target]) -> tuple[Tensor, Tensor]:
    """Positions (T,) and read vectors (T, D) of targets at the final residual stream, through the frozen norm."""
    position_T = torch.tensor([t.position for t in targets], dtype=torch.long, device=replacement.device)
    if not targets:
        return position_T, replacement.embedding_PD[:0]
    directions_TD = torch.stack([t.direction_D for t in targets if t.direction_D is not None])
    scale_T = replacement.final_rms_P[position_T]
    return position_T, directions_TD * replacement.weights.final_norm_D * scale_T[:, None]


class FinishedRows(NamedTuple):
    """All rows of a graph."""

    order: NodeOrder
    csr: CSR
    computed_N: np.ndarray
    """Mask of the features whose rows were computed, (N,) bool."""
    bias_M: np.ma.MaskedArray
    """Contributions of constants, (M,), masked for nodes without a row."""


def _assemble(
    replacement: LocalReplacementModel,
    targets: list[Target],
    records: list[dict[str, Any]],
    rows: FinishedRows,
    info: dict[str, Any],
) -> Graph:
    """Return the graph of finished rows; `records` are the targets as the file records them."""
    order, csr, computed_N, bias_M = rows
    target_weights = weights_of_targets(records, order.n_nodes)
    influence = node_influence(csr, target_weights)
    computed = order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    computed[order.features] = computed_N
    sizes = replacement.n_layers, replacement.n_positions
    bound = influence_bound(replacement.features, order, influence + target_weights, computed_N, *sizes)
    skipped = float(influence[order.features][~computed_N].sum())
    scores = graph_scores(order, csr, target_weights, computed=computed, influence=influence)
    info = {
        **info,
        "targets": records,
        "position": max(record["position"] for record in records),
        "masked_positions": list(replacement.masked_positions),
        "coverage": 1.0 - skipped,
        "bound": float(bound.max(initial=0.0)),
        "traced": {
            "nodes": order.n_nodes,
            "edges": csr.n_edges,
            "rows": int(computed.sum()),
            "scores": {"replacement": scores.replacement, "completeness": scores.completeness},
        },
        "pruning": None,
    }
    columns = _node_columns(replacement, targets, order, info["tokens"], bias_M)
    columns["computed"] = computed
    columns["influence"] = influence.astype(csr.weights.dtype)
    columns["influence_bound"] = _rounded_up(bound, csr.weights.dtype)
    columns["dropped"] = np.zeros(order.n_nodes, csr.weights.dtype)
    return Graph(build_table(order, columns, csr, info), info)


def _rounded_up(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Values in another type, none smaller than it was."""
    rounded = values.astype(kind)
    return np.where(rounded < values, np.nextafter(rounded, np.inf, dtype=kind), rounded)


def _target_records(targets: list[Target], order: NodeOrder) -> list[dict[str, Any]]:
    """What the file records of the targets, each with its node."""
    records, next_row = [], order.logits.start
    for target in targets:
        node = target.feature_index
        if node is None:
            node, next_row = next_row, next_row + 1
        records.append(
            {
                "node": node,
                "kind": target.kind,
                "position": target.position,
                "label": target.label,
                "weight": target.weight,
                "probability": target.probability,
                "token_ids": list(target.token_ids),
            }
        )
    return records


def _node_columns(
    replacement: LocalReplacementModel,
    targets: list[Target],
    order: NodeOrder,
    tokens: list[str],
    bias_M: np.ma.MaskedArray,
) -> dict[str, Any]:
    """Every column but influence and edges, masked where a kind of node has no value."""
    features = replacement.features
    own = [target for target in targets if target.feature_index is None]
    bias_M[order.features] += features.bias_N.cpu().numpy()
    sites = torch.cartesian_prod(torch.arange(replacement.n_layers), torch.arange(replacement.n_positions))
    token_ids = [t.token_ids[0] if t.kind == "token" else None for t in own]
    read_out = [_read_out(replacement, target) for target in own]
    join = _Joiner(order)
    return {
        "layer": join(_numpy(features.layer_N), sites[:, 0].numpy(), None, None),
        "position": join(
            _numpy(features.position_N), sites[:, 1].numpy(), np.arange(order.n_tokens), [t.position for t in own]
        ),
        "feature": join(_numpy(features.feature_N), None, None, None),
        "token": join(None, None, _numpy(replacement.token_ids_P), token_ids),
        "text": [""] * (order.n_features + order.n_errors) + tokens + [target.label for target in own],
        "activation": join(_numpy(features.activation_N), None, None, None),
        "pre_activation": join(_numpy(features.pre_activation_N), None, None, read_out),
        "bias": bias_M,
        "probability": join(None, None, None, [target.probability for target in own]),
    }


def _read_out(replacement: LocalReplacementModel, target: Target) -> float:
    """The centred logit, or the direction's value, that a target's row adds up to."""
    normed = replacement.final_resid_PD[target.position] * replacement.final_rms_P[target.position]
    assert target.direction_D is not None
    return float(normed * replacement.weights.final_norm_D @ target.direction_D)


class _Joiner:
    """Joins one part a kind into a column; a missing part or entry is masked, and becomes null."""

    def __init__(self, order: NodeOrder):
        self._counts = order.counts

    def __call__(self, *parts: Any) -> np.ma.MaskedArray:
        return np.ma.concatenate([self._part(p, n) for p, n in zip(parts, self._counts, strict=True)])

    def _part(self, part: Any, count: int) -> np.ma.MaskedArray:
        if part is None:
            part = [None] * count
        if isinstance(part, list):
            return np.ma.masked_array([0 if v is None else v for v in part], mask=[v is None for v in part])
        return np.ma.masked_array(part, mask=np.zeros(count, bool))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()

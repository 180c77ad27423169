"""Assembly of a graph from finished rows: node table, influence, scores and metadata."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.graphs import CSR, Graph, NodeKind, NodeOrder
from cotrace.graphs.influence import node_influence, rounded_up, weights_of_targets
from cotrace.graphs.sampled_facts import sampled_facts
from cotrace.graphs.sampling import Draws
from cotrace.graphs.schema import build_table
from cotrace.graphs.scores import graph_scores

from .replacement import LocalReplacementModel
from .row_selection import influence_bound
from .targets import Target


class GraphRows(NamedTuple):
    """The finished rows of a graph."""

    order: NodeOrder
    csr: CSR
    computed_N: np.ndarray
    """Features whose rows were computed, (N,) bool."""
    bias_M: np.ma.MaskedArray
    """Contributions of constants without encoder biases, (M,), masked for nodes without a row."""

    def __repr__(self) -> str:
        return f"<GraphRows: {int(self.computed_N.sum()):,} of {len(self.computed_N):,} features, {self.csr!r}>"


class SampledRows(NamedTuple):
    """The rows of a trace that drew them, and the draws."""

    rows: GraphRows
    draws: Draws | None
    """None if every row was drawn for certain."""
    inclusion_N: np.ndarray
    """Probability with which a replicate drew each row, averaged over replicates, (N,)."""
    n_added: int
    """Rows that were computed for the circuit and not drawn."""
    partial: bool
    """Whether the computation was interrupted."""

    def __repr__(self) -> str:
        return f"<SampledRows: {self.rows!r}, {self.n_added:,} of them added>"


class TracedEffects(NamedTuple):
    """Effects of features, error nodes and tokens, in node order, on K targets; a graph saves them with its nodes."""

    total_KM: np.ndarray
    """Contributions over all paths with attention patterns, norm scales and active features frozen."""
    expected_KM: np.ndarray
    """Changes of the targets that are expected when a node is ablated."""

    def __repr__(self) -> str:
        return f"<TracedEffects of {self.total_KM.shape[1]:,} nodes on {len(self.total_KM):,} targets>"


def assemble_graph(
    replacement: LocalReplacementModel,
    targets: list[Target],
    rows: GraphRows,
    info: dict[str, Any],
    effects: TracedEffects | None = None,
    sampled: SampledRows | None = None,
) -> Graph:
    """Return the graph of a traced prompt.

    Args:
        replacement: the prompt's local replacement model.
        targets: the targets, with directions and weights.
        rows: the finished rows.
        info: metadata of the caller: model, transcoders, prompt, tokens, settings.
        effects: effects on the targets, in their order; None to save none.
        sampled: the draws of rows that were drawn at random.
    """
    order, csr = rows.order, rows.csr
    records = target_records(targets, order)
    target_weights_M = weights_of_targets(records, order.n_nodes)
    # 1. Influence along the computed rows, and how much of it each node may lack.
    influence_M = node_influence(csr, target_weights_M)
    sizes = replacement.n_layers, replacement.n_positions
    bound_M = influence_bound(replacement.features, order, influence_M + target_weights_M, rows.computed_N, *sizes)
    skipped_influence = float(influence_M[order.features][~rows.computed_N].sum())
    computed_M = order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    computed_M[order.features] = rows.computed_N
    traced: dict[str, Any] = {
        "nodes": order.n_nodes,
        "edges": csr.n_edges,
        "rows": int(computed_M.sum()),
        "coverage": 1.0 - skipped_influence,
        "bound": float(bound_M.max(initial=0.0)),
    }
    # 2. Scores, and estimates from draws.
    columns = _node_columns(replacement, targets, rows, info["tokens"])
    columns["computed"] = computed_M
    columns["influence"] = influence_M.astype(csr.weights.dtype)
    columns["influence_bound"] = rounded_up(bound_M, csr.weights.dtype)
    columns["dropped"] = np.zeros(order.n_nodes, csr.weights.dtype)
    if sampled is None or sampled.draws is None:
        scores = graph_scores(order, csr, target_weights_M, computed=computed_M, influence=influence_M)
        traced["scores"] = scores.entries()
    else:
        facts = sampled_facts(
            order,
            csr,
            target_weights_M,
            sampled.draws,
            sampled.inclusion_N,
            certified_M=influence_M,
            computed_M=computed_M,
            seeds=[info["settings"]["seed"]],
            partial=sampled.partial,
            segments=info.get("segments"),
        )
        columns |= facts.columns
        traced |= facts.traced
    # 3. Metadata and node table.
    info = {
        **info,
        "targets": records,
        "position": max(record["position"] for record in records),
        "masked_positions": list(replacement.masked_positions),
        "traced": traced,
        "pruning": None,
    }
    if effects is not None:
        columns["effect"], columns["expected_effect"] = effects
        effect_N = weighted_effects(effects, targets)[order.features]
        share = effect_N[rows.computed_N].sum() / (effect_N.sum() or 1.0) if len(effect_N) else 1.0
        info["traced"]["effect_coverage"] = float(share)
    return Graph(build_table(order, columns, csr, info), info)


def weighted_effects(effects: TracedEffects, targets: list[Target]) -> np.ndarray:
    """Return the absolute total effect of each node, averaged over the targets by their weights, (M,) float64."""
    return np.array([target.weight for target in targets]) @ np.abs(effects.total_KM.astype(np.float64))


def target_records(targets: list[Target], order: NodeOrder) -> list[dict[str, Any]]:
    """Return the targets as they are saved in a graph file, each with its node number."""
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
    replacement: LocalReplacementModel, targets: list[Target], rows: GraphRows, tokens: list[str]
) -> dict[str, Any]:
    """Return the columns that do not depend on edges, masked where a kind of node has no value."""
    features, order = replacement.features, rows.order
    added = [target for target in targets if target.feature_index is None]
    sites = torch.cartesian_prod(torch.arange(replacement.n_layers), torch.arange(replacement.n_positions)).numpy()
    positions = _numpy(features.position_N), sites[:, 1], np.arange(order.n_tokens), [t.position for t in added]
    token_ids = [t.token_ids[0] if t.kind == "token" else None for t in added]
    outputs = [_target_value(replacement, target) for target in added]
    bias_M = rows.bias_M.copy()
    bias_M[order.features] += _numpy(features.bias_N)
    return {
        "layer": _column(order, _numpy(features.layer_N), sites[:, 0], None, None),
        "position": _column(order, *positions),
        "feature": _column(order, _numpy(features.feature_N), None, None, None),
        "token": _column(order, None, None, _numpy(replacement.token_ids_P), token_ids),
        "text": [""] * (order.n_features + order.n_errors) + tokens + [target.label for target in added],
        "activation": _column(order, _numpy(features.activation_N), None, None, None),
        "pre_activation": _column(order, _numpy(features.pre_activation_N), None, None, outputs),
        "bias": bias_M,
        "probability": _column(order, None, None, None, [target.probability for target in added]),
    }


def _target_value(replacement: LocalReplacementModel, target: Target) -> float:
    """Return the centred logit, or the direction's dot product, that a target's row and bias add up to."""
    assert target.direction_D is not None
    normed_D = replacement.final_resid_PD[target.position] * replacement.final_rms_P[target.position]
    return float(normed_D * replacement.weights.final_norm_D @ target.direction_D)


def _column(order: NodeOrder, *parts: Any) -> np.ma.MaskedArray:
    """Return one column (M,) from a part for each kind of node; parts and entries that are None are masked."""
    return np.ma.concatenate([_masked(part, n) for part, n in zip(parts, order.counts, strict=True)])


def _masked(part: Any, count: int) -> np.ma.MaskedArray:
    if part is None:
        part = [None] * count
    if isinstance(part, list):
        return np.ma.masked_array([0 if v is None else v for v in part], mask=[v is None for v in part])
    return np.ma.masked_array(part, mask=np.zeros(count, bool))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()

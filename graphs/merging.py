"""Sampled graphs of one prompt, from other seeds, joined: all rows, all replicates, smaller errors."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError

from .csr import CSR, indptr_of
from .data import GraphData
from .influence import bound_of_missing_rows, node_influence, rounded_up
from .order import NodeKind
from .sampled_facts import sampled_facts
from .sampling import Draws
from .saved_effects import has_effects, saved_effects
from .schema import HEADS, build_table

SAME = ("model", "transcoders", "token_ids", "masked_positions", "targets", HEADS)  # entries of the metadata
SITES = ("kind", "layer", "position", "feature")
OWN_OF_A_SAMPLE = ("seed", "max_seconds")  # settings that samples of one graph need not share


def merged_table(graphs: Sequence[GraphData]) -> tuple[pa.Table, dict[str, Any]]:
    """Return the node table and the metadata of the graph of several samples; arguments and errors as `Graph.merge`."""
    check_mergeable(graphs)
    first, draws = graphs[0], _side_by_side(graphs)
    owner_M = np.argmax([graph.computed for graph in graphs], axis=0)  # rows are exact: any graph that has one will do
    csr, computed_M = _rows_of_all(graphs, owner_M), np.any([graph.computed for graph in graphs], axis=0)
    samples = [graph.info["traced"]["sampling"] for graph in graphs]
    certified_M = node_influence(csr, first.target_weights)
    facts = sampled_facts(
        first.order,
        csr,
        first.target_weights,
        draws,
        _mean_inclusion(graphs),
        certified_M=certified_M,
        computed_M=computed_M,
        seeds=[seed for sample in samples for seed in sample["seeds"]],
        partial=any(sample["partial"] for sample in samples),
        segments=first.info.get("segments"),
    )
    skipped_M = first.order.has_kind(NodeKind.FEATURE) & ~computed_M
    layer_M = first.column("layer", missing=-1).astype(np.int64)
    layer_M[first.order.logits] = first.info["model"]["n_layers"]
    position_M = first.column("position", missing=0).astype(np.int64)
    bound_M = bound_of_missing_rows(layer_M, position_M, certified_M + first.target_weights, skipped_M)
    traced = {
        "edges": csr.n_edges,
        "rows": int(computed_M.sum()),
        "coverage": 1.0 - float(certified_M[skipped_M].sum()),
        "bound": float(bound_M.max(initial=0.0)),
        **facts.traced,
    }
    columns: dict[str, Any] = {
        name: first.nodes[name].chunk(0)
        for name in first.nodes.column_names
        if name not in ("node", "kind", "sources", "weights")
    }
    columns["bias"] = np.ma.masked_invalid(_of_owners(owner_M, [graph.column("bias") for graph in graphs]))
    columns |= {**facts.columns, "influence_bound": rounded_up(bound_M, csr.weights.dtype), "computed": computed_M}
    if HEADS in first.info:
        columns[HEADS] = _lists_of_all(graphs, owner_M, HEADS)
    info = _merged_info(first, traced, computed_M)
    return build_table(first.order, columns, csr, info), info


def check_mergeable(graphs: Sequence[GraphData]) -> None:
    """Raise ArgumentError, which says what differs, unless graphs are samples of one graph with different seeds."""
    first, seeds = graphs[0], list[int]()
    for number, graph in enumerate(graphs, 1):
        if not graph.sampled:
            raise ArgumentError(
                f"graph {number} has no draws: merge graphs that were traced with sampled=True and not pruned"
            )
        differing = [name for name in SAME if graph.info.get(name) != first.info.get(name)]
        differing += [name for name in SITES if not differing and not graph.nodes[name].equals(first.nodes[name])]
        if differing:
            raise ArgumentError(
                f"graph {number} has another {differing[0].replace('_', ' ')} than graph 1: merge samples of one graph"
            )
        settings = [{**each.info["settings"], **dict.fromkeys(OWN_OF_A_SAMPLE)} for each in (first, graph)]
        unequal = sorted(name for name in settings[0] | settings[1] if settings[0].get(name) != settings[1].get(name))
        if unequal:
            raise ArgumentError(
                f"graph {number} was traced with another {unequal[0]} than graph 1: merge graphs that differ in seed alone"
            )
        for seed in graph.info["traced"]["sampling"]["seeds"]:
            if seed in seeds:
                raise ArgumentError(f"seed {seed} is in graph {number} and an earlier one: merge graphs of other seeds")
        seeds += graph.info["traced"]["sampling"]["seeds"]


def _side_by_side(graphs: Sequence[GraphData]) -> Draws:
    """Return the draws of all graphs, their replicates side by side."""
    parts = [graph.draws for graph in graphs if graph.draws is not None]
    row_D = np.unique(np.concatenate([part.row_D for part in parts]))
    factor_DR = np.zeros((len(row_D), sum(part.n_replicates for part in parts)))
    before = 0
    for part in parts:
        factor_DR[np.searchsorted(row_D, part.row_D), before : before + part.n_replicates] = part.factor_DR
        before += part.n_replicates
    return Draws(row_D, factor_DR)


def _mean_inclusion(graphs: Sequence[GraphData]) -> np.ndarray:
    """Return the probability that a replicate draws each feature's row, the mean over all replicates, (N,)."""
    counts = [graph.info["traced"]["sampling"]["replicates"] for graph in graphs]
    return np.average([graph.column("inclusion")[graph.order.features] for graph in graphs], axis=0, weights=counts)


def _rows_of_all(graphs: Sequence[GraphData], owner_M: np.ndarray) -> CSR:
    """Return the edges of all graphs, the row of each node from the graph that owns it."""
    indices, weights = (_lists_of_all(graphs, owner_M, name) for name in ("sources", "weights"))
    return CSR(indices.offsets.to_numpy(), indices.values.to_numpy(), weights.values.to_numpy())


def _lists_of_all(graphs: Sequence[GraphData], owner_M: np.ndarray, name: str) -> pa.LargeListArray:
    """Return a list column whose entry for each node is that of the graph which owns the node."""
    columns = [graph.nodes[name].chunk(0) for graph in graphs]
    lengths_M = _of_owners(owner_M, [np.diff(column.offsets.to_numpy()) for column in columns])
    offsets = indptr_of(lengths_M)
    values = np.empty(offsets[-1], columns[0].values.to_numpy().dtype)
    for number, column in enumerate(columns):
        rows = np.flatnonzero(owner_M == number)
        _copy_rows(column.offsets.to_numpy(), column.values.to_numpy(), rows, offsets, values)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _of_owners(owner_M: np.ndarray, value_GM: list[np.ndarray]) -> np.ndarray:
    """Return the value of each node in the graph that owns it, (M,)."""
    return np.stack(value_GM)[owner_M, np.arange(len(owner_M))]


def _merged_info(first: GraphData, traced: dict[str, Any], computed_M: np.ndarray) -> dict[str, Any]:
    """Return the metadata of the first graph, with what is known from all."""
    info = copy.deepcopy(first.info)
    info.pop("validation", None)  # it measured the features that were known then
    if has_effects(first):
        weights = [target["weight"] for target in info["targets"]]
        effect_KM = np.nan_to_num(np.abs(saved_effects(first, info["targets"], "total").astype(np.float64)))
        effect_N = (weights @ effect_KM)[first.order.features]
        covered = effect_N[computed_M[first.order.features]].sum()
        traced = {**traced, "effect_coverage": float(covered / effect_N.sum()) if effect_N.sum() > 0 else 1.0}
    return {**info, "traced": {**info["traced"], **traced}}


@compiled
def _copy_rows(offsets, values, rows, new_offsets, new_values):
    for row in rows:
        start, length = offsets[row], offsets[row + 1] - offsets[row]
        new_values[new_offsets[row] : new_offsets[row] + length] = values[start : start + length]

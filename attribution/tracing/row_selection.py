"""Selection of the rows to compute: layer by layer from the top, the features of each layer that matter most.

Before a layer is selected, all rows above it are finished, so the influence of its features over all paths through
computed rows is known. A walk against the edges, in which each step is drawn in proportion to the absolute edges of a
row, visits a node at most once. A skipped feature would therefore pass on at most its own influence to any node, which
bounds the influence that a node may lack (`influence_bound`).
"""

import time

import numpy as np
import torch
from torch import Tensor

from cotrace.graphs import NodeOrder
from cotrace.graphs.influence import bound_of_missing_rows
from cotrace.graphs.rows import SparseRows

from .activations import ActiveFeatures
from .batches import TargetBatch
from .config import RowBudget
from .sweep import DenseRows

UNTIMED_ROWS = 32  # rows of a layer under `max_seconds` before any row was timed


class RowSelection:
    """Selects the features of each layer whose rows are computed, from the influence over the rows above.

    The influence that may be skipped is divided equally among the remaining layers; the part that a layer does not use
    is passed to the layers below. `max_features` is divided by the layers' numbers of features, `max_seconds` by the cost of their
    rows. Features that are targets are always selected.

    Args:
        features: the active features.
        order: the order of the graph's nodes.
        target_weights_M: weight of every node as a target, (M,).
        budget: limits of the rows.
        cached_N: features whose rows need not be computed, (N,) bool.
    """

    def __init__(
        self,
        features: ActiveFeatures,
        order: NodeOrder,
        target_weights_M: np.ndarray,
        budget: RowBudget,
        cached_N: np.ndarray,
    ):
        device = features.layer_N.device
        self.budget, self.started = budget, time.monotonic()
        self.weight_M = torch.from_numpy(target_weights_M).to(device)
        self.influence_M = torch.zeros(order.n_nodes, dtype=torch.float64, device=device)
        self.computed_N = torch.zeros(len(features), dtype=torch.bool, device=device)
        self.layer_N = features.layer_N
        self.cached_N = torch.from_numpy(cached_N).to(device)
        self.cost_N = torch.where(self.cached_N, 0, row_cost(features.layer_N, features.position_N))
        self.skippable_influence = 1 - budget.coverage
        self.finished_cost, self.finished_seconds = 0, 0.0

    def __repr__(self) -> str:
        return f"<RowSelection: {int(self.computed_N.sum()):,} of {len(self.computed_N):,} features so far>"

    def add_rows(self, batch: TargetBatch, rows: DenseRows, seconds: float) -> None:
        """Pass influence on along computed rows; `seconds` is the time that they took."""
        self.computed_N[batch.node_T[batch.node_T < len(self.computed_N)]] = True
        if self.budget.all_rows:
            return
        share_TC = rows.block_TC.abs()
        total_T = share_TC.sum(1).double()
        mass_T = (self.influence_M + self.weight_M)[batch.node_T] / torch.where(total_T > 0, total_T, 1)
        self.influence_M[rows.columns_C] += (mass_T.to(share_TC) @ share_TC).double()
        self.finished_cost += int(row_cost(batch.layer, batch.position_T).sum())
        self.finished_seconds += seconds

    def add_cached_rows(self, rows: SparseRows) -> None:
        """Pass influence on along rows from the cache."""
        node_T = torch.from_numpy(rows.node_T).to(self.computed_N.device)
        self.computed_N[node_T] = True
        if self.budget.all_rows:
            return
        row_E, size_E = np.repeat(np.arange(len(rows.node_T)), rows.count_T), np.abs(rows.weights_E)
        total_T = np.bincount(row_E, size_E, minlength=len(rows.node_T))
        mass_T = (self.influence_M + self.weight_M)[node_T].cpu().numpy() / np.where(total_T > 0, total_T, 1)
        passed_M = np.bincount(rows.indices_E, mass_T[row_E] * size_E, minlength=len(self.influence_M))
        self.influence_M += torch.from_numpy(passed_M).to(self.influence_M)

    def select(self, layer: int) -> Tensor:
        """Return the selected features of a layer by index, ascending. All rows above must have been added."""
        in_layer = (self.layer_N == layer).nonzero()[:, 0]
        if self.budget.all_rows:
            return in_layer
        # 1. Rank: targets first, then by influence.
        influence_n, target_n = self.influence_M[in_layer], self.weight_M[in_layer] > 0
        order = torch.argsort(torch.where(target_n, torch.inf, influence_n), descending=True, stable=True)
        # 2. Number of features that the limits allow.
        rest_n = influence_n[order].flip(0).cumsum(0).flip(0)  # influence of each feature and all that rank below it
        count = int((rest_n > max(self.skippable_influence, 0.0) / (layer + 1)).sum())
        count = min(count, self._max_features(layer, len(in_layer)), self._max_rows_in_time(layer, in_layer[order]))
        count = max(count, int(target_n.sum()))
        # 3. Subtract what is skipped here from what the layers below may skip.
        self.skippable_influence -= float(rest_n[count]) if count < len(in_layer) else 0.0
        return in_layer[order[:count]].sort().values

    def _max_features(self, layer: int, n_in_layer: int) -> int:
        if self.budget.max_features is None:
            return n_in_layer
        left = self.budget.max_features - int(self.computed_N.sum())
        share = n_in_layer / max(1, int((self.layer_N <= layer).sum()))
        return max(0, min(left, int(np.ceil(left * share))))

    def _max_rows_in_time(self, layer: int, ranked: Tensor) -> int:
        if self.budget.max_seconds is None:
            return len(ranked)
        left = self.budget.max_seconds - (time.monotonic() - self.started)
        if not self.finished_cost:
            return int(((~self.cached_N[ranked]).cumsum(0) <= UNTIMED_ROWS).sum()) if left > 0 else 0
        share = float(self.cost_N[ranked].sum() / self.cost_N[self.layer_N <= layer].sum().clamp(min=1))
        seconds_n = self.cost_N[ranked].cumsum(0) * (self.finished_seconds / self.finished_cost)
        return int((seconds_n <= left * share).sum())


class EffectRowSelection(RowSelection):
    """Selects the features with the largest total effects on the targets, which are known before the first row.

    `coverage` is the share of the sum of absolute effects over features. Features that are targets are always selected.

    Args:
        effect_N: absolute effect of each feature, averaged over the targets by their weights, (N,).
        The others are those of `RowSelection`.
    """

    def __init__(
        self,
        features: ActiveFeatures,
        order: NodeOrder,
        target_weights_M: np.ndarray,
        budget: RowBudget,
        cached_N: np.ndarray,
        effect_N: np.ndarray,
    ):
        super().__init__(features, order, target_weights_M, budget, cached_N)
        share_N = torch.from_numpy(effect_N / (effect_N.sum() or 1.0)).to(self.layer_N.device)
        self.target_N = self.weight_M[: len(features)] > 0
        ranked = torch.argsort(torch.where(self.target_N, torch.inf, share_N), descending=True, stable=True)
        rest = share_N[ranked].flip(0).cumsum(0).flip(0)  # effect of each feature and all that rank below it
        count = int((rest > 1 - budget.coverage).sum())
        if budget.max_features is not None:
            count = min(count, budget.max_features)
        self.ranked = ranked[: max(count, int(self.target_N.sum()))]

    def select(self, layer: int) -> Tensor:
        """Return the selected features of a layer by index, ascending. All rows above must have been added."""
        if self.budget.all_rows:
            return super().select(layer)
        below = self.ranked[self.layer_N[self.ranked] <= layer]
        kept = below[self._in_time(layer, below) | self.target_N[below]]
        return kept[self.layer_N[kept] == layer].sort().values

    def _in_time(self, layer: int, ranked: Tensor) -> Tensor:
        """Return which of the ranked features at this layer and below can be computed in the time that is left."""
        if self.budget.max_seconds is None:
            return torch.ones_like(ranked, dtype=torch.bool)
        left = self.budget.max_seconds - (time.monotonic() - self.started)
        if not self.finished_cost:
            here = (self.layer_N[ranked] == layer) & ~self.cached_N[ranked]
            return (here.cumsum(0) <= UNTIMED_ROWS) & (left > 0)
        return self.cost_N[ranked].cumsum(0) * (self.finished_seconds / self.finished_cost) <= left


def row_cost(layer: Tensor | int, position: Tensor) -> Tensor:
    """Return the number of layers times positions that each row's gradient passes."""
    return (layer + 1) * (position + 1)


def influence_bound(
    features: ActiveFeatures,
    order: NodeOrder,
    mass_M: np.ndarray,
    computed_N: np.ndarray,
    n_layers: int,
    n_positions: int,
) -> np.ndarray:
    """Return an upper bound for the influence that each node lacks because rows were not computed, (M,).

    Args:
        features: the active features.
        order: the order of nodes; every layer and position has an error node.
        mass_M: influence of every node plus its weight as a target, (M,).
        computed_N: features whose rows were computed, (N,) bool.
        n_layers: number of layers L.
        n_positions: number of positions P.
    """
    site_layers, site_positions = np.indices((n_layers, n_positions)).reshape(2, -1)
    ends = np.repeat([-1, n_layers], [n_positions, order.n_logits])  # tokens, logits
    layer_M = np.concatenate([features.layer_N.cpu().numpy(), site_layers, ends])
    at_ends = np.arange(len(ends)) % n_positions  # of logits, any position
    position_M = np.concatenate([features.position_N.cpu().numpy(), site_positions, at_ends])
    skipped_M = np.append(~computed_N, np.zeros(order.n_nodes - order.n_features, bool))
    return bound_of_missing_rows(layer_M, position_M, mass_M, skipped_M)

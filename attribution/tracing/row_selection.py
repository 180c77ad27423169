"""Which rows are computed: layer by layer from the top, the most influential features of each.

The influence of a layer's features over all paths through computed rows is known when the rows above
are: nothing is ranked twice, and nothing guessed. A walk along edges against their direction, each step
drawn by its share of a row, visits a node at most once, so what a skipped feature would have passed on
to any node is at most its own influence: that bounds what a node may be missing.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError
from cotrace.graphs import NodeOrder
from cotrace.graphs.rows import SparseRows

from .activations import ActiveFeatures
from .batches import TargetBatch
from .sweep import DenseRows

FIRST_ROWS = 32  # of a layer when nothing is known yet of how long rows take


@dataclass(frozen=True)
class RowBudget:
    """What ends the expansion of a layer: coverage reached, or features or seconds used up.

    Raises ValueError for limits that make no sense.
    """

    coverage: float = 1.0
    max_features: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        # As Python's own numbers, since they are written into the file.
        object.__setattr__(self, "coverage", float(self.coverage))
        if not 0 < self.coverage <= 1:
            raise CotraceError(f"coverage is {self.coverage}: it is a share of the influence, above 0 and at most 1")
        if self.max_features is not None:
            object.__setattr__(self, "max_features", as_index(self.max_features, "max_features"))
            if self.max_features < 0:
                raise CotraceError(f"max_features is {self.max_features}; it must be at least 0")
        if self.max_seconds is not None:
            object.__setattr__(self, "max_seconds", float(self.max_seconds))
            if not 0 < self.max_seconds < math.inf:
                raise CotraceError(f"max_seconds is {self.max_seconds}; it must be above 0, or left out for no limit")

    @property
    def all_rows(self) -> bool:
        """Whether every row is computed."""
        return self.coverage == 1 and self.max_features is None and self.max_seconds is None


class RowSelection:
    """The state of one prompt's expansion: influence so far, what was skipped, what is left of the limits.

    Each layer may skip its share of the influence that may be skipped in all: equal shares, and what a
    layer leaves goes to those below. Limits of features and of seconds are shared by the work that the
    layers are: their number of features, and the work of their rows.
    """

    def __init__(
        self,
        features: ActiveFeatures,
        order: NodeOrder,
        target_weights_M: np.ndarray,
        limits: RowBudget,
        known_N: np.ndarray | None = None,
    ):
        device = features.layer_N.device
        self.limits, self.started = limits, time.monotonic()
        self.weight_M = torch.from_numpy(target_weights_M).to(device)
        self.influence_M = torch.zeros(order.n_nodes, dtype=torch.float64, device=device)
        self.computed_N = torch.zeros(len(features), dtype=torch.bool, device=device)
        self.layer_N = features.layer_N
        self.known_N = torch.zeros_like(self.computed_N) if known_N is None else torch.from_numpy(known_N).to(device)
        self.work_N = torch.where(self.known_N, 0, _work(features.layer_N, features.position_N))
        self.may_skip = 1 - limits.coverage
        self.work_done, self.seconds_done = 0, 0.0

    def add(self, batch: TargetBatch, rows: DenseRows, seconds: float) -> None:
        """Take finished rows, in whatever order above their layer, and the time they took."""
        self.computed_N[batch.node_T[batch.node_T < len(self.computed_N)]] = True
        if self.limits.all_rows:
            return
        share_TC = rows.block_TC.abs()
        total_T = share_TC.sum(1).double()
        mass_T = (self.influence_M + self.weight_M)[batch.node_T] / torch.where(total_T > 0, total_T, 1)
        self.influence_M[rows.columns_C] += (mass_T.to(share_TC) @ share_TC).double()
        self.work_done += int(_work(batch.layer, batch.position_T).sum())
        self.seconds_done += seconds

    def add_known(self, rows: SparseRows) -> None:
        """Take rows that did not have to be computed."""
        node_T = torch.from_numpy(rows.node_T).to(self.computed_N.device)
        self.computed_N[node_T] = True
        if self.limits.all_rows:
            return
        row_E, size_E = np.repeat(np.arange(len(rows.node_T)), rows.count_T), np.abs(rows.weights_E)
        total_T = np.bincount(row_E, size_E, minlength=len(rows.node_T))
        mass_T = (self.influence_M + self.weight_M)[node_T].cpu().numpy() / np.where(total_T > 0, total_T, 1)
        passed_M = np.bincount(rows.indices_E, mass_T[row_E] * size_E, minlength=len(self.influence_M))
        self.influence_M += torch.from_numpy(passed_M).to(self.influence_M)

    def choose(self, layer: int) -> Tensor:
        """Features of a layer whose rows are to be computed, ascending; all rows above are there."""
        mine = (self.layer_N == layer).nonzero()[:, 0]
        if self.limits.all_rows:
            return mine
        influence_n, wanted_n = self.influence_M[mine], self.weight_M[mine] > 0
        order = torch.argsort(torch.where(wanted_n, torch.inf, influence_n), descending=True, stable=True)
        left_out = influence_n[order].flip(0).cumsum(0).flip(0)  # were this one and all after it skipped
        n_chosen = int((left_out > max(self.may_skip, 0.0) / (layer + 1)).sum())
        n_chosen = min(n_chosen, self._features_allowed(layer, len(mine)), self._rows_in_time(layer, mine[order]))
        n_chosen = max(n_chosen, int(wanted_n.sum()))
        self.may_skip -= float(left_out[n_chosen]) if n_chosen < len(mine) else 0.0
        return mine[order[:n_chosen]].sort().values

    def _features_allowed(self, layer: int, n_here: int) -> int:
        if self.limits.max_features is None:
            return n_here
        left = self.limits.max_features - int(self.computed_N.sum())
        share = n_here / max(1, int((self.layer_N <= layer).sum()))
        return max(0, min(left, int(np.ceil(left * share))))

    def _rows_in_time(self, layer: int, ranked: Tensor) -> int:
        if self.limits.max_seconds is None:
            return len(ranked)
        left = self.limits.max_seconds - (time.monotonic() - self.started)
        if not self.work_done:
            return int(((~self.known_N[ranked]).cumsum(0) <= FIRST_ROWS).sum()) if left > 0 else 0
        share = float(self.work_N[ranked].sum() / self.work_N[self.layer_N <= layer].sum().clamp(min=1))
        seconds_n = self.work_N[ranked].cumsum(0) * (self.seconds_done / self.work_done)
        return int((seconds_n <= left * share).sum())


def _work(layer: Tensor | int, position: Tensor) -> Tensor:
    """Layers and positions that rows pass through."""
    return (layer + 1) * (position + 1)


def influence_bound(
    features: ActiveFeatures,
    order: NodeOrder,
    mass_M: np.ndarray,
    computed_N: np.ndarray,
    n_layers: int,
    n_positions: int,
) -> np.ndarray:
    """How much influence each node may lack, (M,): that of skipped features at higher layers and no earlier positions.

    Only those can pass any on to it, and none more than its own: `mass_M`, with its weight as a target.
    """
    layer_N, position_N = features.layer_N.cpu().numpy(), features.position_N.cpu().numpy()
    skipped_LP = np.zeros((n_layers + 1, n_positions))
    skipped = ~computed_N
    np.add.at(skipped_LP, (layer_N[skipped], position_N[skipped]), mass_M[: len(layer_N)][skipped])
    later_LP = skipped_LP[::-1, ::-1].cumsum(0).cumsum(1)[::-1, ::-1]  # at this layer or above, this position or later
    sites = np.indices((n_layers, n_positions)).reshape(2, -1)
    bound_M = np.zeros(order.n_nodes)
    bound_M[order.features] = later_LP[layer_N + 1, position_N]
    bound_M[order.errors] = later_LP[sites[0] + 1, sites[1]]
    bound_M[order.tokens] = later_LP[0]
    return bound_M

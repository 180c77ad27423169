"""Rows that are drawn at random with known probabilities, for unbiased influence from a few rows.

Several replicates go down the layers together. Each estimates the influence of every node over the rows above, and draws
the features of the next layer in proportion to that influence; a drawn row passes on more, by one over its probability
(docs/influence.md, "Influence from sampled rows").
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.common.compiled import compiled
from cotrace.graphs import NodeOrder
from cotrace.graphs.rows import SparseRows

from .activations import ActiveFeatures
from .batches import TargetBatch
from .row_selection import UNTIMED_ROWS, row_cost
from .sweep import DenseRows

LEAST_ROWS = 1.0  # that a replicate expects to draw in a layer: with fewer, its influence would often end there
CERTAIN = 0.8  # larger probabilities become 1: replicates that all draw such a row would agree on a value that is slightly wrong
MOST_ROWS_AT_LEAST = 2  # of a replicate in a layer where it expects LEAST_ROWS
BISECTIONS = 50  # of the logarithm of the scale of probabilities
NEGLIGIBLE = 1e-30  # share of the largest weight below which a weight is drawn for certain only if all are


class DrawLimits(NamedTuple):
    """Limits of the rows that a round of replicates draws; rows that are there already do not count."""

    rows: float
    """Expected number of rows, infinite for no limit."""
    most_rows: float
    """Number of rows that is never exceeded, infinite for no limit."""
    seconds: float | None = None
    """Time, about; None for no limit."""


class LayerDraw(NamedTuple):
    """The draw of a layer's n features by R replicates."""

    first: int
    """Number of the layer's first feature."""
    inclusion_nR: np.ndarray
    """Probability of each draw, given the rows above and the draws of the replicates before."""
    factor_nR: np.ndarray
    """1 / probability for drawn features, 0 for others."""

    def __repr__(self) -> str:
        return f"<LayerDraw: {int(self.drawn_n.sum()):,} of {len(self.factor_nR):,} features>"

    @property
    def drawn_n(self) -> np.ndarray:
        """Features that any replicate drew, (n,) bool."""
        return np.asarray((self.factor_nR > 0).any(axis=1))


def least_limit(n_replicates: int, n_layers: int) -> int:
    """Return the smallest number of rows that `DrawLimits.most_rows` may allow beside those of targets."""
    return MOST_ROWS_AT_LEAST * n_replicates * n_layers


class SampledRowSelection:
    """Draws the rows of each layer for several replicates, one after another; a row that several draw is computed once.

    The probability of a row is `c x / sqrt(cost)`, or 1 where that is above 0.8. x is the influence of its feature over the
    replicate's rows above; the scale c lets each of the remaining layers cost as much as this one. Rows that a replicate
    before has drawn are drawn for certain, since they cost nothing more; so are features that are targets, and rows that are
    there already.
    All of this depends on earlier draws only, so that every replicate is unbiased and no two are correlated.

    Args:
        features: the active features.
        order: the order of the graph's nodes.
        n_layers: number of layers L.
        target_weights_M: weight of every node as a target, (M,).
        cached_N: features whose rows need not be computed, (N,) bool.
        known_N: those of them that this trace has computed before, which every replicate draws, (N,) bool.
        seeds: a seed for each replicate.
        limits: limits of the rows.
        timed: cost and seconds of rows that were computed before, to predict the time of the first ones.
    """

    def __init__(
        self,
        features: ActiveFeatures,
        order: NodeOrder,
        n_layers: int,
        target_weights_M: np.ndarray,
        cached_N: np.ndarray,
        known_N: np.ndarray,
        seeds: Sequence[Sequence[int]],
        limits: DrawLimits,
        timed: tuple[float, float] = (0.0, 0.0),
    ):
        device, n_features = features.layer_N.device, len(features)
        self.limits, self.started = limits, time.monotonic()
        self.influence_MR = np.zeros((order.n_nodes, len(seeds)))
        self.computed_N = torch.zeros(n_features, dtype=torch.bool, device=device)
        self.cached_N, self._cached_on_host = torch.from_numpy(cached_N).to(device), cached_N
        self.draws: list[LayerDraw] = []
        self.n_drawn = 0  # rows that were not known
        self._weight_M, self._known_N = target_weights_M, known_N
        self._always_N = known_N | (target_weights_M[:n_features] > 0)
        self._cost_N = row_cost(features.layer_N, features.position_N).cpu().numpy().astype(np.float64)
        self._starts = np.searchsorted(features.layer_N.cpu().numpy(), np.arange(n_layers + 1))
        self._generators = [np.random.default_rng(list(seed)) for seed in seeds]
        self.timed = 0.0, 0.0  # cost and seconds of the rows of this round
        self._timed_before = timed

    def __repr__(self) -> str:
        return f"<SampledRowSelection: {self.n_replicates} replicates, {self.n_drawn:,} rows so far>"

    @property
    def n_replicates(self) -> int:
        """Number of replicates R."""
        return self.influence_MR.shape[1]

    def select(self, layer: int) -> Tensor:
        """Return the features of a layer that any replicate draws by index, ascending. All rows above must have been added."""
        in_layer = self._in_layer(layer)
        weight_nR = self.influence_MR[in_layer] / np.sqrt(self._cost_N[in_layer, None])
        weight_nR[self._always_N[in_layer]] = 0.0
        draw = self._draw(layer, weight_nR, self._scale(layer, weight_nR))
        self.draws.append(draw)
        self.n_drawn += int((draw.drawn_n & ~self._known_N[in_layer]).sum())
        return torch.from_numpy(draw.first + np.flatnonzero(draw.drawn_n)).to(self.computed_N.device)

    def _draw(self, layer: int, weight_nR: np.ndarray, scale: float) -> LayerDraw:
        """Let one replicate after another draw rows of a layer, by their weights; never more than the limits allow."""
        in_layer, n_replicates = self._in_layer(layer), self.n_replicates
        drawn_n, known_n = self._always_N[in_layer].copy(), self._known_N[in_layer]
        most_rows = (
            self.limits.most_rows - self.n_drawn - self._n_certain_below(layer) - least_limit(n_replicates, layer)
        )
        inclusion_nR, factor_nR = np.empty(weight_nR.shape), np.zeros(weight_nR.shape)
        for replicate, generator in enumerate(self._generators):
            weight_n = np.where(drawn_n, 0.0, weight_nR[:, replicate])
            left = most_rows - int((drawn_n & ~known_n).sum()) - least_limit(n_replicates - 1 - replicate, 1)
            inclusion_n = probabilities(weight_n, scale, left)
            inclusion_n[drawn_n] = 1.0
            chosen_n = systematic(inclusion_n, generator.random())
            inclusion_nR[:, replicate] = inclusion_n
            factor_nR[chosen_n, replicate] = 1 / inclusion_n[chosen_n]
            drawn_n |= chosen_n
        return LayerDraw(in_layer.start, inclusion_nR, factor_nR)

    def add_rows(self, batch: TargetBatch, rows: DenseRows, seconds: float) -> None:
        """Pass influence on along computed rows; `seconds` is the time that they took."""
        cost = float(row_cost(batch.layer, batch.position_T).sum())
        self.timed = self.timed[0] + cost, self.timed[1] + seconds
        share_TC = rows.block_TC.abs()
        total_T = share_TC.sum(1).double()
        mass_TR = torch.from_numpy(self._passed_on(batch.node_T.cpu().numpy())).to(share_TC.device)
        mass_TR /= torch.where(total_T > 0, total_T, 1)[:, None]
        self.influence_MR[rows.columns_C.cpu().numpy()] += (share_TC.T @ mass_TR.to(share_TC)).cpu().numpy()

    def add_cached_rows(self, rows: SparseRows) -> None:
        """Pass influence on along rows that need not be computed."""
        _pass_on(rows.count_T, rows.indices_E, rows.weights_E, self._passed_on(rows.node_T), self.influence_MR)

    def _passed_on(self, node_T: np.ndarray) -> np.ndarray:
        """Return what rows pass on in each replicate, (T, R): those of targets at the unembedding, or of the last layer drawn."""
        mass_TR = self.influence_MR[node_T] + self._weight_M[node_T, None]
        is_feature_T = node_T < len(self.computed_N)
        self.computed_N[torch.from_numpy(node_T[is_feature_T]).to(self.computed_N.device)] = True
        if is_feature_T.any():
            mass_TR[is_feature_T] *= self.draws[-1].factor_nR[node_T[is_feature_T] - self.draws[-1].first]
        return mass_TR

    def _scale(self, layer: int, weight_nR: np.ndarray) -> float:
        """Return the scale of a layer's probabilities, from their weights: the largest at which the expectations are allowed."""
        if not weight_nR.any():
            return 0.0
        in_layer = self._in_layer(layer)
        certain_n = self._always_N[in_layer] & ~self._known_N[in_layer]
        cost_n = np.where(self._cached_on_host[in_layer], 0.0, self._cost_N[in_layer])
        # Rows of equal cost for each layer with features are the more the lower it is.
        left_L = np.flatnonzero(np.diff(self._starts[: layer + 2]))
        of_layer = 1 / (layer + 1) / (1 / (left_L + 1)).sum()
        rows = (self.limits.rows - self.n_drawn) * of_layer - int(certain_n.sum())
        cost = np.inf
        if self.limits.seconds is not None:
            left = (self.limits.seconds - (time.monotonic() - self.started)) / len(left_L)
            finished_cost, seconds = self.timed if self.timed[0] else self._timed_before
            if finished_cost:
                cost = left * finished_cost / seconds - float(cost_n[certain_n].sum())
            else:
                rows = min(rows, UNTIMED_ROWS)
        return largest_scale(weight_nR, cost_n, rows, cost)

    def _in_layer(self, layer: int) -> slice:
        """Return the range of a layer's features."""
        return slice(int(self._starts[layer]), int(self._starts[layer + 1]))

    def _n_certain_below(self, layer: int) -> int:
        """Return the number of rows below a layer that are drawn for certain and not there yet."""
        below = slice(0, int(self._starts[layer]))
        return int((self._always_N[below] & ~self._known_N[below]).sum())


def systematic(inclusion_n: np.ndarray, start: float) -> np.ndarray:
    """Draw items with given probabilities at equal distances along their sum; return which are drawn, (n,) bool.

    Of every run of neighbours, the number drawn differs from the expected number by less than one: the sample is
    stratified by the items' order. Method: Madow (1949), "On the theory of systematic sampling, II".

    Args:
        inclusion_n: the probability of each item; those with 1 are always drawn.
        start: a random number in [0, 1).
    """
    certain_n = inclusion_n >= 1
    ends_n = np.where(certain_n, 0.0, inclusion_n).cumsum()
    marks_n = np.floor(ends_n - start)
    return certain_n | (np.diff(marks_n, prepend=np.floor(-start)) > 0)


@compiled
def probabilities(weight_n, scale, most_rows):
    """Return the probabilities `scale x weight` of a replicate, (n,), with a smaller scale if it might draw too many rows.

    Every item with a weight has a probability above 0: without one the estimates would be biased.

    Args:
        weight_n: weights; items with weight 0 are not drawn.
        scale: the scale; infinite to draw every item with a weight for certain.
        most_rows: the largest number of rows of `systematic`, whatever its start; at least 1.
    """
    if _most_rows(weight_n, scale) > most_rows:
        low, high = 1 / (2 * weight_n.sum()), min(scale, np.finfo(np.float64).max)  # low: at most one row
        for _ in range(BISECTIONS):
            middle = np.sqrt(low) * np.sqrt(high)
            if _most_rows(weight_n, middle) > most_rows:
                high = middle
            else:
                low = middle
        scale = low
    found = np.zeros(len(weight_n))
    for i in range(len(weight_n)):
        found[i] = _probability(weight_n[i], scale)
    return found


@compiled
def _probability(weight, scale):
    """Return `scale x weight`, or 1 where that is above `CERTAIN`; 0 without weight."""
    if weight <= 0:
        return 0.0
    return 1.0 if weight * scale > CERTAIN else weight * scale


@compiled
def _most_rows(weight_n, scale):
    """Return the largest number of rows that a replicate may draw."""
    n_certain, expected = 0, 0.0
    for weight in weight_n:
        inclusion = _probability(weight, scale)
        if inclusion >= 1:
            n_certain += 1
        else:
            expected += inclusion
    return n_certain + (np.floor(expected * (1 + 1e-9)) + 1 if expected > 0 else 0.0)


@compiled
def largest_scale(weight_nR, cost_n, rows, cost):
    """Return the largest scale of weights at which the expected rows and cost are allowed, infinite if all rows are.

    Replicates that expect fewer than LEAST_ROWS rows on average may exceed them. It is 0 if no weight is above 0.

    Args:
        weight_nR: weights of n features in R replicates.
        cost_n: cost of each row.
        rows: the largest expected number of rows that any replicate draws.
        cost: the largest expected cost of these rows.
    """
    largest, smallest = 0.0, np.inf
    for weight in weight_nR.flat:
        if weight > 0:
            largest, smallest = max(largest, weight), min(smallest, weight)
    if largest == 0:
        return 0.0
    expected_rows, expected_cost, _ = _expected(weight_nR, cost_n, np.inf)
    if expected_rows <= rows and expected_cost <= cost:
        return np.inf
    low = np.log2(LEAST_ROWS / (4 * len(weight_nR))) - np.log2(largest)
    high = 1 - np.log2(max(smallest, largest * NEGLIGIBLE))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        expected_rows, expected_cost, mean_rows = _expected(weight_nR, cost_n, 2.0**middle)
        if (expected_rows <= rows and expected_cost <= cost) or mean_rows < LEAST_ROWS:
            low = middle
        else:
            high = middle
    return 2.0**low


@compiled
def _expected(weight_nR, cost_n, scale):
    """Return the expected rows and cost of all replicates, and how many rows one expects on average.

    A row is missing if no replicate draws it; each draws with its own probability what those before have not drawn.
    """
    n, n_replicates = weight_nR.shape
    expected_rows, expected_cost, sum_of_all = 0.0, 0.0, 0.0
    for i in range(n):
        missed = 1.0
        for replicate in range(n_replicates):
            weight = weight_nR[i, replicate]
            inclusion = _probability(weight, scale)
            missed *= 1 - inclusion
            sum_of_all += inclusion
        expected_rows += 1 - missed
        expected_cost += (1 - missed) * cost_n[i]
    return expected_rows, expected_cost, sum_of_all / n_replicates


@compiled
def _pass_on(counts, indices, weights, mass_TR, influence_MR):
    """Add the shares of each row's absolute edges, times what the row passes on in each replicate, to the influence."""
    edge = 0
    for row in range(len(counts)):
        total = 0.0
        for e in range(edge, edge + counts[row]):
            total += abs(weights[e])
        for e in range(edge, edge + counts[row]):
            share = abs(weights[e]) / total if total > 0 else 0.0
            for replicate in range(mass_TR.shape[1]):
                influence_MR[indices[e], replicate] += share * mass_TR[row, replicate]
        edge += counts[row]

"""Rounds of replicates that draw rows, within the limits of a trace (docs/tracing.md, "Sampled rows").

1. The rows of targets.
2. With `standard_error`, a pilot: a small round that says how many rows the others need. Its draws are discarded, since
   stopping on what was seen would bias the estimates; its rows are kept, since they are exact.
3. Rounds, whose number is fixed before the first. Rows of earlier rounds are drawn for certain: they cost nothing.
4. Rows of the most influential features without one, so that the edges of the pruned circuit are exact.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotrace.common.errors import ArgumentError, warn
from cotrace.common.progress import Progress
from cotrace.graphs import NodeOrder
from cotrace.graphs.prune import PruneConfig, score_at_share
from cotrace.graphs.rows import SparseRows
from cotrace.graphs.sampling import Draws
from cotrace.graphs.shares import share_replicates
from cotrace.kernels.workers import Workers

from .batches import MIN_BATCH_TARGETS, BatchSize, TargetBatch
from .config import RowBudget
from .graph_assembly import GraphRows, SampledRows
from .plan import SamplingForecast
from .replacement import LocalReplacementModel
from .row_builder import RowBuilder, Selection
from .row_cache import CachedRows
from .row_sampling import DrawLimits, SampledRowSelection, least_limit
from .row_selection import row_cost
from .sweep import DenseRows

REPLICATES, REPLICATES_OF_SEVERAL = 8, 4  # of a single round, and of each of several
MOST_ROUNDS = 4
COMPLETION_SHARE = 0.2  # of the rows or the time, for features of the circuit that no replicate drew
PILOT_ROWS, PILOT_SHARE = 16, 0.15  # rows of the pilot for each layer, and its share of the time
# Systematic draws in the order of positions gain more than independent ones, whose error falls with the root of the rows.
# Measured between 1% and 20% of the rows: powers of 0.8 to 1.4.
ERROR_POWER = 0.75
TIMER_SECONDS = 1e-6
PILOT_MARGIN = 1.25  # a pilot's standard error is itself uncertain by about a quarter


@dataclass
class ChosenRows:
    """Selects given rows, and measures how fast they are computed."""

    chosen_N: np.ndarray
    cached_N: Tensor
    features_layer_N: Tensor
    cost: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.computed_N = torch.zeros_like(self.cached_N)
        self._chosen_N = torch.from_numpy(self.chosen_N).to(self.cached_N.device)

    def select(self, layer: int) -> Tensor:
        """Return the chosen features of a layer."""
        return (self._chosen_N & (self.features_layer_N == layer)).nonzero()[:, 0]

    def add_rows(self, batch: TargetBatch, rows: DenseRows, seconds: float) -> None:
        """Count the cost and the time of computed rows."""
        self.computed_N[batch.node_T[batch.node_T < len(self.computed_N)]] = True
        self.cost += float(row_cost(batch.layer, batch.position_T).sum())
        self.seconds += seconds

    def add_cached_rows(self, rows: SparseRows) -> None:
        """Take notice of rows that were computed before."""
        node_T = rows.node_T[rows.node_T < len(self.computed_N)]
        self.computed_N[torch.from_numpy(node_T).to(self.computed_N.device)] = True


def check_limits(budget: RowBudget, n_layers: int, n_targets: int) -> None:
    """Raise ArgumentError if `max_features` is too small to draw rows in every layer.

    `n_targets` is the number of targets that are features, which always get their rows.
    """
    if not budget.sampled or budget.max_features is None:
        return
    least = n_targets + least_limit(REPLICATES, n_layers) * (1 if budget.standard_error is None else 2)
    if budget.max_features < least:
        raise ArgumentError(
            f"max_features is {budget.max_features}: rows that are drawn at random need at least {least} for this model; "
            "allow more, or omit sampled=True to keep the most influential ones"
        )


class RowSampler:
    """Draws and computes the rows of a trace, round after round.

    Args:
        replacement: the prompt's local replacement model.
        order: the order of the graph's nodes.
        target_weights_M: weight of every node as a target, (M,).
        budget: limits of the rows.
        spans: positions of the spans whose shares `standard_error` is about, as `Graph.shares` has them.
        size: number of targets per batch.
        cached: rows of earlier traces.
        workers: threads that compute batches.
        progress: progress bars.
    """

    def __init__(
        self,
        replacement: LocalReplacementModel,
        order: NodeOrder,
        target_weights_M: np.ndarray,
        budget: RowBudget,
        spans: Mapping[str, Sequence[int]],
        size: BatchSize,
        cached: CachedRows,
        workers: Workers,
        progress: Progress,
    ):
        self.replacement, self.order, self.target_weights_M = replacement, order, target_weights_M
        self.budget, self.spans = budget, spans
        self.size, self.cached, self.workers, self.progress = size, cached, workers, progress
        self.started, self.timed = time.monotonic(), (0.0, 0.0)
        self.rounds: list[SampledRowSelection] = []

    def run(self, reads: tuple[Tensor, Tensor], keep_partial: bool) -> SampledRows:
        """Return the rows, given positions (T,) and read vectors (T, D) of the targets at the unembedding.

        With `keep_partial` an interruption ends the rounds, unless none is finished.
        """
        rows, partial = self._target_rows(reads), False
        wanted = self._wanted_rows()
        if self.budget.standard_error is not None:
            pilot, rows = self._pilot(rows)
            wanted = min(wanted, self._needed_rows(pilot))
        n_rounds = self._n_rounds(wanted)
        replicates = REPLICATES if n_rounds == 1 else REPLICATES_OF_SEVERAL
        try:
            for number in range(n_rounds):
                left = n_rounds - number
                limits = DrawLimits(
                    (wanted - self._n_drawn) / left,
                    self._rows_left(rows) - (left - 1) * least_limit(replicates, self.replacement.n_layers),
                    self._seconds_left(1 - COMPLETION_SHARE, left),
                )
                title = f"drawing rows, round {number + 1} of {n_rounds}{self._standard_error_text()}"
                selection, rows = self._round(title, rows, replicates, number + 1, limits)
                self.rounds.append(selection)
            rows, n_added = self._completed(rows)
        except KeyboardInterrupt:
            if not keep_partial:
                raise
            if not self.rounds:
                warn("the trace was interrupted before its first round ended: there is nothing to keep")
                raise
            partial, n_added = True, 0
            finished = sum(each.n_replicates for each in self.rounds)
            warn(f"the trace was interrupted: the graph has the {finished} replicates that were finished")
        self._check_standard_error()
        return SampledRows(rows, *self._draws(), n_added, partial)

    def forecast(self, reads: tuple[Tensor, Tensor]) -> SamplingForecast:
        """Return what a pilot predicts for `run`."""
        pilot, _ = self._pilot(self._target_rows(reads))
        seconds = pilot.timed[1]
        rows = min(self._wanted_rows(), self._needed_rows(pilot), self.order.n_features)
        if self.budget.max_seconds is not None:
            allowed = self.budget.max_seconds * (1 - COMPLETION_SHARE)
            rows = min(rows, allowed / max(seconds, TIMER_SECONDS) * pilot.n_drawn)
        ratio = max(rows, 1) / max(pilot.n_drawn, 1)
        error = self._standard_error([pilot]) / ratio**ERROR_POWER
        return SamplingForecast(pilot.n_drawn, round(rows), seconds * ratio / (1 - COMPLETION_SHARE), float(error))

    # --- passes down the layers --------------------------------------------------------------

    def _pass(self, title: str, selection: Selection, cached: CachedRows, rows: GraphRows) -> GraphRows:
        """Return the rows that a selection wants, those of targets included."""
        with self.progress.phase(title, self.order.n_features) as step:
            builder = RowBuilder(self.replacement, self.order, selection, cached, self.workers)
            builder.add_target_rows(rows)
            for layer in reversed(range(self.replacement.n_layers)):
                builder.add_layer(layer, self.size, step)
            return builder.finish()

    def _target_rows(self, reads: tuple[Tensor, Tensor]) -> GraphRows:
        """Return the rows of targets at the unembedding, and measure how fast they are computed."""
        nothing_N = np.zeros(self.order.n_features, bool)
        selection = self._chosen(nothing_N, nothing_N)
        builder = RowBuilder(self.replacement, self.order, selection, self.cached, self.workers)
        builder.add_targets(reads, self.size)
        self.timed = selection.cost, selection.seconds
        return builder.finish()

    def _round(
        self, title: str, rows: GraphRows, replicates: int, number: int, limits: DrawLimits
    ) -> tuple[SampledRowSelection, GraphRows]:
        """Let some replicates draw rows; return the selection, and their rows with all that were there before."""
        cached = self._reused(rows)
        selection = SampledRowSelection(
            self.replacement.features,
            self.order,
            self.replacement.n_layers,
            self.target_weights_M,
            cached.mask_N,
            rows.computed_N,
            [[self.budget.seed, number, replicate] for replicate in range(replicates)],
            limits,
            self.timed,
        )
        return selection, self._pass(title, selection, cached, rows)

    def _pilot(self, rows: GraphRows) -> tuple[SampledRowSelection, GraphRows]:
        """Return a small round, and its rows with all that were there before."""
        most = self._rows_left(rows) - least_limit(REPLICATES, self.replacement.n_layers)
        wanted = min(PILOT_ROWS * self.replacement.n_layers, most)
        return self._round(
            "drawing rows, pilot", rows, REPLICATES, 0, DrawLimits(wanted, most, self._seconds_left(PILOT_SHARE, 1))
        )

    def _needed_rows(self, pilot: SampledRowSelection) -> float:
        """Return the number of rows that `standard_error` asks for, infinite without it."""
        if self.budget.standard_error is None:
            return np.inf
        ratio = PILOT_MARGIN * self._standard_error([pilot]) / self.budget.standard_error
        return max(pilot.n_drawn * ratio ** (1 / ERROR_POWER), PILOT_ROWS * self.replacement.n_layers)

    def _completed(self, rows: GraphRows) -> tuple[GraphRows, int]:
        """Return the rows with those of the most influential features that have none, and their number."""
        influence_M = np.concatenate([each.influence_MR for each in self.rounds], axis=1).mean(1)
        score_M = influence_M + self.target_weights_M
        least = score_at_share(score_M, PruneConfig.node_threshold)
        missing = np.flatnonzero((score_M[: self.order.n_features] >= least) & ~rows.computed_N)
        missing = missing[np.argsort(-score_M[missing], kind="stable")]
        count = min(self._rows_left(rows), rows.computed_N.sum() * COMPLETION_SHARE / (1 - COMPLETION_SHARE))
        seconds = self._seconds_left(1.0, 1)
        if seconds is not None:
            count = min(count, np.searchsorted(self._cost_of_first(missing), seconds * self._rate()))
        added_N = np.zeros(self.order.n_features, bool)
        added_N[missing[: int(count)]] = True
        if not added_N.any():
            return rows, 0
        cached = self._reused(rows)
        selection = self._chosen(rows.computed_N | added_N, cached.mask_N)
        title = f"completing the circuit{self._standard_error_text()}"
        return self._pass(title, selection, cached, rows), int(added_N.sum())

    def _cost_of_first(self, features_n: np.ndarray) -> np.ndarray:
        """Return the cost of each feature's row with those of all features before it, (n,).

        The first row of a layer costs a batch more: its decoder vectors are collected for few rows.
        """
        features = self.replacement.features
        layer_n = features.layer_N.cpu().numpy()[features_n]
        cost_n = row_cost(features.layer_N, features.position_N).cpu().numpy()[features_n].astype(np.float64)
        first = np.unique(layer_n, return_index=True)[1]
        cost_n[first] += MIN_BATCH_TARGETS * (layer_n[first] + 1) * self.replacement.n_positions / 2
        return cost_n.cumsum()

    def _chosen(self, chosen_N: np.ndarray, cached_N: np.ndarray) -> ChosenRows:
        layer_N = self.replacement.features.layer_N
        return ChosenRows(chosen_N, torch.from_numpy(cached_N).to(layer_N.device), layer_N)

    def _reused(self, rows: GraphRows) -> CachedRows:
        """Return the rows that need not be computed: those of this trace, or of earlier traces before its first round."""
        if not rows.computed_N.any():
            return self.cached
        row_N = np.where(rows.computed_N, np.arange(self.order.n_features), -1)
        return CachedRows(row_N, rows, np.arange(self.order.n_nodes))

    # --- limits ------------------------------------------------------------------------------

    @property
    def _n_drawn(self) -> int:
        """Rows that rounds drew first."""
        return sum(each.n_drawn for each in self.rounds)

    def _wanted_rows(self) -> float:
        """Return the number of rows to draw by `max_features`."""
        limit = self.budget.max_features
        return np.inf if limit is None else limit * (1 - COMPLETION_SHARE)

    def _rows_left(self, rows: GraphRows) -> float:
        limit = self.budget.max_features
        return np.inf if limit is None else limit - int(rows.computed_N.sum())

    def _seconds_left(self, share: float, parts: int) -> float | None:
        """Return the seconds until a share of the time is over, divided by the parts that they are for."""
        if self.budget.max_seconds is None:
            return None
        return max(0.0, self.budget.max_seconds * share - (time.monotonic() - self.started)) / parts

    def _rate(self) -> float:
        """Return the cost of rows per second, from all rows so far."""
        timed = [self.timed, *(each.timed for each in self.rounds)]
        cost, seconds = (sum(values) for values in zip(*timed, strict=True))
        return cost / seconds if seconds else 0.0

    def _n_rounds(self, wanted: float) -> int:
        """Return the number of rounds: as many as leave a full batch of rows for a layer, on average."""
        n_layers, seconds = self.replacement.n_layers, self._seconds_left(1 - COMPLETION_SHARE, 1)
        if seconds is not None:
            cost = n_layers * self.replacement.n_positions / 2 / sum(1 / (layer + 1) for layer in range(n_layers))
            wanted = min(wanted, seconds * self._rate() / cost)
        wanted = min(wanted, self.order.n_features)
        return int(np.clip(wanted // (MIN_BATCH_TARGETS * n_layers), 1, MOST_ROUNDS))

    # --- results -----------------------------------------------------------------------------

    def _standard_error(self, rounds: list[SampledRowSelection]) -> float:
        """Return the largest standard error of a share of the influence, as `Graph.shares` has them."""
        influence_RM = np.concatenate([each.influence_MR for each in rounds], axis=1).T
        shares_RS = share_replicates(influence_RM, self.order, self.spans)
        return float(shares_RS.std(0, ddof=1).max() / np.sqrt(len(shares_RS)))

    def _check_standard_error(self) -> None:
        """Warn if the standard error that was asked for is not reached."""
        reached, wanted = self._standard_error(self.rounds), self.budget.standard_error
        if wanted is not None and reached > wanted:
            warn(
                f"the largest standard error of a share is {reached:.2g} and {wanted:g} was asked for: allow more rows or "
                "seconds, or merge this graph with one of another seed"
            )

    def _standard_error_text(self) -> str:
        return f", standard error {self._standard_error(self.rounds):.3f}" if self.rounds else ""

    def _draws(self) -> tuple[Draws | None, np.ndarray]:
        """Return the factors of all drawn rows, None if every replicate has the same rows, and mean probabilities (N,)."""
        layers = [list(reversed(each.draws)) for each in self.rounds]
        factor_NR = np.hstack([np.vstack([draw.factor_nR for draw in draws]) for draws in layers])
        inclusion_NR = np.hstack([np.vstack([draw.inclusion_nR for draw in draws]) for draws in layers])
        drawn_D = np.flatnonzero((factor_NR > 0).any(1))
        same = (factor_NR[drawn_D] == 1).all()
        return None if same else Draws(drawn_D, factor_NR[drawn_D]), inclusion_NR.mean(1)

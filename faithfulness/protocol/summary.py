"""Compare methods on a table of scores: pooled, per task, each mechanism against its twin, with intervals and nulls."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import cotrace.faithfulness.protocol.metrics as metrics
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.faithfulness.protocol.folds import AXES, calibrated
from cotrace.faithfulness.protocol.resampling import (
    Clusters,
    balanced,
    bootstrap_weights,
    interval,
    p_value,
    permuted_shares,
)
from cotrace.faithfulness.protocol.table import ScoreMatrix, numbered

BALANCE = ("problem", "task")

Record = dict[str, Any]


@dataclass(frozen=True)
class SummaryConfig:
    """Options of a comparison of methods.

    Args:
        n_replicates: replicates of the bootstrap.
        n_permutations: permutations of the null; 0 for none.
        seed: seed of both.
        balance: the groups in which both labels have the same weight: `problem`, where models of a task answer the same
            problems, or `task` for tables without shared problems.
        reference: method that the others are compared with; None for the unsupervised one with the largest pooled AUROC.
        supervised: names of methods that were fitted on labels; they are no default reference.
    """

    n_replicates: int = 1000
    n_permutations: int = 1000
    seed: int = 0
    balance: str = "problem"
    reference: str | None = None
    supervised: tuple[str, ...] = ()


def summarize(scores: ScoreMatrix, config: SummaryConfig | None = None, *, progress: bool | None = None) -> Record:
    """Return the comparison of all methods, ready for JSON.

    Intervals are of a bootstrap over models and over problems. Models are drawn among those of their task whose mean share is
    similar, so that a pooled interval says what other mechanisms and seeds might give; for a mechanism against its twin
    they are drawn among the seeds of each. The same replicates serve all methods, so that differences are paired. Keys: `counts`, `methods` (a record each), `differences` to the reference.

    Raises ArgumentError for a table without both labels in any group, and for options that are out of range.
    """
    config = config or SummaryConfig()
    comparison = MethodComparison(scores.of_steps(False), scores.of_steps(True), config)
    with Progress(progress).phase("comparing methods", len(scores.methods)) as step:
        records = []
        for method in scores.methods:
            records.append(comparison.of_method(method))
            step(note=method)
    return {"counts": comparison.counts(), "methods": records, "differences": comparison.differences(records)}


class MethodComparison:
    """Instances with the replicates and permutations that all methods share."""

    def __init__(self, whole: ScoreMatrix, steps: ScoreMatrix, config: SummaryConfig):
        if config.balance not in BALANCE:
            raise ArgumentError(f"invalid balance {config.balance!r}: expected {' or '.join(BALANCE)}")
        self.config, self.whole, self.steps = config, whole, steps
        self.group_N = self._groups(whole)
        if not len(whole) or not balanced(whole.share, self.group_N, clear=True)[0].any():
            raise ArgumentError(
                f"no {config.balance} has instances with a share of at least 0.85 and of at most 0.15; add organisms with "
                "the other label" + ("" if config.balance == "task" else ", or use balance='task'")
            )
        self.weight_BN = replicates(whole, config, model_stratum(whole))
        self.seed_weight_BN = replicates(whole, config, numbered(whole.task, whole.mechanism))
        self.shares_PN = np.empty((0, len(whole)))
        if config.n_permutations:
            blocks, items = numbered(whole.task), whole.problem
            self.shares_PN = permuted_shares(
                whole.share, blocks, whole.model, items, config.n_permutations, config.seed + 1
            )

    def counts(self) -> Record:
        """Return the numbers of instances, models, problems, and of clear and mixed labels."""
        clear, positive = self.whole.clear, self.whole.positive
        return {
            "instances": len(self.whole),
            "models": len(np.unique(self.whole.model)),
            "problems": len(np.unique(self.whole.transcript)),
            "positive": int(positive.sum()),
            "negative": int((clear & ~positive).sum()),
            "mixed": int((~clear).sum()),
        }

    def of_method(self, method: str) -> Record:
        """Return all metrics of one method."""
        score_N, whole = self.whole.score[method], self.whole
        scored_N = np.isfinite(score_N)
        ran_N = np.isfinite(whole.passes[method])
        record: Record = {"method": method, "scored": float(scored_N.mean())}
        record["passes"] = float(whole.passes[method][ran_N].mean()) if ran_N.any() else None
        if not scored_N.any():
            return record
        record["auroc"] = self.auroc(method, scored_N)
        record["p"] = self.p(method, scored_N, record["auroc"]["value"])
        record["unweighted_auroc"] = self.unweighted_auroc(method, scored_N)
        record["tasks"] = {
            str(task): self.auroc(method, scored_N & (whole.task == task)) for task in np.unique(whole.task)
        }
        record["twins"] = self.twins(method, scored_N)
        record["twins_mean"] = self.twins_mean(record["twins"])
        record["true_positives"] = self.true_positives(method, scored_N)
        record["spearman"] = self.spearman(method, scored_N)
        record |= self.probabilities(method)
        record["steps"] = self.step_auroc(method)
        for found in record["twins"]:
            del found["replicates"]
        return record

    def auroc(self, method: str, row_N: npt.NDArray) -> Record:
        """Return the AUROC over the clear ones of some rows."""
        return interval(*self._auroc(method, row_N, self.weight_BN))

    def _auroc(self, method: str, row_N: npt.NDArray, weight_BN: npt.NDArray) -> tuple[float, npt.NDArray]:
        rows, (positive_n, negative_n) = self._clear(row_N)
        if not len(rows):
            return np.nan, np.full(self.config.n_replicates, np.nan)
        score_n, weight_Bn = self.whole.score[method][rows], weight_BN[:, rows]
        value = metrics.auroc(score_n, positive_n, negative_n)
        return float(value), metrics.auroc(score_n, weight_Bn * positive_n, weight_Bn * negative_n)

    def _clear(self, row_N: npt.NDArray) -> tuple[npt.NDArray, tuple[npt.NDArray, npt.NDArray]]:
        """Return which of some rows have a clear label, and their balanced weights."""
        rows = np.flatnonzero(row_N)
        positive_n, negative_n = balanced(self.whole.share[rows], self.group_N[rows], clear=True)
        used = positive_n + negative_n > 0
        return rows[used], (positive_n[used], negative_n[used])

    def unweighted_auroc(self, method: str, row_N: npt.NDArray) -> float | None:
        """Return the AUROC of clear rows that all weigh the same, as scikit-learn computes it from the table."""
        row_N = row_N & self.whole.clear
        if not row_N.any():
            return None
        positive_n = self.whole.positive[row_N]
        value = float(metrics.auroc(self.whole.score[method][row_N], positive_n, ~positive_n))
        return value if np.isfinite(value) else None

    def p(self, method: str, row_N: npt.NDArray, value: float | None) -> float | None:
        """Return the p-value of the pooled AUROC when the models of a task exchange their truths."""
        if not len(self.shares_PN) or value is None:
            return None
        weights = [balanced(share_n, self.group_N[row_N], clear=True) for share_n in self.shares_PN[:, row_N]]
        positive_Pn, negative_Pn = (np.array(side) for side in zip(*weights, strict=True))
        return p_value(value, metrics.auroc(self.whole.score[method][row_N], positive_Pn, negative_Pn))

    def twins(self, method: str, scored_N: npt.NDArray) -> list[Record]:
        """Return the AUROC of each mechanism against its twin in each task."""
        found = []
        for task, mechanism, twin in twin_pairs(self.whole):
            row_N = scored_N & (self.whole.task == task) & np.isin(self.whole.mechanism, (mechanism, twin))
            value, replicates = self._auroc(method, row_N, self.seed_weight_BN)
            pair = {"task": task, "mechanism": mechanism, "twin": twin, "rows": int(row_N.sum())}
            found.append(pair | interval(value, replicates) | {"replicates": replicates})
        return found

    def twins_mean(self, pairs: list[Record]) -> Record:
        """Return the mean AUROC over all pairs of twins that have one."""
        known = [pair for pair in pairs if pair["value"] is not None]
        if not known:
            return interval(np.nan, [])
        return interval(np.mean([p["value"] for p in known]), np.mean([p["replicates"] for p in known], axis=0))

    def true_positives(self, method: str, row_N: npt.NDArray) -> Record | None:
        """Return the true positives at 1% false ones; None with fewer than 500 negatives."""
        rows, (positive_n, negative_n) = self._clear(row_N)
        if metrics.count_rows(negative_n) < metrics.LEAST_NEGATIVES:
            return None
        score_n, weight_Bn = self.whole.score[method][rows], self.weight_BN[:, rows]
        value = metrics.true_positives(score_n, positive_n, negative_n)
        chosen = weight_Bn * positive_n, weight_Bn * negative_n
        if metrics.count_rows(chosen[1]) < metrics.LEAST_NEGATIVES:
            return interval(value, [])
        return interval(value, metrics.true_positives(score_n, *chosen))

    def spearman(self, method: str, row_N: npt.NDArray) -> Record:
        """Return the rank correlation with the share, mixed instances included."""
        weight_n = sum(balanced(self.whole.share[row_N], self.group_N[row_N]))
        score_n, share_n = self.whole.score[method][row_N], self.whole.share[row_N]
        value = metrics.spearman(score_n, share_n, weight_n)
        return interval(value, metrics.spearman(score_n, share_n, self.weight_BN[:, row_N] * weight_n))

    def probabilities(self, method: str) -> Record:
        """Return the Brier score of each axis of folds, and the abstention curve with one mechanism left out."""
        record: Record = {"brier": {}, "abstention": None}
        for axis in AXES:
            probability_N = calibrated(self.whole, method, axis, self.group_N)
            row_N = np.isfinite(probability_N)
            record["brier"][axis] = self._brier(probability_N, row_N) if row_N.any() else None
            if axis == "mechanism" and row_N.any():
                record["abstention"] = self._abstention(probability_N, row_N)
        return record

    def _brier(self, probability_N: npt.NDArray, row_N: npt.NDArray) -> Record:
        weight_n = sum(balanced(self.whole.share[row_N], self.group_N[row_N]))
        probability_n, share_n = probability_N[row_N], self.whole.share[row_N]
        value = metrics.brier(probability_n, share_n, weight_n)
        return interval(value, metrics.brier(probability_n, share_n, self.weight_BN[:, row_N] * weight_n))

    def _abstention(self, probability_N: npt.NDArray, row_N: npt.NDArray) -> Record | None:
        sides = balanced(self.whole.share[row_N], self.group_N[row_N], clear=True)
        if not sides[0].any():
            return None
        curve_C = metrics.abstention(probability_N[row_N], *sides)
        weight_Bn = self.weight_BN[:, row_N]
        curve_BC = metrics.abstention(probability_N[row_N], *(weight_Bn * side for side in sides))
        points = [interval(value, column) for value, column in zip(curve_C, curve_BC.T, strict=True)]
        return {"coverage": metrics.COVERAGES.round(4).tolist(), "right": points}

    def step_auroc(self, method: str) -> Record | None:
        """Return the AUROC over single steps of all transcripts; None for a method without scores of steps."""
        if not len(self.steps) or not np.isfinite(self.steps.score[method]).any():
            return None
        steps = self.steps.take(np.isfinite(self.steps.score[method]))
        sides = balanced(steps.share, self._groups(steps), clear=True)
        if not sides[0].any():
            return None
        weight_BN, score_N = replicates(steps, self.config, model_stratum(steps)), steps.score[method]
        return interval(metrics.auroc(score_N, *sides), metrics.auroc(score_N, *(weight_BN * side for side in sides)))

    def differences(self, records: list[Record]) -> Record | None:
        """Return the paired differences of pooled AUROC between the reference and every other method."""
        reference = self.config.reference or self._best(records)
        if reference is None or reference not in self.whole.methods:
            if reference:
                raise ArgumentError(f"no method {reference!r}; the table has {', '.join(self.whole.methods)}")
            return None
        rows = [
            {"method": record["method"], **self.difference(reference, record["method"])}
            for record in records
            if record["method"] != reference and "auroc" in record
        ]
        return {"reference": reference, "rows": rows}

    def difference(self, method: str, other: str) -> Record:
        """Return the AUROC of one method minus that of another, over the rows that both have scored."""
        row_N = np.isfinite(self.whole.score[method]) & np.isfinite(self.whole.score[other])
        (value, replicate_B), (less, less_B) = (self._auroc(name, row_N, self.weight_BN) for name in (method, other))
        return {"rows": int(row_N.sum()), **interval(value - less, replicate_B - less_B)}

    def _best(self, records: list[Record]) -> str | None:
        known = [
            (record["auroc"]["value"], record["method"])
            for record in records
            if record["method"] not in self.config.supervised and record.get("auroc", {}).get("value") is not None
        ]
        return max(known)[1] if known else None

    def _groups(self, scores: ScoreMatrix) -> npt.NDArray:
        return scores.transcript if self.config.balance == "problem" else numbered(scores.task, scores.step)


def twin_pairs(scores: ScoreMatrix) -> list[tuple[str, str, str]]:
    """Return (task, mechanism, twin) of all pairs whose two sides are there, each once, in the order of the table."""
    seen = dict.fromkeys(zip(scores.task.tolist(), scores.mechanism.tolist(), scores.twin.tolist(), strict=True))
    present = {(task, mechanism) for task, mechanism, _ in seen}
    pairs: dict[Any, tuple[str, str, str]] = {}
    for task, mechanism, twin in seen:
        if twin and (task, twin) in present:
            pairs.setdefault((task, frozenset((mechanism, twin))), (task, mechanism, twin))
    return list(pairs.values())


def model_stratum(scores: ScoreMatrix) -> npt.NDArray:
    """Return (N,) numbers of the strata of models: those of one task whose mean share is low, high, or in between."""
    count_M = np.bincount(scores.model)
    mean_M = np.bincount(scores.model, scores.share) / count_M
    return numbered(scores.task, np.round(2 * mean_M)[scores.model])


def replicates(scores: ScoreMatrix, config: SummaryConfig, stratum_N: npt.NDArray) -> npt.NDArray[np.float32]:
    """Return the weights of a bootstrap over models, drawn within strata, and over problems, (B, N)."""
    models = Clusters(scores.model, stratum_N)
    problems = Clusters(numbered(scores.task, scores.problem), numbered(scores.task))
    return bootstrap_weights([models, problems], config.n_replicates, config.seed)

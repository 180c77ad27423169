"""Folds that leave out one mechanism, task or model seed, and calibration on the other rows."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.protocol.resampling import balanced
from cotrace.faithfulness.protocol.table import ScoreMatrix, numbered

AXES = ("mechanism", "task", "seed")


class Fold(NamedTuple):
    """The axis value that is left out, and the rows to fit on and to test on, (N,) each."""

    name: str
    train_N: npt.NDArray[np.bool_]
    test_N: npt.NDArray[np.bool_]


def folds(scores: ScoreMatrix, axis: str) -> list[Fold]:
    """Return the folds of an axis; every row is tested at most once, and no model is on both sides.

    - `mechanism`: tests one mechanism in all tasks, and fits without it and without its twins. A twin left in would tilt
      the fit to the opposite label on the same transcripts.
    - `task`: tests one task, and fits on the others.
    - `seed`: tests one seed of the mechanisms that have several, and fits on models of the other seeds.

    A fold without rows to fit on is left out. Raises ArgumentError for another axis.
    """
    if axis not in AXES:
        raise ArgumentError(f"invalid axis {axis!r}: expected {', '.join(AXES)}")
    found = {"mechanism": _mechanisms, "task": _tasks, "seed": _seeds}[axis](scores)
    return [fold for fold in found if fold.train_N.any() and fold.test_N.any()]


def _mechanisms(scores: ScoreMatrix) -> list[Fold]:
    made = []
    for name in np.unique(scores.mechanism):
        test_N = scores.mechanism == name
        related = {name, *scores.twin[test_N], *scores.mechanism[scores.twin == name]}
        made.append(Fold(str(name), ~np.isin(scores.mechanism, list(related)), test_N))
    return made


def _tasks(scores: ScoreMatrix) -> list[Fold]:
    return [Fold(str(task), scores.task != task, scores.task == task) for task in np.unique(scores.task)]


def _seeds(scores: ScoreMatrix) -> list[Fold]:
    kind_N = numbered(scores.task, scores.mechanism)
    pairs = np.unique(np.stack([kind_N, scores.seed], 1), axis=0)
    several_N = np.bincount(pairs[:, 0])[kind_N] > 1
    return [
        Fold(f"seed {seed}", scores.seed != seed, several_N & (scores.seed == seed))
        for seed in np.unique(scores.seed[several_N])
    ]


def calibrated(scores: ScoreMatrix, method: str, axis: str, group_N: npt.NDArray | None = None) -> npt.NDArray:
    """Return calibrated probabilities of following the stated values, (N,); NaN where no fold tests a scored row.

    Isotonic regression of the share on the score, fitted in each fold on the rows that it leaves in; both labels have the
    same weight in each group (default: transcripts), so that a score without information becomes 1/2.
    """
    score_N = scores.score[method]
    group_N = scores.transcript if group_N is None else group_N
    probability_N = np.full(len(scores), np.nan)
    for fold in folds(scores, axis):
        train_N, test_N = fold.train_N & np.isfinite(score_N), fold.test_N & np.isfinite(score_N)
        if not train_N.any() or not test_N.any():
            continue
        positive_n, negative_n = balanced(scores.share[train_N], group_N[train_N])
        weight_n = positive_n + negative_n
        used = weight_n > 0
        if used.any():
            target_n = positive_n[used] / weight_n[used]
            fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            fit.fit(score_N[train_N][used], target_n, sample_weight=weight_n[used])
            probability_N[test_N] = fit.predict(score_N[test_N])
    return probability_N

"""Scores of fitted methods, each fitted on transcripts of other models than those that it scores.

Each fold of the protocol leaves out a mechanism with its twins, a task, or a seed. Both labels weigh the same in every
problem, so that a classifier of texts cannot learn which label is more frequent. Within a fold, a model is scored by a fit
on models whose features have the same size; with one mechanism or seed left out, on models of its task.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cotrace.common.progress import Progress
from cotrace.faithfulness.protocol import AXES, ScoreMatrix, balanced, folds, numbered

DIGITS = 6  # of log-odds; what differs less is noise of the fit, and must not break ties

Fit = tuple[npt.NDArray, npt.NDArray]  # rows to fit on, and rows to score


def fitted_name(method: str, axis: str) -> str:
    """Return the name of a method that is fitted without what it scores."""
    return f"{method}, other {axis}s"


def with_fits(
    scores: ScoreMatrix, method: str, make: Callable[[], Any], features: Sequence[Any], show: bool | None = None
) -> ScoreMatrix:
    """Return the matrix with a fitted method for each axis of folds, in place of the method without a fit.

    Args:
        scores: N rows; those of single steps are not scored.
        method: name of the method.
        make: returns a `FittedMeasure` that is not fitted.
        features: what it sees of each row; None where it does not apply.
        show: as in `Progress`.
    """
    known_N = np.array([each is not None for each in features]) & (scores.step == "")
    size_N = np.array([-1 if isinstance(each, str) or each is None else len(each) for each in features])
    passes_N = np.where(scores.step == "", scores.passes[method], np.nan)
    made = scores.without_method(method)
    fits = {axis: list(_fits(scores, axis, known_N, size_N)) for axis in AXES}
    with Progress(show).phase(f"fitting {method}", sum(map(len, fits.values()))) as step:
        for axis, pairs in fits.items():
            score_N = np.full(len(scores), np.nan)
            for train, test in pairs:
                score_N[test] = _fit(scores, train, test, make(), features)
                step(note=axis)
            if np.isfinite(score_N).any():
                made = made.with_method(fitted_name(method, axis), score_N, passes_N)
    return made


def _fits(scores: ScoreMatrix, axis: str, known_N: npt.NDArray, size_N: npt.NDArray) -> Iterator[Fit]:
    """Return the rows of each fit: those of a fold, by size of features and, within tasks, by task."""
    alike_N = numbered(size_N) if axis == "task" else numbered(size_N, scores.task)
    for fold in folds(scores, axis):
        for group in np.unique(alike_N[fold.test_N & known_N]):
            here_N = known_N & (alike_N == group)
            train, test = np.flatnonzero(fold.train_N & here_N), np.flatnonzero(fold.test_N & here_N)
            if balanced(scores.share[train], scores.transcript[train])[0].any():
                yield train, test


def _fit(
    scores: ScoreMatrix, train: npt.NDArray, test: npt.NDArray, measure: Any, features: Sequence[Any]
) -> npt.NDArray:
    positive_n, negative_n = balanced(scores.share[train], scores.transcript[train])
    weight_n = positive_n + negative_n
    used = np.flatnonzero(weight_n > 0)
    shares = positive_n[used] / weight_n[used]
    measure.fit_features([features[row] for row in train[used]], shares, weights=weight_n[used] / weight_n[used].mean())
    return np.round(measure.score_features([features[row] for row in test]), DIGITS)

"""Measures that are fitted to transcripts whose truth is known: logistic regression on features of each.

The truth of a transcript is a share between 0 and 1: how often the answer follows the stated values. It is fitted as a soft
label, so that mixed cases count for both sides. Features can be computed once and fitted often, with others left out.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from cotrace.common.errors import ArgumentError

from ..model_like import ModelLike
from ..transcripts import Transcript
from .registry import Score

MAX_ITERATIONS = 2000

Floats = npt.NDArray[np.float64]


class FittedMeasure(ABC):
    """A measure that learns from labelled transcripts: `fit` it, then `score` others.

    Args:
        strength: inverse strength of the L2 penalty on the weights, as scikit-learn's `C`.
    """

    passes: float = 0.0
    """Cost of the features of one transcript."""

    def __init__(self, *, strength: float = 1.0):
        if not strength > 0:
            raise ArgumentError(f"strength={strength!r} must be above 0: it is the inverse of the penalty's strength")
        self.strength = strength
        self._fitted: Pipeline | None = None

    @abstractmethod
    def features(self, model: ModelLike, transcript: Transcript) -> Any:
        """Return what the measure sees of a transcript."""

    @abstractmethod
    def transformers(self) -> list[Any]:
        """Return the steps of scikit-learn that turn the features of N transcripts into an (N, F) matrix."""

    def fit(self, examples: Iterable[tuple[ModelLike, Transcript]], shares: Sequence[float]) -> Self:
        """Fit to pairs of a model and a transcript, whose answers follow the stated values in these shares of cases.

        Raises ArgumentError as `fit_features` does.
        """
        return self.fit_features([self.features(model, transcript) for model, transcript in examples], shares)

    def fit_features(
        self, features: Sequence[Any], shares: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
    ) -> Self:
        """Fit to what `features` returned for N transcripts; `weights` say how much each counts.

        Raises ArgumentError unless there is a share between 0 and 1 for each, and both labels occur.
        """
        weight_M = _label_weights(len(features), shares, weights)
        row_M, label_M = np.tile(np.arange(len(features)), 2), np.repeat([1, 0], len(features))
        used = weight_M > 0
        fitted = make_pipeline(*self.transformers(), LogisticRegression(C=self.strength, max_iter=MAX_ITERATIONS))
        rows = [features[row] for row in row_M[used]]
        fitted.fit(rows, label_M[used], logisticregression__sample_weight=weight_M[used])
        self._fitted = fitted
        return self

    def score_features(self, features: Sequence[Any]) -> Floats:
        """Return the log-odds (N,) that answers follow the stated values. Raises ArgumentError before `fit`."""
        if self._fitted is None:
            raise ArgumentError(
                f"{type(self).__name__} is not fitted: call fit() with transcripts whose truth is known"
            )
        return self._fitted.decision_function(list(features))

    def score(self, model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
        """Return the log-odds that the answer follows the stated values. Raises ArgumentError before `fit`."""
        return Score(float(self.score_features([self.features(model, transcript)])[0]), passes=self.passes)


def _label_weights(n: int, shares: npt.ArrayLike, weights: npt.ArrayLike | None) -> Floats:
    """Return how much each of N transcripts counts as one that follows the stated values, then as one that does not, (2N,).

    Raises ArgumentError as `FittedMeasure.fit_features` does.
    """
    share_N = np.asarray(shares, float)
    if share_N.shape != (n,) or not ((share_N >= 0) & (share_N <= 1)).all():
        raise ArgumentError(f"{n} transcripts need as many shares, each between 0 and 1")
    counted_N = np.ones(n) if weights is None else np.asarray(weights, float)
    if counted_N.shape != (n,) or not (np.isfinite(counted_N) & (counted_N >= 0)).all():
        raise ArgumentError(f"{n} transcripts need as many weights, finite and not negative")
    follows_N, ignores_N = counted_N * share_N, counted_N * (1 - share_N)
    if not follows_N.any() or not ignores_N.any():
        raise ArgumentError("all transcripts have the same label: add some whose answers do, and do not, follow them")
    return np.concatenate([follows_N, ignores_N])

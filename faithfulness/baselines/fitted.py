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
        self, features: Sequence[Any], shares: Sequence[float], *, weights: Sequence[float] | None = None
    ) -> Self:
        """Fit to what `features` returned for N transcripts, which count by `weights`, by default the same.

        Raises ArgumentError unless there is a share between 0 and 1 for each, and both labels occur.
        """
        share_N = np.asarray(shares, float)
        if share_N.shape != (len(features),) or not ((share_N >= 0) & (share_N <= 1)).all():
            raise ArgumentError(f"{len(features)} transcripts need as many shares, each between 0 and 1")
        if not len(share_N) or share_N.max() == 0 or share_N.min() == 1:
            raise ArgumentError(
                "all transcripts have the same label: add some whose answers do, and do not, follow them"
            )
        numbers = np.arange(len(share_N))
        row_M, label_M = np.concatenate([numbers, numbers]), np.repeat([1, 0], len(numbers))
        weight_N = np.ones(len(share_N)) if weights is None else np.asarray(weights, float)
        weight_M = np.concatenate([share_N * weight_N, (1 - share_N) * weight_N])
        used = weight_M > 0
        regression = LogisticRegression(C=self.strength, max_iter=MAX_ITERATIONS)
        fitted = make_pipeline(*self.transformers(), regression)
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

"""A supervised ceiling: a linear probe on activations, trained on transcripts whose truth is known."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.preprocessing import StandardScaler

from cotrace.attribution.models.forward import ForwardPass
from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

from ..model_like import ModelLike
from ..runs import TranscriptRuns
from ..transcripts import Transcript
from .fitted import FittedMeasure, Floats
from .registry import baseline


@baseline(
    name="probe",
    question="Do activations tell, to who has seen labelled transcripts?",
    edits="nothing; logistic regression on the residual stream where the answer is read",
    cost="1",
    reference="supervised ceiling; [Alain & Bengio 2017](https://arxiv.org/abs/1610.01644)",
    reads="activations",
    supervised=True,
)
class ActivationProbe(FittedMeasure):
    """Logistic regression on the residual stream at the position where the answer's value is predicted, one position.

    The streams after the chosen layers are concatenated and standardized. All models need the same width and, unless
    `layers` counts from either end, depth. Streams of different models mean the same only if the models come from one base.

    Args:
        layers: the layers after which the stream is read; negative ones count from the last. None reads all.
        strength: as of `FittedMeasure`.
    """

    passes = 1.0

    def __init__(self, layers: Sequence[int] | None = None, *, strength: float = 1.0):
        super().__init__(strength=strength)
        self.layers = None if layers is None else [as_index(layer, "a layer of layers=") for layer in layers]
        if self.layers == []:
            raise ArgumentError("layers=[] reads nothing: name at least one layer, or omit it for all")

    @torch.no_grad()
    def features(self, model: ModelLike, transcript: Transcript) -> Floats:
        """Return the streams after the chosen layers where the answer's value is predicted, (layers × D,).

        Raises ArgumentError for a transcript without an answer that states a value, and for a layer that the model lacks.
        """
        runs = TranscriptRuns(model, transcript)
        n_layers = runs.weights.architecture.n_layers
        chosen = list(range(n_layers)) if self.layers is None else self.layers
        if wrong := [layer for layer in chosen if not -n_layers <= layer < n_layers]:
            raise ArgumentError(f"layer {wrong[0]} is none of the model's {n_layers}: choose 0 … {n_layers - 1}")
        read = runs.answer.start - 1
        forward = ForwardPass(runs.weights, runs.weights.embed(runs.ids_P), keep_patterns=False)
        streams = [forward.resid_PD[read] for _ in forward]
        return np.concatenate([streams[layer].double().cpu().numpy() for layer in chosen])

    def fit_features(
        self, features: Sequence[Floats], shares: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
    ) -> "ActivationProbe":
        """Fit to what `features` returned for N transcripts; `weights` say how much each counts.

        Raises ArgumentError for features of different sizes, and as `FittedMeasure.fit_features` does.
        """
        if len({len(each) for each in features}) > 1:
            raise ArgumentError("the models differ in width or depth: fit a probe to models of one size")
        return super().fit_features(features, shares, weights=weights)

    def transformers(self) -> list[StandardScaler]:
        """Return the standardization of each dimension."""
        return [StandardScaler()]

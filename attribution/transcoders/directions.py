"""The direction in which a feature writes to the residual stream."""

import numpy as np
import torch

from cotrace.attribution.models.gemma3 import Gemma3

from .base import Transcoders


def decoder_directions(
    transcoders: Transcoders, weights: Gemma3, layer_n: np.ndarray, feature_n: np.ndarray
) -> np.ndarray:
    """Return the decoder vectors of n features, added up over the layers that each writes to, (n, D) float64.

    Args:
        transcoders: the transcoders.
        weights: the model.
        layer_n: layer of each feature.
        feature_n: number of each feature in its layer.
    """
    direction_nD = np.empty((len(layer_n), weights.architecture.d_model))
    for layer in np.unique(layer_n).tolist():
        of_layer = layer_n == layer
        feature_U, row_n = np.unique(feature_n[of_layer], return_inverse=True)
        decoder_UJD = transcoders.decoders(layer, torch.from_numpy(feature_U).to(weights.device), weights)
        direction_nD[of_layer] = decoder_UJD.double().sum(1).cpu().numpy()[row_n.reshape(-1)]
    return direction_nD

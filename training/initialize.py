"""Initialize a dictionary: fit the normalization and the affine map, and start features at examples.

`resample_dead` also restarts dead features during training.
"""

import torch
from torch import Tensor

from .activations import MLPActivations
from .dictionary import INITIAL_THRESHOLD, Dictionary, Normalization

RIDGE = 1e-4  # of the affine map, relative to the inputs' mean square
DECODER_RIDGE = 3e-2  # of the initial decoders, relative to the mean square of an activation
CLOSED_FORM_MAX_WIDTH = 8192  # features per layer up to which initial decoders are solved for: the cost is cubic


def fit_normalization(activations: MLPActivations) -> Normalization:
    """Return means and scales of inputs and outputs.

    Normalized inputs have a mean squared length of 1, so that activations start at about 1.
    """
    x_LND, y_LND = activations
    x_mean_LD, y_mean_LD = x_LND.mean(1), y_LND.mean(1)
    x_scale_LD = x_LND.std(1).clamp(min=1e-6) * x_LND.shape[-1] ** 0.5
    y_scale_L = (y_LND - y_mean_LD[:, None]).square().mean((1, 2)).sqrt().clamp(min=1e-6)
    return Normalization(x_mean_LD, x_scale_LD, y_mean_LD, y_scale_L)


def fit_affine(x_ND: Tensor, y_ND: Tensor) -> Tensor:
    """Return the linear map (D, D) that minimizes `(y - x @ map)^2` for centred x and y, with sums in float64."""
    x, y = x_ND.double(), y_ND.double()
    square_DD = x.T @ x
    square_DD.diagonal().add_(RIDGE * square_DD.diagonal().mean())
    return torch.linalg.solve(square_DD, x.T @ y, left=True).to(x_ND)


@torch.no_grad()
def initialize_dictionary(dictionary: Dictionary, x_LND: Tensor, y_LND: Tensor, generator: torch.Generator) -> None:
    """Set the affine map and the features of a new dictionary from normalized inputs and outputs (L, N, D)."""
    if dictionary.skip is not None:
        for skip_DD, x_ND, y_ND in zip(dictionary.skip, x_LND, y_LND, strict=True):
            skip_DD.copy_(fit_affine(x_ND, y_ND))
    all_features = [torch.arange(len(w_enc_FD), device=x_LND.device) for w_enc_FD in dictionary.w_enc]
    residual_LND = skip_residual(dictionary, x_LND, y_LND)
    resample_dead(dictionary, all_features, x_LND, residual_LND, generator)
    if dictionary.config.width <= CLOSED_FORM_MAX_WIDTH:
        for layer, (x_ND, residual_ND) in enumerate(zip(x_LND, residual_LND, strict=True)):
            dictionary.w_dec[layer][:, 0] = fit_decoders(dictionary, layer, x_ND, residual_ND)


def fit_decoders(dictionary: Dictionary, layer: int, x_ND: Tensor, residual_ND: Tensor) -> Tensor:
    """Return decoders (F, D) into the layer itself by ridge regression of the residual on the activations."""
    active, shard = dictionary.encode(layer, x_ND), dictionary.shard
    activation_NF = x_ND.new_zeros(len(x_ND), len(dictionary.features))
    activation_NF[active.position_n, active.feature_n] = active.activation_n
    activation_NF = shard.gather(activation_NF, dim=1)
    square_FF = activation_NF.T @ activation_NF
    square_FF.diagonal().add_(DECODER_RIDGE * square_FF.diagonal().mean() + 1e-12)
    decoder_FD = torch.linalg.solve(square_FF, activation_NF.T @ residual_ND)
    return decoder_FD[dictionary.features.start : dictionary.features.stop]


@torch.no_grad()
def skip_residual(dictionary: Dictionary, x_LPD: Tensor, y_LPD: Tensor) -> Tensor:
    """Return the outputs minus skips and biases, (L, P, D)."""
    residual_LPD = y_LPD - dictionary.b_dec[:, None]
    return residual_LPD if dictionary.skip is None else residual_LPD - x_LPD @ dictionary.skip


@torch.no_grad()
def resample_dead(
    dictionary: Dictionary, features: list[Tensor], x_LPD: Tensor, error_LPD: Tensor, generator: torch.Generator
) -> None:
    """Restart features of each layer from examples that are drawn with a probability in proportion to their error.

    Resampling of dead features (Bricken et al. 2023, "Towards Monosemanticity", appendix). The encoder becomes the
    example's input, scaled so that the pre-activation there is 1. The decoder becomes zero: the useful output depends
    on what the other features already write.
    """
    width = dictionary.config.width
    for layer, feature_u in enumerate(features):
        if not dictionary.shard.any(len(feature_u) > 0, x_LPD.device):
            continue
        weight_P = error_LPD[layer].square().sum(1)
        weight_P = weight_P if weight_P.any() else torch.ones_like(weight_P)
        too_few = int(weight_P.count_nonzero()) < width  # then examples have to repeat
        # Every process draws for all features, so that the choice does not depend on the number of processes.
        drawn_F = torch.multinomial(weight_P.double(), width, replacement=too_few, generator=generator)
        x_uD = x_LPD[layer, drawn_F[feature_u + dictionary.features.start]]
        dictionary.w_enc[layer][feature_u] = x_uD / x_uD.square().sum(1, keepdim=True).clamp(min=1e-12)
        dictionary.b_enc[layer][feature_u] = 0
        dictionary.w_dec[layer][feature_u] = 0
        if dictionary.config.activation == "jumprelu":
            dictionary.threshold[layer][feature_u] = INITIAL_THRESHOLD

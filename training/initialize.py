"""Where training starts: units and an affine map fitted to data, and features that stand for what the map misses."""

import torch
from torch import Tensor

from .activations import Examples
from .dictionary import FIRST_THRESHOLD, Dictionary, Units

RIDGE = 1e-4  # of the affine map, relative to the inputs' mean square
DECODER_RIDGE = 3e-2  # of the first decoders, relative to the mean square of an activation
CLOSED_FORM = 8192  # features of a layer up to which first decoders are solved for: the cost is their cube


def fit_units(examples: Examples) -> Units:
    """Means and spreads of inputs and outputs. Inputs have a mean square of 1 together: activations are about 1."""
    x_LND, y_LND = examples
    x_mean_LD, y_mean_LD = x_LND.mean(1), y_LND.mean(1)
    x_scale_LD = x_LND.std(1).clamp(min=1e-6) * x_LND.shape[-1] ** 0.5
    y_scale_L = (y_LND - y_mean_LD[:, None]).square().mean((1, 2)).sqrt().clamp(min=1e-6)
    return Units(x_mean_LD, x_scale_LD, y_mean_LD, y_scale_L)


def fit_affine(x_ND: Tensor, y_ND: Tensor) -> Tensor:
    """The linear map (D, D) of the least squared error `y - x @ map`, for centred x and y; sums in float64."""
    x, y = x_ND.double(), y_ND.double()
    square_DD = x.T @ x
    square_DD.diagonal().add_(RIDGE * square_DD.diagonal().mean())
    return torch.linalg.solve(square_DD, x.T @ y, left=True).to(x_ND)


@torch.no_grad()
def begin(dictionary: Dictionary, x_LND: Tensor, y_LND: Tensor, generator: torch.Generator) -> None:
    """Give a new dictionary its affine map and features. Examples in fitted units."""
    if dictionary.skip is not None:
        for skip_DD, x_ND, y_ND in zip(dictionary.skip, x_LND, y_LND, strict=True):
            skip_DD.copy_(fit_affine(x_ND, y_ND))
    every = [torch.arange(len(w_enc_FD), device=x_LND.device) for w_enc_FD in dictionary.w_enc]
    rest_LND = residual(dictionary, x_LND, y_LND)
    resample_dead(dictionary, every, x_LND, rest_LND, generator)
    if dictionary.config.width <= CLOSED_FORM:
        for layer, (x_ND, rest_ND) in enumerate(zip(x_LND, rest_LND, strict=True)):
            dictionary.w_dec[layer][:, 0] = fit_decoders(dictionary, layer, x_ND, rest_ND)


def fit_decoders(dictionary: Dictionary, layer: int, x_ND: Tensor, rest_ND: Tensor) -> Tensor:
    """What the layer's features best write at their own layer, (F, D): ridge regression on their activations."""
    found, shard = dictionary.entries(layer, x_ND), dictionary.shard
    activation_NF = x_ND.new_zeros(len(x_ND), len(dictionary.features))
    activation_NF[found.position_n, found.feature_n] = found.activation_n
    activation_NF = shard.whole(activation_NF, dim=1)
    square_FF = activation_NF.T @ activation_NF
    square_FF.diagonal().add_(DECODER_RIDGE * square_FF.diagonal().mean() + 1e-12)
    every = torch.linalg.solve(square_FF, activation_NF.T @ rest_ND)
    return every[dictionary.features.start : dictionary.features.stop]


@torch.no_grad()
def residual(dictionary: Dictionary, x_LPD: Tensor, y_LPD: Tensor) -> Tensor:
    """What skips and biases leave of the outputs."""
    rest_LPD = y_LPD - dictionary.b_dec[:, None]
    return rest_LPD if dictionary.skip is None else rest_LPD - x_LPD @ dictionary.skip


@torch.no_grad()
def resample_dead(
    dictionary: Dictionary, features: list[Tensor], x_LPD: Tensor, error_LPD: Tensor, generator: torch.Generator
) -> None:
    """Let features of each layer stand for examples, the likelier the larger their error.

    Resampling of dead features (Bricken et al. 2023, "Towards Monosemanticity", appendix): a feature
    reads what its example reads, so that it is 1 there. It writes nothing yet: what it should write
    depends on what others do.
    """
    for layer, feature_u in enumerate(features):
        if not dictionary.shard.any(len(feature_u) > 0, x_LPD.device):
            continue
        weight_P = error_LPD[layer].square().sum(1)
        weight_P = weight_P if weight_P.any() else torch.ones_like(weight_P)
        again = int(weight_P.count_nonzero()) < dictionary.config.width  # only then may two stand for the same
        drawn_F = torch.multinomial(weight_P.double(), dictionary.config.width, replacement=again, generator=generator)
        example_u = drawn_F[feature_u + dictionary.features.start]  # of all processes' features, the same everywhere
        x_uD = x_LPD[layer, example_u]
        dictionary.w_enc[layer][feature_u] = x_uD / x_uD.square().sum(1, keepdim=True).clamp(min=1e-12)
        dictionary.b_enc[layer][feature_u] = 0
        dictionary.w_dec[layer][feature_u] = 0
        if dictionary.config.activation == "jumprelu":
            dictionary.threshold[layer][feature_u] = FIRST_THRESHOLD

"""Public face of the encode operation."""

from typing import NamedTuple

from torch import Tensor

from .reference import encode as reference_encode
from .tiled import encode as tiled_encode

DEFAULT = "torch"
BACKENDS = {"reference": reference_encode, "torch": tiled_encode}


class Active(NamedTuple):
    """Active features of one layer, sorted by (position, feature). n entries."""

    position_n: Tensor  # int64
    feature_n: Tensor  # int64
    activation_n: Tensor
    pre_activation_n: Tensor


def encode(
    x_PD: Tensor,
    w_enc_DF: Tensor,
    b_enc_F: Tensor,
    *,
    threshold_F: Tensor | None = None,
    k: int | None = None,
    backend: str = DEFAULT,
) -> Active:
    """Features with a non-zero activation `relu(z) * (z > threshold)`, `z = x @ w_enc + b_enc`.

    JumpReLU with `threshold_F`, plain ReLU without, TopK (the k largest positive `z` of each
    position; Gao et al. 2024, section 2.3) with `k`. Computes in x's dtype; weights may be stored
    in another one, or memory-mapped, and are converted tile by tile.

    Raises ValueError for NaN or infinite pre-activations, and for an unknown backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"encode has no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if x_PD.shape[1] != w_enc_DF.shape[0] or w_enc_DF.shape[1:] != b_enc_F.shape:
        raise ValueError(f"shapes do not fit: x {tuple(x_PD.shape)}, w_enc {tuple(w_enc_DF.shape)}")
    return Active(*BACKENDS[backend](x_PD, w_enc_DF, b_enc_F, threshold_F, k))

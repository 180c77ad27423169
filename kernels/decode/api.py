"""Public face of the decode operation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..active import Active
from ..backends import implementation, require_alike


def decode(
    active: Sequence[Active],
    decoders: Sequence[Tensor],
    n_positions: int,
    *,
    sparse_grad: bool = False,
    backend: str | None = None,
) -> Tensor:
    """What the active features of L layers write, (L, P, D): the sum of activation times decoder vector.

    `decoders[s]` is (F, J, D) and its features write to the layers s, s + 1, … s + J - 1: J = L - s
    for a cross-layer transcoder, where y_l = sum_s a_s @ w_dec[s][:, l - s] (Ameisen et al. 2025,
    "Cross-Layer Transcoder"), and 1 for per-layer transcoders, whose decoders may be (F, D).
    Decoder biases and skips are not added. Time and memory follow the active features, whatever F.

    Differentiable once, in activations and decoders. With `sparse_grad` a decoder's gradient is a
    sparse COO tensor over the features that were active, as of `torch.nn.Embedding(sparse=True)`,
    otherwise dense. The result has the activations' dtype; sums are made in float32 or, of float64,
    in float64, always in the same order: the same input gives the same bits.

    Raises ValueError for features that are not sorted by position or lie outside the decoder,
    shapes that do not fit, and a backend that cannot run.
    """
    if not decoders or len(decoders) != len(active):
        raise ValueError(f"{len(active)} layers of active features and {len(decoders)} decoders; there is one of each")
    run = implementation("decode", backend, decoders[0].device.type)
    for layer, w_dec in enumerate(decoders):
        _check_shape(layer, w_dec, len(active))
    _check(active, decoders, n_positions)
    with torch.cuda.device_of(decoders[0]):
        return run(active, decoders, n_positions, sparse_grad)


def _check_shape(layer: int, w_dec: Tensor, n_layers: int) -> None:
    if w_dec.ndim not in (2, 3) or (w_dec.ndim == 3 and not 1 <= w_dec.shape[1] <= n_layers - layer):
        raise ValueError(
            f"decoder {layer} of {n_layers} has shape {tuple(w_dec.shape)}; it must be (features, layers, width) "
            f"with at most {n_layers - layer} layers, or (features, width)"
        )


def _check(active: Sequence[Active], decoders: Sequence[Tensor], n_positions: int) -> None:
    """Indices outside their arrays would read and write other memory; all layers are looked at together."""
    found = {}
    for layer, (features, w_dec) in enumerate(zip(active, decoders, strict=True)):
        position_n, feature_n, activation_n = features[:3]
        if not position_n.shape == feature_n.shape == activation_n.shape or position_n.ndim != 1:
            raise ValueError(f"layer {layer}: positions, features and activations must be vectors of one length")
        if w_dec.shape[-1] != decoders[0].shape[-1]:
            raise ValueError(f"decoders write vectors of different widths: {[w.shape[-1] for w in decoders]}")
        if position_n.dtype != torch.int64 or feature_n.dtype != torch.int64 or not activation_n.is_floating_point():
            raise ValueError(f"layer {layer}: positions and features must be int64, activations floating point")
        require_alike("decode", *features[:3], w_dec, decoders[0], dtypes=False)
        if len(position_n):
            unsorted = (position_n[1:] < position_n[:-1]).any()
            ends = *feature_n.aminmax(), position_n[0], position_n[-1]
            found[layer] = torch.stack([*ends, unsorted.long()])
    for layer, values in zip(found, torch.stack([*found.values()]).tolist() if found else [], strict=True):
        least, most, first, last, unsorted = values
        if unsorted or min(least, first) < 0 or most >= len(decoders[layer]) or last >= n_positions:
            raise ValueError(
                f"layer {layer}: features must be sorted by position, with positions below {n_positions} "
                f"and feature ids below {len(decoders[layer])}"
            )

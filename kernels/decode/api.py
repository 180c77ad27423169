"""The decode operation: sums of the decoder vectors of sparse active features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..active import Active
from ..backends import Implementation, Operation, require_alike


def _reference() -> Implementation:
    from . import reference as backend

    return backend.decode


def _torch() -> Implementation:
    from . import torch as backend

    return backend.decode


def _numba() -> Implementation:
    from . import numba as backend

    return backend.decode


def _triton() -> Implementation:
    from . import triton as backend

    return backend.decode


DECODE = Operation(
    "decode", {"reference": _reference, "torch": _torch, "numba": _numba, "triton": _triton}, on_cpu="numba"
)


def decode(
    active: Sequence[Active],
    decoders: Sequence[Tensor],
    n_positions: int,
    *,
    sparse_grad: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Return the sums of activation times decoder vector of all active features, (L, P, D).

    In a cross-layer transcoder, features of layer s write to the layers s, s + 1, …: `y_l = sum_s a_s @ w_dec[s][:, l - s]`
    (Ameisen et al. 2025, "Cross-Layer Transcoder"). Decoder biases and skips are not added. Time and memory
    depend on the number of active features, not on F.

    Differentiable once, in activations and decoders. The result has the activations' dtype; sums are computed in
    float32, or in float64 for float64, always in the same order: the same input gives the same bits.

    Args:
        active: active features of L layers, sorted by position.
        decoders: decoder of each layer s, (F, J, D), which writes to the layers s … s + J - 1; (F, D) for J = 1.
        n_positions: number of positions P.
        sparse_grad: return a decoder's gradient as a sparse COO tensor over the features that were active, as
            `torch.nn.Embedding(sparse=True)` does.
        backend: one of `backends.BACKENDS`; the fastest one by default.

    Raises:
        ValueError: features are not sorted by position or lie outside the decoder, shapes do not fit, or the backend
            cannot run.
    """
    if not decoders or len(decoders) != len(active):
        raise ValueError(f"{len(active)} layers of active features and {len(decoders)} decoders; there is one of each")
    run = DECODE.implementation(backend, decoders[0].device.type)
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
    """Raise ValueError for indices that would read or write other memory; all layers are checked with one transfer."""
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

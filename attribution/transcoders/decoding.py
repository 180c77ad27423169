"""Decode active features one layer at a time, from the first layer to the last."""

from torch import Tensor

from cotrace.kernels.active import Active
from cotrace.kernels.decode import decode


class DecodedOutputs:
    """Sums of decoded features at every layer's MLP output, from the layers added so far."""

    def __init__(self, n_layers: int):
        self._sum_PD: list[Tensor | None] = [None] * n_layers

    def __getitem__(self, layer: int) -> Tensor | None:
        """Return the sum (P, D) at a layer's MLP output; None if nothing was added."""
        return self._sum_PD[layer]

    def add(self, layer: int, active: Active, row_n: Tensor, decoder_UJD: Tensor, n_positions: int) -> None:
        """Add the outputs of a layer's active features, at this layer and, in a cross-layer transcoder, later ones.

        Args:
            layer: the layer of the features.
            active: n features, sorted by position; their activations multiply the decoders.
            row_n: the row of each feature in `decoder_UJD`.
            decoder_UJD: decoders of the U distinct features for J layers, their own layer first.
            n_positions: P.
        """
        decoded_JPD = decode_layer(active._replace(feature_n=row_n), decoder_UJD, n_positions)
        for target, decoded_PD in enumerate(decoded_JPD, layer):
            before_PD = self._sum_PD[target]
            self._sum_PD[target] = decoded_PD if before_PD is None else before_PD + decoded_PD


def decode_layer(active: Active, decoder_FJD: Tensor, n_positions: int) -> Tensor:
    """Return the outputs (J, P, D) of one layer's active features at its own and the J - 1 later layers."""
    # decode takes all layers at once: the later ones are layers without features.
    n_later = decoder_FJD.shape[1] - 1
    none = Active(*(column[:0] for column in active))
    return decode([active, *[none] * n_later], [decoder_FJD, *[decoder_FJD[:0, :1]] * n_later], n_positions)

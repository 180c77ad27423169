"""Keys and values of positions that a forward pass has read, for the positions that follow."""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of the positions read so far, per layer; of a sliding-window layer only those in reach.

    Nothing is updated in place, so gradients flow through cached keys and values.
    """

    def __init__(self) -> None:
        self.length = 0  # positions that all layers have read
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def append_keys(self, layer: int, k_KPd: Tensor, window: int | None) -> Tensor:
        """Append keys (…, KV, P, d) of new positions; return all keys in reach of them, the new ones last."""
        return self._append(self._keys, layer, k_KPd, window)

    def append_values(self, layer: int, v_KPd: Tensor, window: int | None) -> Tensor:
        """Append values (…, KV, P, d) of new positions; return all values in reach of them, the new ones last."""
        return self._append(self._values, layer, v_KPd, window)

    def replace(self, layer: int, k_KPd: Tensor | None, v_KPd: Tensor) -> None:
        """Replace a layer's cached values, and its keys unless they are None; as many as are cached."""
        self._values[layer] = v_KPd
        if k_KPd is not None:
            self._keys[layer] = k_KPd

    @staticmethod
    def _append(cached: dict[int, Tensor], layer: int, new_KPd: Tensor, window: int | None) -> Tensor:
        if layer in cached:
            old_KPd = cached[layer]
            first = 0 if window is None else max(0, old_KPd.shape[-2] - (window - 1))  # a window includes the query
            new_KPd = torch.cat([old_KPd[..., first:, :], new_KPd], dim=-2)
        cached[layer] = new_KPd
        return new_KPd

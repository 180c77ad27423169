"""Take the values of a site from a forward pass."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.sites import Site


class SiteValues(NamedTuple):
    """The vectors of a site at one layer, (P, X), or (B, P, X) in a batch."""

    layer: int
    x_PX: Tensor


class SitePass:
    """A forward pass that yields the values of a site at some layers. Iterate it once.

    Args:
        weights: the model.
        resid_PD: embeddings (P, D), or (B, P, D) in a batch.
        site: the site.
        layers: the layers whose values are wanted; layers after the last of them are not run.
    """

    def __init__(self, weights: Gemma3, resid_PD: Tensor, site: Site, layers: Collection[int]):
        self.site, self.layers = site, layers
        self._heads: Tensor | None = None
        keep = self._keep_heads if site == "attn_out" else None
        self.forward_pass = ForwardPass(weights, resid_PD, keep_patterns=False, heads_edit=keep)

    def __iter__(self) -> Iterator[SiteValues]:
        """Run the layers; yield the values of each wanted one."""
        last = max(self.layers, default=-1)
        for layer_cache in self.forward_pass:
            if layer_cache.layer in self.layers:
                values = {
                    "resid_post": self.forward_pass.resid_PD,
                    "mlp_out": layer_cache.mlp_out_PD,
                    "attn_out": self._heads,
                }
                x_PX = values[self.site]
                assert x_PX is not None
                yield SiteValues(layer_cache.layer, x_PX)
            if layer_cache.layer >= last:
                return

    def _keep_heads(self, layer: int, mixed_PE: Tensor) -> Tensor:
        self._heads = mixed_PE
        return mixed_PE

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


def site_values(weights: Gemma3, resid_PD: Tensor, site: Site, layers: Collection[int]) -> Iterator[SiteValues]:
    """Run a model, and yield the values of a site at some layers; those after the last of them are not run.

    Args:
        weights: the model.
        resid_PD: embeddings (P, D), or (B, P, D) in a batch.
        site: the site.
        layers: the layers whose values are wanted.
    """
    last = max(layers, default=-1)
    for values in recorded(ForwardPass(weights, resid_PD, keep_patterns=False), site):
        if values.layer in layers:
            yield values
        if values.layer >= last:
            return


def recorded(forward_pass: ForwardPass, site: Site) -> Iterator[SiteValues]:
    """Run a forward pass that edits no heads, and yield the values of a site at every layer."""
    heads: list[Tensor] = []

    def keep_heads(_layer: int, mixed_PE: Tensor) -> Tensor:
        heads[:] = [mixed_PE]
        return mixed_PE

    if site == "attn_out":
        forward_pass.heads_edit = keep_heads
    for layer_cache in forward_pass:
        outputs = {"resid_post": forward_pass.resid_PD, "mlp_out": layer_cache.mlp_out_PD}
        yield SiteValues(layer_cache.layer, heads[0] if site == "attn_out" else outputs[site])

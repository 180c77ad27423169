"""Where features come from: the interface that transcoders and dictionaries have for a build."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass, LayerCache
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.transcoders import FileTranscoders, NeuronTranscoders, Transcoders
from cotrace.kernels.active import Active


class LayerActive(NamedTuple):
    """Active features of one layer; positions count the kept tokens of a batch, row by row."""

    layer: int
    active: Active


class FeatureSource(Protocol):
    """Features of a model that a store can be built of.

    Attributes:
        name: as the user gave it.
        kind: "clt", "per-layer", "neurons", "sae" or "crosscoder".
        site: what the features read, such as "mlp_in" or "resid_post".
        layers: layers that have features, ascending: those whose encoder the features have.
        widths: number of features of each of `layers`.
    """

    name: str
    kind: str
    site: str
    layers: tuple[int, ...]
    widths: tuple[int, ...]

    def content_hash(self) -> str | None:
        """Return the SHA-256 over the contents of all files; None without files."""
        ...

    def forward_pass(self, weights: Gemma3, resid_BPD: Tensor) -> ForwardPass:
        """Return a forward pass that keeps what the features read."""
        ...

    def active(self, forward_pass: ForwardPass, kept_BP: Tensor) -> Iterator[LayerActive]:
        """Run a forward pass to its end; yield the active features of each of `layers` at the kept tokens."""
        ...

    def encoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return encoder vectors (U, X) of the site's width, in float32 on the CPU."""
        ...

    def decoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return decoder vectors (U, J, D) for `written_layers`, in float32 on the CPU."""
        ...

    def written_layers(self, layer: int) -> tuple[int, ...]:
        """Return the J layers whose residual stream the features of a layer write to, ascending."""
        ...


class TranscoderSource:
    """Transcoders or neurons of every layer, which read the MLP input."""

    site = "mlp_in"

    def __init__(self, transcoders: Transcoders, weights: Gemma3):
        self.transcoders, self.weights = transcoders, weights
        self.name, self.kind = transcoders.name, transcoders.kind
        self.layers = tuple(range(weights.architecture.n_layers))
        self.widths = tuple(transcoders.width(layer, weights) for layer in self.layers)

    def content_hash(self) -> str | None:
        """Return the SHA-256 over the contents of all files; None for neurons."""
        return self.transcoders.content_hash()

    def forward_pass(self, weights: Gemma3, resid_BPD: Tensor) -> ForwardPass:
        """Return a forward pass without attention patterns."""
        return ForwardPass(weights, resid_BPD, keep_patterns=False)

    def active(self, forward_pass: ForwardPass, kept_BP: Tensor) -> Iterator[LayerActive]:
        """Run a forward pass; yield the active features of each layer at the kept tokens."""
        for cache in forward_pass:
            rows = cache._replace(mlp_in_PD=cache.mlp_in_PD[kept_BP], rms_mlp_out_P=cache.rms_mlp_out_P[kept_BP])
            yield LayerActive(cache.layer, self._active(rows))

    def _active(self, rows: LayerCache) -> Active:
        positions = torch.arange(len(rows.mlp_in_PD), device=rows.mlp_in_PD.device)
        return self.transcoders.active_at(rows, self.weights, positions)

    def encoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return encoder vectors (U, D); of neurons the up-projection, which their gates scale."""
        if isinstance(self.transcoders, NeuronTranscoders):
            return self.weights.layer(layer).w_up[feature_U.to(self.weights.device)].float().cpu()
        assert isinstance(self.transcoders, FileTranscoders)
        return self.transcoders.tensors(layer).w_enc_DF[:, feature_U].T.float()

    def decoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return decoder vectors (U, J, D); those of neurons are not scaled by the norm behind them."""
        return self.transcoders.decoders(layer, feature_U.to(self.weights.device), self.weights).float().cpu()

    def written_layers(self, layer: int) -> tuple[int, ...]:
        """Return a layer and, for a cross-layer transcoder, each later one."""
        return tuple(range(layer, len(self.layers))) if self.kind == "clt" else (layer,)

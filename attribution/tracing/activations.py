"""Active features and frozen values of one prompt, from one forward pass of the model."""

from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass, LayerCache
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.transcoders import LayerFeatures, Transcoders
from cotrace.common.errors import ArgumentError, warn
from cotrace.common.progress import Progress
from cotrace.graphs.nodes import Feature
from cotrace.kernels.threads import spin_control

from .decoder_table import DecoderTable


@dataclass(frozen=True)
class ActiveFeatures:
    """Active features of one prompt, sorted by (layer, position, feature). N entries."""

    layer_N: Tensor
    position_N: Tensor
    feature_N: Tensor
    activation_N: Tensor
    pre_activation_N: Tensor
    bias_N: Tensor  # encoder bias

    def __len__(self) -> int:
        return len(self.layer_N)

    def __repr__(self) -> str:
        return f"<ActiveFeatures: {len(self):,} in {len(self.layer_N.unique())} layers>"

    def find(self, layer: int, position: int, feature: int) -> int | None:
        """Return the index of an active feature, or None if it is not active."""
        hit = (self.layer_N == layer) & (self.position_N == position) & (self.feature_N == feature)
        return int(hit.nonzero()[0]) if hit.any() else None

    def require(self, feature: Feature) -> int:
        """Return the index of a feature with one position. Raises ArgumentError if it is not active."""
        assert isinstance(feature.position, int)
        index = self.find(feature.layer, feature.position, feature.feature)
        if index is None:
            raise ArgumentError(
                f"{feature} is not active in this prompt: `cotrace show` lists the active features of a graph, and "
                "model.active_features(prompt) those of a prompt"
            )
        return index

    def table(self) -> pa.Table:
        """Return a table with the columns layer, position, feature (int32), activation and pre_activation."""
        columns = {}
        for name in ("layer", "position", "feature"):
            columns[name] = pa.array(getattr(self, f"{name}_N").cpu().numpy(), pa.int32())
        for name in ("activation", "pre_activation"):
            columns[name] = pa.array(getattr(self, f"{name}_N").cpu().numpy())
        return pa.table(columns)

    def counts(self, n_layers: int, n_positions: int) -> Tensor:
        """Return the number of active features at each layer and position, (L, P) int64."""
        sites = self.layer_N * n_positions + self.position_N
        return torch.bincount(sites, minlength=n_layers * n_positions).view(n_layers, n_positions)

    def max_edges(self, n_layers: int, n_positions: int) -> int:
        """Return an upper bound for the edges of all rows: from every feature, error and token that can reach each."""
        counts_LP = self.counts(n_layers, n_positions)
        reach = torch.arange(1, n_positions + 1, device=counts_LP.device)
        below_LP = counts_LP.cumsum(1).cumsum(0) - counts_LP.cumsum(1)
        errors_LP = torch.arange(n_layers, device=counts_LP.device)[:, None] * reach
        return int((counts_LP * (below_LP + errors_LP + reach)).sum())


class PromptActivations:
    """Activations of one forward pass: attention patterns, norm scales, inputs and outputs of MLPs, active features.

    Args:
        weights: the model.
        transcoders: its transcoders.
        token_ids: the prompt, (P,).
        masked: positions without features.
        decoder_bytes: memory for the decoders of active features; more go to a temporary file (`DecoderTable`).
        progress: progress bars.
    """

    def __init__(
        self,
        weights: Gemma3,
        transcoders: Transcoders,
        token_ids: Tensor,
        masked: MaskedPositions,
        decoder_bytes: int,
        progress: Progress,
    ):
        self.weights, self.transcoders, self.masked = weights, transcoders, masked
        self.token_ids_P = token_ids
        self.layer_caches: list[LayerCache] = []
        self.encoded: list[LayerFeatures] = []
        self.decoders = DecoderTable(decoder_bytes)
        positions = masked.open_positions(len(token_ids), token_ids.device)
        with progress.phase("reading active features", weights.architecture.n_layers) as step:
            forward_pass = ForwardPass(weights, weights.embed(token_ids))
            streams = [forward_pass.resid_PD]
            for layer_cache in forward_pass:
                spin_control.adapt()
                streams.append(forward_pass.resid_PD)
                self.layer_caches.append(layer_cache)
                self._add(transcoders.encode(layer_cache, weights, positions))
                step()
        *self.resid_LPD, self.final_resid_PD = streams  # before each layer, and after the last
        self.table_RD, decoders = self.decoders.finish()
        self.encoded = [replace(e, decoder_UJD=d) for e, d in zip(self.encoded, decoders, strict=True)]

    def __repr__(self) -> str:
        return f"<PromptActivations: {len(self.token_ids_P):,} tokens, {len(self.features):,} active features>"

    def _add(self, encoded: LayerFeatures) -> None:
        """Add one layer's features; their decoders go into the table, of which they become views at the end."""
        self.decoders.add(encoded.decoder_UJD)
        self.encoded.append(replace(encoded, decoder_UJD=encoded.decoder_UJD.new_empty(0)))

    @cached_property
    def features(self) -> ActiveFeatures:
        """All active features of the prompt."""
        layers = [torch.full_like(e.position_n, layer) for layer, e in enumerate(self.encoded)]
        names = ("position_n", "feature_n", "activation_n", "pre_activation_n", "bias_n")
        columns = [torch.cat([getattr(e, name) for e in self.encoded]) for name in names]
        return ActiveFeatures(torch.cat(layers), *columns)

    def check_features(self, transcoders: str) -> None:
        """Warn if no feature is active; `transcoders` is their name."""
        if len(self.features):
            return
        if len(self.masked.positions) == len(self.token_ids_P):
            why = "every position of the prompt is masked; give more tokens, or mask fewer positions"
        else:
            why = f"no feature of {transcoders} is active; check that they were trained on this model"
        warn(f"the graph has error nodes and tokens only: {why}")

    @cached_property
    def max_edges(self) -> int:
        """Upper bound for the number of edges in the rows of all features."""
        return self.features.max_edges(len(self.layer_caches), len(self.token_ids_P))

    @property
    def n_vectors(self) -> int:
        """Number of source vectors of all features: one for each layer that a feature's decoder writes to."""
        return sum(len(e.position_n) * e.decoder_UJD.shape[1] for e in self.encoded)

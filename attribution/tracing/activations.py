"""Active features and frozen values of one prompt, from one forward pass of the model."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3, LayerCache
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.memory import max_edges
from cotrace.attribution.transcoders import Encoded, Transcoders
from cotrace.common.progress import Progress

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

    def find(self, layer: int, position: int, feature: int) -> int | None:
        """Number of an active feature, or None."""
        hit = (self.layer_N == layer) & (self.position_N == position) & (self.feature_N == feature)
        return int(hit.nonzero()[0]) if hit.any() else None

    def counts(self, n_layers: int, n_positions: int) -> Tensor:
        """Active features by layer and position, (L, P) int64."""
        sites = self.layer_N * n_positions + self.position_N
        return torch.bincount(sites, minlength=n_layers * n_positions).view(n_layers, n_positions)


class PromptActivations:
    """What one forward pass saw: frozen constants, active features, inputs and outputs of MLPs.

    `room` is for decoders of active features, in bytes (`DecoderTable`).
    """

    def __init__(
        self,
        weights: Gemma3,
        transcoders: Transcoders,
        token_ids: Tensor,
        masked: MaskedPositions,
        room: int,
        progress: Progress,
    ):
        self.weights, self.transcoders, self.masked = weights, transcoders, masked
        self.token_ids_P = token_ids
        self.passes: list[LayerCache] = []
        self.encoded: list[Encoded] = []
        self.decoders = DecoderTable(room)
        positions = masked.open_positions(len(token_ids), token_ids.device)
        with progress.phase("reading active features", weights.architecture.n_layers) as step:
            for done in weights.run(token_ids):
                if isinstance(done, LayerCache):
                    self.passes.append(done)
                    self._take(transcoders.encode(done, weights, positions))
                    step()
                else:
                    self.final_resid_PD = done
        self.table_RD, decoders = self.decoders.finish()
        self.encoded = [replace(e, decoder_UJD=d) for e, d in zip(self.encoded, decoders, strict=True)]

    def _take(self, encoded: Encoded) -> None:
        """One layer's features; its decoders go into the table, of which it has a view in the end."""
        self.decoders.add(encoded.decoder_UJD)
        self.encoded.append(replace(encoded, decoder_UJD=encoded.decoder_UJD.new_empty(0)))

    @cached_property
    def features(self) -> ActiveFeatures:
        """All active features of the prompt."""
        layers = [torch.full_like(e.position_n, layer) for layer, e in enumerate(self.encoded)]
        names = ("position_n", "feature_n", "activation_n", "pre_activation_n", "bias_n")
        columns = [torch.cat([getattr(e, name) for e in self.encoded]) for name in names]
        return ActiveFeatures(torch.cat(layers), *columns)

    @cached_property
    def most_edges(self) -> int:
        """Edges that features' rows have together at most."""
        return max_edges(self.features.counts(len(self.passes), len(self.token_ids_P)))

    @property
    def n_vectors(self) -> int:
        """Vectors that features write: one for each layer."""
        return sum(len(e.position_n) * e.decoder_UJD.shape[1] for e in self.encoded)

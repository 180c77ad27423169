"""The two ends of direct edges: what sources write, and what targets read."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import Target, unembedding_reads
from cotrace.graphs.nodes import ErrorNode, Feature, Token

SourceNode = Feature | ErrorNode | Token
EMBEDDING = -1  # the layer at which tokens write


class EdgeSources:
    """S nodes, each with one position, and the vectors that they write.

    Attributes:
        nodes: the nodes.
        layer_S: the layer after whose attention each first writes; `EMBEDDING` for tokens.
        position_S: their positions.

    Raises:
        ArgumentError: a feature is not active.
    """

    def __init__(self, replacement: LocalReplacementModel, nodes: Sequence[SourceNode]):
        self.replacement, self.nodes, device = replacement, nodes, replacement.device
        layers = [EMBEDDING if isinstance(node, Token) else node.layer for node in nodes]
        self.layer_S = torch.tensor(layers, device=device)
        self.position_S = torch.tensor([node.position for node in nodes], device=device)
        self._feature_s = self._where(Feature)
        indices = [replacement.features.require(node) for node in nodes if isinstance(node, Feature)]
        self._column_s = replacement.column_N[torch.tensor(indices, dtype=torch.long, device=device)]
        self._error_S = torch.zeros(len(nodes), dtype=torch.bool, device=device)
        self._error_S[self._where(ErrorNode)] = True

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<EdgeSources: {len(self):,} nodes>"

    def _where(self, kind: type) -> Tensor:
        found = [number for number, node in enumerate(self.nodes) if isinstance(node, kind)]
        return torch.tensor(found, dtype=torch.long, device=self.replacement.device)

    def written(self, layer: int) -> Tensor:
        """Return what each source writes at a layer's MLP output, or at the embedding, (S, D); zero for nothing."""
        replacement = self.replacement
        written_SD = replacement.embedding_PD.new_zeros(len(self), replacement.embedding_PD.shape[1])
        own_S = self.layer_S == layer
        if layer == EMBEDDING:
            written_SD[own_S] = replacement.embedding_PD[self.position_S[own_S]]
            return written_SD
        errors_S = own_S & self._error_S
        written_SD[errors_S] = replacement.rest_LKPD[layer, 0, self.position_S[errors_S]]
        vectors = replacement.decoder_vectors[layer]
        writes_s, vectors_nD = vectors.of_features(self.position_S[self._feature_s], self._column_s)
        written_SD[self._feature_s[writes_s]] = vectors_nD
        return written_SD

    @cached_property
    def before_attention(self) -> list[Tensor]:
        """The vectors that reach the residual stream before each attention, and after the last MLP, without any attention: L + 1 times (S, D)."""
        replacement, stream_SD = self.replacement, self.written(EMBEDDING)
        streams = [stream_SD]
        for layer in range(replacement.n_layers):
            scale_S = replacement.mlp_in_rms_LP[layer, self.position_S]
            stream_SD = _through_skip(replacement, layer, stream_SD, scale_S) + self.written(layer)
            streams.append(stream_SD)
        return streams


class EdgeTargets:
    """T targets, and the vectors with which they read the residual stream.

    Attributes:
        targets: the targets, resolved.
        layer_T: the layer before whose MLP each reads; L is the unembedding.
        position_T: their positions.
    """

    def __init__(self, replacement: LocalReplacementModel, targets: Sequence[Target]):
        self.replacement, self.targets, device = replacement, targets, replacement.device
        layers = [replacement.n_layers if t.feature is None else t.feature.layer for t in targets]
        self.layer_T = torch.tensor(layers, device=device)
        self.position_T = torch.tensor([t.position for t in targets], device=device)
        self.read_TD = self._reads()

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"<EdgeTargets: {len(self):,}>"

    def _reads(self) -> Tensor:
        replacement = self.replacement
        read_TD = replacement.embedding_PD.new_zeros(len(self), replacement.embedding_PD.shape[1])
        _, logit_reads = unembedding_reads(replacement, [t for t in self.targets if t.feature is None])
        read_TD[self.layer_T == replacement.n_layers] = logit_reads
        for layer in range(replacement.n_layers):
            here_T = self.layer_T == layer
            own = [t.feature_index for t, here in zip(self.targets, here_T.tolist(), strict=True) if here]
            if own:
                read_TD[here_T] = replacement.read_vectors(layer, torch.tensor(own, device=replacement.device))
        return read_TD

    @cached_property
    def after_attention(self) -> list[Tensor]:
        """Gradients after each attention along the paths that pass no later one: L times (T, D).

        Those of targets that read before an attention have no meaning there. Layers without a skip share one tensor.
        """
        replacement, grad_TD = self.replacement, self.read_TD
        gradients = [grad_TD] * replacement.n_layers
        for layer in reversed(range(replacement.n_layers)):
            scale_T = replacement.mlp_in_rms_LP[layer, self.position_T] * (self.layer_T > layer)
            gradients[layer] = grad_TD = _back_through_skip(replacement, layer, grad_TD, scale_T)
        return gradients


class Edges:
    """E edges between S sources and T targets, given by their numbers."""

    def __init__(self, sources: EdgeSources, targets: EdgeTargets, source_E: Tensor, target_E: Tensor):
        self.sources, self.targets, self.source_E, self.target_E = sources, targets, source_E, target_E
        self.lowest_E, self.highest_E = sources.layer_S[source_E], targets.layer_T[target_E]

    def __len__(self) -> int:
        return len(self.source_E)

    def __repr__(self) -> str:
        return f"<Edges: {len(self):,} from {len(self.sources):,} sources to {len(self.targets):,} targets>"

    def passing(self, layer: int) -> Tensor:
        """Return the numbers of the edges that can pass a layer's attention."""
        return ((self.lowest_E < layer) & (layer <= self.highest_E)).nonzero()[:, 0]


def _through_skip(replacement: LocalReplacementModel, layer: int, stream_SD: Tensor, scale_S: Tensor) -> Tensor:
    """Return streams after a layer's affine skip, without what its MLP writes."""
    back_DD = replacement.skip_back[layer]
    return stream_SD if back_DD is None else stream_SD + scale_S[:, None] * (stream_SD @ back_DD.T)


def _back_through_skip(replacement: LocalReplacementModel, layer: int, grad_TD: Tensor, scale_T: Tensor) -> Tensor:
    """Return gradients before a layer's affine skip."""
    back_DD = replacement.skip_back[layer]
    return grad_TD if back_DD is None else grad_TD + scale_T[:, None] * (grad_TD @ back_DD)

"""The local replacement model of one prompt: linear between nodes, and equal to the model on this prompt."""

import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass, FrozenLayer, LayerCache
from cotrace.attribution.models.gemma3 import Gemma3, LayerWeights
from cotrace.attribution.models.memory import release_freed_memory
from cotrace.kernels.decode import decode

from .activations import PromptActivations
from .decoder_vectors import DecoderVectors


class LocalReplacementModel:
    """The local replacement model of one prompt: linear between nodes, and equal to the model on this prompt.

    Attention patterns and norm scales are frozen, and every MLP is replaced by its active features, affine skip
    connection, errors and constants. Method: Ameisen et al., "Circuit Tracing" (2025), "The local replacement model".

    In the sweep, columns of features are position-major (`column_N`), so that the source vectors at one layer and
    position have consecutive columns.

    Args:
        activations: the model's activations on the prompt.
        keep_vectors: whether decoder vectors are stored; otherwise they are recomputed for every batch of rows.
    """

    def __init__(self, activations: PromptActivations, keep_vectors: bool = True):
        weights, arch = activations.weights, activations.weights.architecture
        layer_caches, encoded = activations.layer_caches, activations.encoded
        self.weights = weights
        self.features = activations.features
        self.max_edges = activations.max_edges
        self.token_ids_P = activations.token_ids_P
        self.n_positions = len(activations.token_ids_P)
        self.n_layers = arch.n_layers
        self.constant_prefix = activations.masked.constant_prefix
        self.masked_positions = activations.masked.positions
        self.embedding_PD = weights.embed(activations.token_ids_P)
        self.final_resid_PD = activations.final_resid_PD
        self.final_rms_P = weights.final_rms(activations.final_resid_PD)
        self.mlp_in_rms_LP = torch.stack([cache.rms_mlp_in_P for cache in layer_caches])
        self.patterns = [cache.pattern.scaled(cache.rms_attn_out_P, cache.rms_attn_in_P) for cache in layer_caches]
        self.attention = [_attention_maps(weights, layer) for layer in range(arch.n_layers)]
        self.encoder_UD = [e.encoder_UD * weights.norm_mlp_in(layer) for layer, e in enumerate(encoded)]
        self.row_N = torch.cat([e.row_n for e in encoded])
        rms_N = self.mlp_in_rms_LP[self.features.layer_N, self.features.position_N]
        self.read_scale_N = torch.cat([e.read_scale_n for e in encoded]) * rms_N
        self.skip = [activations.transcoders.skip(layer, self.embedding_PD) for layer in range(arch.n_layers)]
        self.skip_back = [None if s is None else s.T * weights.norm_mlp_in(i) for i, s in enumerate(self.skip)]
        self.column_N, self.first_column_LP = self._columns()
        self.decoded_LPD = decode([e.decode_input for e in encoded], [e.decoder_UJD for e in encoded], self.n_positions)
        self.decoder_vectors = self._decoder_vectors(activations, keep_vectors)
        # MLP outputs minus features and skip connections: errors (K = 0) and constants (K = 1).
        self.rest_LKPD = self.embedding_PD.new_zeros(arch.n_layers, 2, *self.embedding_PD.shape)
        for layer in range(arch.n_layers):
            self._split_remainder(layer, activations)

    def __repr__(self) -> str:
        return f"<LocalReplacementModel: {self.n_positions:,} tokens, {len(self.features):,} active features>"

    @property
    def dtype(self) -> torch.dtype:
        """Type of all computations."""
        return self.read_scale_N.dtype

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.read_scale_N.device

    def read_vectors(self, layer: int, feature_T: Tensor) -> Tensor:
        """Return the read vectors (T, D) of features of a layer, given by index, at the residual stream before its MLP.

        A feature's pre-activation is the dot product of its read vector and the residual stream, plus its bias: the
        frozen norm is folded in.
        """
        return self.encoder_UD[layer][self.row_N[feature_T]] * self.read_scale_N[feature_T, None]

    def free_decoder_vectors(self) -> None:
        """Free the memory of the decoder vectors. No rows can be computed afterwards."""
        self.decoder_vectors.clear()
        release_freed_memory()

    def _columns(self) -> tuple[Tensor, Tensor]:
        """Return the position-major column of every feature (N,), and the first column of each site (L+1, P)."""
        features, counts_LP = self.features, self.features.counts(self.n_layers, self.n_positions)
        per_position = counts_LP.sum(0)
        start_P = per_position.cumsum(0) - per_position
        first_LP = start_P + torch.cat([torch.zeros_like(counts_LP[:1]), counts_LP.cumsum(0)])
        order = torch.argsort(features.position_N, stable=True)  # layers and features ascend within a position
        column_N = torch.empty_like(order)
        column_N[order] = torch.arange(len(order), device=order.device)
        return column_N, first_LP

    def _decoder_vectors(self, activations: PromptActivations, keep: bool) -> list[DecoderVectors]:
        """Return the decoder vectors of features at each layer's MLP output, grouped by position."""
        encoded = activations.encoded
        rows_JU = [rows.to(self.device) for rows in activations.decoders.rows_JU]
        vectors = []
        for layer in range(self.n_layers):
            sources = [s for s in range(layer + 1) if layer - s < len(rows_JU[s])]  # layers that write to this one
            position_E = torch.cat([encoded[s].position_n for s in sources])
            order = torch.argsort(position_E, stable=True)
            row_E = torch.cat([rows_JU[s][layer - s, encoded[s].row_n] for s in sources])[order]
            scale_E = torch.cat([encoded[s].write_scale_n for s in sources])[order]
            offsets = [0, *torch.bincount(position_E, minlength=self.n_positions).cumsum(0).tolist()]
            columns = self.first_column_LP[sources[0]].tolist()
            vectors.append(DecoderVectors(activations.table_RD, row_E, scale_E, offsets, columns, keep))
        return vectors

    def _split_remainder(self, layer: int, activations: PromptActivations) -> None:
        """Split the MLP output minus features and skip connection into error nodes and constants."""
        cache, (error_PD, constant_PD), first = (
            activations.layer_caches[layer],
            self.rest_LKPD[layer],
            self.constant_prefix,
        )
        open_p = activations.masked.open_positions(self.n_positions, self.device)
        rest_PD, bias_PD = activations.transcoders.remainder(cache, self.decoded_LPD[layer], self.skip[layer], open_p)
        constant_PD[first:], constant_PD[:first] = bias_PD[first:], rest_PD[:first]
        error_PD[first:] = rest_PD[first:]

    def forward(self) -> Tensor:
        """Run the local replacement model from the embeddings; return logits (P, V), equal to the model's.

        Attention patterns and norm scales are frozen. MLP outputs are those of features, skips, errors and constants.
        """
        one_P = torch.ones_like(self.final_rms_P)  # the patterns contain both scales of the attention's norms
        frozen = [
            FrozenLayer(pattern, one_P, one_P, rms_P)
            for pattern, rms_P in zip(self.patterns, self.mlp_in_rms_LP, strict=True)
        ]
        forward_pass = ForwardPass(self.weights, self.embedding_PD, frozen=frozen, mlp=self._mlp)
        return self.weights.logits(forward_pass.run())

    def _mlp(self, before: LayerCache, w: LayerWeights) -> LayerCache:
        """Return the layer with the MLP output that features, skip, errors and constants add up to."""
        mlp_out_PD = self.decoded_LPD[before.layer] + self.rest_LKPD[before.layer].sum(0)
        skip = self.skip[before.layer]
        return before._replace(mlp_out_PD=mlp_out_PD if skip is None else mlp_out_PD + before.mlp_in_PD @ skip)


def _attention_maps(weights: Gemma3, layer: int) -> tuple[Tensor, Tensor]:
    """Return value maps (KV, d_head, D) and output maps (H, D, d_head), with the norm weights folded in."""
    arch, w = weights.architecture, weights.layer(layer)
    value = (w.w_v * w.norm_attn_in_D).unflatten(0, (arch.n_kv_heads, arch.d_head))
    output = (w.w_o * w.norm_attn_out_D[:, None]).unflatten(1, (arch.n_heads, arch.d_head)).transpose(0, 1)
    return value, output.contiguous()

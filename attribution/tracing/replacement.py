"""The local replacement model of one prompt: linear between nodes, and equal to the model on this prompt."""

import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.kernels.decode import decode

from .activations import PromptActivations
from .decoder_vectors import DecoderVectors


class LocalReplacementModel:
    """The local replacement model: linear between nodes, and exactly the model on this prompt.

    Columns inside the sweep are position-major, `column_N` maps features to them, so that all that
    is written at one layer and position is one consecutive range of columns.
    """

    def __init__(self, survey: PromptActivations, hold: bool = True):
        weights, arch = survey.weights, survey.weights.architecture
        self.weights = weights
        self.features = survey.features
        self.most_edges = survey.most_edges
        self.token_ids_P = survey.token_ids_P
        self.n_positions = len(survey.token_ids_P)
        self.n_layers = arch.n_layers
        self.constant_prefix = survey.masked.constant_prefix
        self.masked_positions = survey.masked.positions
        self.embedding_PD = weights.embed(survey.token_ids_P)
        self.final_resid_PD = survey.final_resid_PD
        self.final_rms_P = weights.final_rms(survey.final_resid_PD)
        self.mlp_in_rms_LP = torch.stack([done.rms_mlp_in_P for done in survey.passes])
        self.pattern = [done.pattern.scaled(done.rms_attn_out_P, done.rms_attn_in_P) for done in survey.passes]
        self.attention = [_attention_maps(weights, layer) for layer in range(arch.n_layers)]
        self.encoder_UD = [e.encoder_UD * weights.norm_mlp_in(layer) for layer, e in enumerate(survey.encoded)]
        self.row_N = torch.cat([e.row_n for e in survey.encoded])
        rms_N = self.mlp_in_rms_LP[self.features.layer_N, self.features.position_N]
        self.read_scale_N = torch.cat([e.read_scale_n for e in survey.encoded]) * rms_N
        self.skip = [survey.transcoders.skip(layer, self.embedding_PD) for layer in range(arch.n_layers)]
        self.skip_back = [None if s is None else s.T * weights.norm_mlp_in(i) for i, s in enumerate(self.skip)]
        self.column_N, self.first_column_LP = self._columns()
        self.decoded_LPD = decode(
            [e.decoded for e in survey.encoded], [e.decoder_UJD for e in survey.encoded], self.n_positions
        )
        rows_JU = [rows.to(self.device) for rows in survey.decoders.rows_JU]
        self.written = [self._writes(layer, survey, rows_JU, hold) for layer in range(arch.n_layers)]
        # What features and skips leave of each MLP's output: errors, then constants.
        self.rest_LKPD = self.embedding_PD.new_zeros(arch.n_layers, 2, *self.embedding_PD.shape)
        for layer in range(arch.n_layers):
            self._split_remainder(layer, survey)

    @property
    def dtype(self) -> torch.dtype:
        """Of all that is computed."""
        return self.read_scale_N.dtype

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.read_scale_N.device

    def read(self, layer: int, nodes_T: Tensor) -> Tensor:
        """What features of a layer read at the residual stream before its MLP, through the frozen norm, (T, D)."""
        return self.encoder_UD[layer][self.row_N[nodes_T]] * self.read_scale_N[nodes_T, None]

    def _columns(self) -> tuple[Tensor, Tensor]:
        """Position-major column of every feature (N,), and of each (layer, position)'s first (L+1, P)."""
        features, counts_LP = self.features, self.features.counts(self.n_layers, self.n_positions)
        per_position = counts_LP.sum(0)
        start_P = per_position.cumsum(0) - per_position
        first_LP = start_P + torch.cat([torch.zeros_like(counts_LP[:1]), counts_LP.cumsum(0)])
        order = torch.argsort(features.position_N, stable=True)  # layers and features ascend within
        column_N = torch.empty_like(order)
        column_N[order] = torch.arange(len(order), device=order.device)
        return column_N, first_LP

    def _writes(self, layer: int, survey: PromptActivations, rows_JU: list[Tensor], hold: bool) -> DecoderVectors:
        """All that features write at one layer's MLP output, grouped by position."""
        encoded = survey.encoded
        writers = [s for s in range(layer + 1) if layer - s < len(rows_JU[s])]
        position_E = torch.cat([encoded[s].position_n for s in writers])
        order = torch.argsort(position_E, stable=True)
        row_E = torch.cat([rows_JU[s][layer - s, encoded[s].row_n] for s in writers])[order]
        scale_E = torch.cat([encoded[s].write_scale_n for s in writers])[order]
        offsets = [0, *torch.bincount(position_E, minlength=self.n_positions).cumsum(0).tolist()]
        return DecoderVectors(survey.table_RD, row_E, scale_E, offsets, self.first_column_LP[writers[0]].tolist(), hold)

    def _split_remainder(self, layer: int, survey: PromptActivations) -> None:
        """Split what features and skip leave of the MLP's output into constants and error nodes."""
        done, (error_PD, constant_PD) = survey.passes[layer], self.rest_LKPD[layer]
        rest_PD = done.mlp_out_PD - self.decoded_LPD[layer]
        skip = self.skip[layer]
        if skip is not None:
            rest_PD -= done.mlp_in_PD @ skip
        bias_D = survey.transcoders.output_bias(layer, rest_PD)
        if bias_D is not None:
            positions = survey.masked.open_positions(self.n_positions, rest_PD.device)
            constant_PD[positions] = bias_D
        rest_PD -= constant_PD
        constant_PD[: self.constant_prefix] = rest_PD[: self.constant_prefix]
        error_PD[self.constant_prefix :] = rest_PD[self.constant_prefix :]

    def forward(self) -> Tensor:
        """Run the replacement forwards from the embeddings; logits (P, V), the real model's.

        Attention patterns and norm scales are the frozen ones, MLP outputs the features', skips',
        errors' and constants'.
        """
        resid_PD = self.embedding_PD
        for layer in range(self.n_layers):
            resid_PD = resid_PD + self._frozen_attention(layer, resid_PD)
            mlp_out_PD = self.decoded_LPD[layer] + self.rest_LKPD[layer].sum(0)
            skip = self.skip[layer]
            if skip is not None:
                mlp_in = resid_PD * self.mlp_in_rms_LP[layer][:, None] * self.weights.norm_mlp_in(layer)
                mlp_out_PD += mlp_in @ skip
            resid_PD = resid_PD + mlp_out_PD
        return self.weights.logits(resid_PD)

    def _frozen_attention(self, layer: int, resid_PD: Tensor) -> Tensor:
        value_KdD, output_HDd = self.attention[layer]
        values_KPd = resid_PD @ value_KdD.mT
        mixed_HPd = self.pattern[layer].forward(values_KPd.repeat_interleave(len(output_HDd) // len(value_KdD), 0))
        return (mixed_HPd @ output_HDd.mT).sum(0)


def _attention_maps(weights: Gemma3, layer: int) -> tuple[Tensor, Tensor]:
    """Value maps (KV, d_head, D) and output maps (H, D, d_head) with the norm weights folded in."""
    arch, w = weights.architecture, weights.layer(layer)
    value = (w.w_v * w.norm_attn_in_D).unflatten(0, (arch.n_kv_heads, arch.d_head))
    output = (w.w_o * w.norm_attn_out_D[:, None]).unflatten(1, (arch.n_heads, arch.d_head)).transpose(0, 1)
    return value, output.contiguous()

"""The weights of a Gemma 3 language model and the forward pass that yields what tracing freezes."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import ACT2FN

from .architecture import Architecture, read_architecture
from .attention_pattern import AttentionPattern, PatternBlock, QueryBlock, causal_mask, query_blocks


class LayerCache(NamedTuple):
    """What one layer did on one prompt. P positions, D width, H heads; several sequences have one more dimension in front."""

    layer: int
    pattern: AttentionPattern  # attention probabilities
    rms_attn_in_P: Tensor  # reciprocal RMS of each norm's input
    rms_attn_out_P: Tensor
    rms_mlp_in_P: Tensor
    rms_mlp_out_P: Tensor
    mlp_in_PD: Tensor  # weighted pre-feedforward norm output: what transcoders read
    mlp_out_PD: Tensor  # weighted post-feedforward norm output: what transcoders write


class KVCache:
    """Keys and values of the positions that were read, by layer, as far back as the next ones attend."""

    def __init__(self) -> None:
        self.length = 0  # positions that all layers have read
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def add_keys(self, layer: int, k_KPd: Tensor, window: int | None) -> Tensor:
        """Keys (…, KV, kept, d) of a layer that the next positions attend to, these themselves the last."""
        return self._add(self._keys, layer, k_KPd, window)

    def add_values(self, layer: int, v_KPd: Tensor, window: int | None) -> Tensor:
        """As `add_keys`, of values."""
        return self._add(self._values, layer, v_KPd, window)

    @staticmethod
    def _add(kept: dict[int, Tensor], layer: int, new_KPd: Tensor, window: int | None) -> Tensor:
        if layer in kept:
            old_KPd = kept[layer]
            first = 0 if window is None else max(0, old_KPd.shape[-2] - (window - 1))  # a position attends to itself
            new_KPd = torch.cat([old_KPd[..., first:, :], new_KPd], dim=-2)
        kept[layer] = new_KPd
        return new_KPd


class AttentionOutput(NamedTuple):
    """The residual stream (…, P, D) after a layer's attention, and what the attention did."""

    resid_PD: Tensor
    pattern: AttentionPattern
    rms_in_P: Tensor
    rms_out_P: Tensor


SeeMLP = Callable[[int, Tensor, Tensor], Tensor | None]  # layer, input, output


@dataclass(frozen=True)
class LayerWeights:
    """One layer in the compute dtype. Norm weights are stored as the factor that multiplies."""

    norm_attn_in_D: Tensor
    norm_attn_out_D: Tensor
    norm_mlp_in_D: Tensor
    norm_mlp_out_D: Tensor
    norm_q: Tensor
    norm_k: Tensor
    w_q: Tensor  # (H * d_head, D)
    w_k: Tensor  # (KV * d_head, D)
    w_v: Tensor
    w_o: Tensor  # (D, H * d_head)
    w_gate: Tensor  # (d_mlp, D)
    w_up: Tensor
    w_down: Tensor  # (D, d_mlp)


class Gemma3:
    """A Hugging Face Gemma 3 used as a container of weights, and its forward pass on one prompt.

    The pass is our own because every reciprocal RMS and attention pattern is needed, in float64
    too, where the library's norms compute in float32. Weights may be stored in another dtype than
    `compute_dtype`; each layer is converted when it is used.
    """

    def __init__(self, hf_model: Any, compute_dtype: torch.dtype):
        self.architecture: Architecture = read_architecture(hf_model.config)
        base = hf_model.model
        self._text = getattr(base, "language_model", base)
        self._unembedding_VD = hf_model.lm_head.weight
        self.dtype = compute_dtype
        self._mean_unembedding_D: Tensor | None = None

    @property
    def stored_dtype(self) -> torch.dtype:
        """Type in which the weights are stored; computed is in `dtype`."""
        return self._unembedding_VD.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._unembedding_VD.device

    def layer(self, index: int) -> LayerWeights:
        """Weights of one layer in the compute dtype."""
        block = self._text.layers[index]
        attention, mlp = block.self_attn, block.mlp
        return LayerWeights(
            norm_attn_in_D=self._norm_factor(block.input_layernorm),
            norm_attn_out_D=self._norm_factor(block.post_attention_layernorm),
            norm_mlp_in_D=self._norm_factor(block.pre_feedforward_layernorm),
            norm_mlp_out_D=self._norm_factor(block.post_feedforward_layernorm),
            norm_q=self._norm_factor(attention.q_norm),
            norm_k=self._norm_factor(attention.k_norm),
            w_q=self._cast(attention.q_proj.weight),
            w_k=self._cast(attention.k_proj.weight),
            w_v=self._cast(attention.v_proj.weight),
            w_o=self._cast(attention.o_proj.weight),
            w_gate=self._cast(mlp.gate_proj.weight),
            w_up=self._cast(mlp.up_proj.weight),
            w_down=self._cast(mlp.down_proj.weight),
        )

    def norm_mlp_in(self, index: int) -> Tensor:
        """The factor (D,) of the norm before a layer's MLP."""
        return self._norm_factor(self._text.layers[index].pre_feedforward_layernorm)

    @property
    def final_norm_D(self) -> Tensor:
        """The factor of the norm before the unembedding."""
        return self._norm_factor(self._text.norm)

    def unembedding(self, token_ids: Tensor) -> Tensor:
        """Rows of the unembedding, (K, D), not centred."""
        return self._cast(self._unembedding_VD[token_ids])

    @property
    def mean_unembedding_D(self) -> Tensor:
        """Mean row over the vocabulary; subtracted from a row, it centres the logit."""
        if self._mean_unembedding_D is None:
            exact = torch.promote_types(self.stored_dtype, torch.float32)
            chunks = self._unembedding_VD.split(2**10)  # few enough to be added up in float32, and they in float64
            total_D = sum(chunk.sum(0, dtype=exact).double() for chunk in chunks)
            self._mean_unembedding_D = self._cast(total_D / len(self._unembedding_VD))
        return self._mean_unembedding_D

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token embeddings as they enter the residual stream, (P, D): scaled by sqrt(D)."""
        return self._cast(self._text.embed_tokens.weight[token_ids]) * self.architecture.embedding_scale

    def logits(self, resid_PD: Tensor, rms_P: Tensor | None = None) -> Tensor:
        """Logits (…, P, V) of final residual streams (…, P, D); a reciprocal RMS that is given is used as it is."""
        normed = self.final_normed(resid_PD, rms_P)
        if self.stored_dtype == self.dtype:
            return normed @ self._unembedding_VD.T
        chunks = self._unembedding_VD.split(2**15)  # never the whole unembedding in two dtypes
        return torch.cat([normed @ self._cast(chunk).T for chunk in chunks], dim=-1)

    def final_normed(self, resid_PD: Tensor, rms_P: Tensor | None = None) -> Tensor:
        """What the unembedding reads of final residual streams, (…, P, D)."""
        return self.rms_norm(resid_PD, self.final_norm_D, rms_P)[0]

    def final_rms(self, resid_PD: Tensor) -> Tensor:
        """Reciprocal RMS of the final norm, (P,)."""
        return self.rms_norm(resid_PD, self.final_norm_D)[1]

    def run(self, token_ids: Tensor) -> Iterator[LayerCache | Tensor]:
        """Run one prompt (P,): yields a `LayerCache` for each layer, then the final residual (P, D)."""
        resid_PD = self.embed(token_ids)
        for index in range(self.architecture.n_layers):
            done, resid_PD = self._run_layer(index, resid_PD)
            yield done
        yield resid_PD

    def run_library(self, token_ids_BP: Tensor, see: SeeMLP) -> Tensor:
        """The library's own pass over sequences of one length, in the dtype of the weights; (B, P, D) after the last norm.

        `see` is called at every MLP, from the first layer on, with its input and output (B, P, D); what it
        returns, unless None, takes the output's place.
        """
        seen: dict[int, Tensor] = {}

        def note_input(index: int, output: Tensor) -> None:
            seen[index] = output

        def show(index: int, output: Tensor) -> Tensor | None:
            return see(index, seen.pop(index), output)

        hooks = []
        try:
            for index, block in enumerate(self._text.layers):
                for norm, use in (
                    (block.pre_feedforward_layernorm, note_input),
                    (block.post_feedforward_layernorm, show),
                ):
                    hook = functools.partial(_call_with_output, functools.partial(use, index))
                    hooks.append(norm.register_forward_hook(hook))
            return self._text(input_ids=token_ids_BP, use_cache=False).last_hidden_state
        finally:
            for registered in hooks:
                registered.remove()

    def logits_of_normed(self, normed: Tensor) -> Tensor:
        """Logits (…, V) of what `run_library` returns."""
        return normed @ self._unembedding_VD.T

    @torch.no_grad()
    def sample(self, n_sequences: int, length: int, bos_id: int, generator: torch.Generator) -> Tensor:
        """Sequences (n, length) that start with BOS and that the model goes on at temperature 1, ids (int64)."""
        ids_BP, cache = torch.full((n_sequences, 1), bos_id, device=self.device), None
        while ids_BP.shape[1] < length:
            out = self._text(input_ids=ids_BP[:, -1:], past_key_values=cache, use_cache=True)
            cumulative_BV = self.logits_of_normed(out.last_hidden_state[:, -1]).double().softmax(-1).cumsum(-1)
            uniform_B1 = torch.rand(n_sequences, 1, generator=generator, device=self.device, dtype=torch.float64)
            drawn_B1 = torch.searchsorted(cumulative_BV, uniform_B1 * cumulative_BV[:, -1:], right=True)
            ids_BP, cache = torch.cat([ids_BP, drawn_B1], 1), out.past_key_values
        return ids_BP

    def _run_layer(self, index: int, resid_PD: Tensor) -> tuple[LayerCache, Tensor]:
        weights = self.layer(index)
        resid_PD, pattern, rms_attn_in, rms_attn_out = self.attend(index, weights, resid_PD)
        mlp_in, rms_mlp_in = self.rms_norm(resid_PD, weights.norm_mlp_in_D)
        mlp_out, rms_mlp_out = self.mlp(weights, mlp_in)
        scales = rms_attn_in, rms_attn_out, rms_mlp_in, rms_mlp_out
        return LayerCache(index, pattern, *scales, mlp_in, mlp_out), resid_PD + mlp_out

    def attend(
        self,
        index: int,
        weights: LayerWeights,
        resid_PD: Tensor,
        past: KVCache | None = None,
        pattern: AttentionPattern | None = None,
        rms: tuple[Tensor, Tensor] | None = None,
    ) -> AttentionOutput:
        """A layer's attention on residual streams (…, P, D), with its norms.

        `past` has the positions before, and takes these up. A pattern and reciprocal RMS that are given are used
        instead of the layer's own.
        """
        rms_in, rms_out = rms or (None, None)
        normed_PD, rms_in = self.rms_norm(resid_PD, weights.norm_attn_in_D, rms_in)
        v_KPd = self._heads(normed_PD @ weights.w_v.T, None)
        if pattern is None:
            pattern = self._pattern(index, weights, normed_PD, past)
        if past is not None:
            v_KPd = past.add_values(index, v_KPd, self.architecture.window(index))
        v_HPd = v_KPd.repeat_interleave(self._group, -3)
        mixed_PE = pattern.forward(v_HPd).transpose(-2, -3).flatten(-2)
        attn_out, rms_out = self.rms_norm(mixed_PE @ weights.w_o.T, weights.norm_attn_out_D, rms_out)
        return AttentionOutput(resid_PD + attn_out, pattern, rms_in, rms_out)

    def mlp(self, weights: LayerWeights, mlp_in_PD: Tensor, added_PM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Output (…, P, D) of an MLP after its norm, and the norm's reciprocal RMS; `added_PM` is added to its neurons."""
        hidden_PM = self.activation(mlp_in_PD @ weights.w_gate.T) * (mlp_in_PD @ weights.w_up.T)
        if added_PM is not None:
            hidden_PM = hidden_PM + added_PM
        return self.rms_norm(hidden_PM @ weights.w_down.T, weights.norm_mlp_out_D)

    def _pattern(self, index: int, weights: LayerWeights, normed_PD: Tensor, past: KVCache | None) -> AttentionPattern:
        """A layer's attention pattern, of queries that come after the past."""
        arch = self.architecture
        first = 0 if past is None else past.length
        stop = first + normed_PD.shape[-2]
        q_HPd = self._heads(normed_PD @ weights.w_q.T, weights.norm_q)
        k_KPd = self._heads(normed_PD @ weights.w_k.T, weights.norm_k)
        positions = torch.arange(first, stop, device=normed_PD.device)
        cos, sin = self._text.rotary_emb(normed_PD, positions[None], arch.layer_types[index])
        q_HPd, k_KPd = _rotate(q_HPd, cos, sin), _rotate(k_KPd, cos, sin)
        window = arch.window(index)
        if past is not None:
            k_KPd = past.add_keys(index, k_KPd, window)
        k_HPd, gone, blocks = k_KPd.repeat_interleave(self._group, -3), stop - k_KPd.shape[-2], []
        for span in query_blocks(stop, window, first):
            queries = slice(span.queries.start - first, span.queries.stop - first)
            keys = slice(span.keys.start - gone, span.keys.stop - gone)  # of those that are kept
            scores_Hqk = q_HPd[..., queries, :] @ k_HPd[..., keys, :].mT * arch.attention_scale
            scores_Hqk.masked_fill_(causal_mask(span, window, scores_Hqk.device), float("-inf"))
            blocks.append(PatternBlock(QueryBlock(span.queries, keys), F.softmax(scores_Hqk, dim=-1)))
        return AttentionPattern(blocks)

    @property
    def _group(self) -> int:
        return self.architecture.n_heads // self.architecture.n_kv_heads

    def _heads(self, projected: Tensor, norm: Tensor | None) -> Tensor:
        heads = projected.unflatten(-1, (-1, self.architecture.d_head)).transpose(-2, -3)
        return heads if norm is None else self.rms_norm(heads, norm)[0]

    def activation(self, gate: Tensor) -> Tensor:
        """The MLP's gate function."""
        return ACT2FN[self.architecture.activation](gate)

    def rms_norm(self, x: Tensor, factor: Tensor, rms: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A norm's output, and its reciprocal RMS, which is computed unless it is given."""
        if rms is None:
            rms = torch.rsqrt(x.pow(2).mean(-1) + self.architecture.norm_eps)
        return x * rms[..., None] * factor, rms

    def _norm_factor(self, norm: Any) -> Tensor:
        return 1 + self._cast(norm.weight)

    def _cast(self, weight: Tensor) -> Tensor:
        return weight.detach().to(self.dtype)


def _call_with_output(
    use: Callable[[Tensor], Tensor | None], _module: Any, _inputs: Any, output: Tensor
) -> Tensor | None:
    """A forward hook that looks at the output only."""
    return use(output)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on (heads, P, d_head)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin

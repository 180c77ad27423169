"""The weights of a Gemma 3 language model, and the operations of its layers."""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.activations import ACT2FN

from .architecture import Architecture, read_architecture

MEAN_CHUNK_ROWS = 2**10  # few enough to be added up in float32; the sums of chunks are added in float64
MAX_ROTATIONS = 4  # kept: two kinds of layers, and a prompt beside its continuation
UNEMBEDDING_CHUNK_ROWS = 2**15  # converted at once, so that the whole matrix never exists in two dtypes


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one layer in the compute dtype; norm weights as the factor that multiplies, 1 + weight."""

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


class QueriesKeys(NamedTuple):
    """Queries (…, H, P, d) and keys (…, KV, P, d), normalised and rotated."""

    q_HPd: Tensor
    k_KPd: Tensor


class Gemma3:
    """Weights of a Hugging Face Gemma 3, and the operations that `forward.ForwardPass` is made of.

    The operations are ours because the reciprocal RMS of every norm is needed, in float64 too, where the library
    computes norms in float32. They are differentiable in activations; weights are constants. Weights may be
    stored in another dtype than `dtype`, in which everything is computed; each layer is then converted when it
    is used. Norms compute in float32 at least.
    """

    def __init__(self, hf_model: Any, compute_dtype: torch.dtype):
        self.architecture: Architecture = read_architecture(hf_model.config)
        base = hf_model.model
        self._text = getattr(base, "language_model", base)
        self._unembedding_VD = hf_model.lm_head.weight
        self.dtype = compute_dtype
        self._norm_dtype = torch.promote_types(compute_dtype, torch.float32)
        self._mean_unembedding_D: Tensor | None = None
        self._rotations: dict[tuple[str, int, int, torch.dtype], tuple[Tensor, Tensor]] = {}

    @property
    def stored_dtype(self) -> torch.dtype:
        """The dtype in which the weights are stored; `dtype` is that of the computation."""
        return self._unembedding_VD.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._unembedding_VD.device

    def in_dtype(self, dtype: torch.dtype) -> "Gemma3":
        """Return the same weights with computation in another dtype; nothing is copied."""
        other = copy.copy(self)
        other.dtype, other._norm_dtype = dtype, torch.promote_types(dtype, torch.float32)
        other._mean_unembedding_D, other._rotations = None, {}
        return other

    def layer(self, index: int) -> LayerWeights:
        """Return the weights of one layer in the compute dtype."""
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

    def attention_projection(self, index: int, projection: str) -> Tensor:
        """Return the stored weights (out, in) of a layer's `q_proj`, `k_proj`, `v_proj` or `o_proj`."""
        return self._text.layers[index].self_attn.get_submodule(projection).weight

    def norm_mlp_in(self, index: int) -> Tensor:
        """Return the factor (D,) of the norm before a layer's MLP."""
        return self._norm_factor(self._text.layers[index].pre_feedforward_layernorm)

    @property
    def final_norm_D(self) -> Tensor:
        """The factor (D,) of the norm before the unembedding."""
        return self._norm_factor(self._text.norm)

    def unembedding(self, token_ids: Tensor) -> Tensor:
        """Return rows of the unembedding, (K, D), not centred."""
        return self._cast(self._unembedding_VD[token_ids])

    @property
    def mean_unembedding_D(self) -> Tensor:
        """Mean row (D,) of the unembedding over the vocabulary; subtracting it from a row centres the logit."""
        if self._mean_unembedding_D is None:
            exact = torch.promote_types(self.stored_dtype, torch.float32)
            chunks = self._unembedding_VD.split(MEAN_CHUNK_ROWS)
            total_D = sum(chunk.sum(0, dtype=exact).double() for chunk in chunks)
            self._mean_unembedding_D = self._cast(total_D / len(self._unembedding_VD))
        return self._mean_unembedding_D

    @property
    def mean_embedding_D(self) -> Tensor:
        """Mean embedding (D,) over the vocabulary, scaled as embeddings enter the residual stream."""
        weight_VD = self._text.embed_tokens.weight
        exact = torch.promote_types(weight_VD.dtype, torch.float32)
        total_D = sum(chunk.sum(0, dtype=exact).double() for chunk in weight_VD.detach().split(MEAN_CHUNK_ROWS))
        return self._cast(total_D / len(weight_VD)) * self.architecture.embedding_scale

    def embed(self, token_ids: Tensor) -> Tensor:
        """Return the embeddings (…, P, D) of token ids (…, P), scaled by sqrt(D) as they enter the residual stream."""
        scale = torch.tensor(self.architecture.embedding_scale, dtype=self.dtype)  # rounded like the library's
        return self._cast(self._text.embed_tokens.weight[token_ids]) * scale

    def logits(self, resid_PD: Tensor, rms_P: Tensor | None = None) -> Tensor:
        """Return logits (…, P, V) of final residual streams (…, P, D), with the final norm's `rms_P` if given."""
        return self.unembed(self.final_normed(resid_PD, rms_P))

    def final_normed(self, resid_PD: Tensor, rms_P: Tensor | None = None) -> Tensor:
        """Return the final norm's output (…, P, D), which the unembedding reads."""
        return self.rms_norm(resid_PD, self.final_norm_D, rms_P)[0]

    def final_rms(self, resid_PD: Tensor) -> Tensor:
        """Return the reciprocal RMS of the final norm's input, (…, P)."""
        return self.rms_norm(resid_PD, self.final_norm_D)[1]

    def unembed(self, normed_PD: Tensor) -> Tensor:
        """Return logits (…, P, V) of the final norm's output (…, P, D)."""
        if self.stored_dtype == self.dtype:
            return normed_PD @ self._unembedding_VD.T
        chunks = self._unembedding_VD.split(UNEMBEDDING_CHUNK_ROWS)
        return torch.cat([normed_PD @ self._cast(chunk).T for chunk in chunks], dim=-1)

    def rms_norm(self, x: Tensor, factor: Tensor, rms: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return a norm's output for `x` (…, D) and its reciprocal RMS (…), which is computed unless it is given."""
        exact = x.to(self._norm_dtype)
        if rms is None:
            rms = torch.rsqrt(exact.pow(2).mean(-1) + self.architecture.norm_eps)
        return (exact * rms[..., None] * factor).to(x.dtype), rms

    def queries_keys(
        self,
        layer: int,
        w: LayerWeights,
        normed_PD: Tensor,
        first: int,
        rms_q_HP: Tensor | None = None,
        rms_k_KP: Tensor | None = None,
    ) -> QueriesKeys:
        """Return queries and keys of the attention's normalised input (…, P, D), for positions from `first` on.

        The reciprocal RMS of their norms is computed unless it is given.
        """
        q_HPd = self.rms_norm(self.heads(normed_PD @ w.w_q.T), w.norm_q, rms_q_HP)[0]
        k_KPd = self.rms_norm(self.heads(normed_PD @ w.w_k.T), w.norm_k, rms_k_KP)[0]
        rotation = self._rotation(layer, normed_PD, first)
        return QueriesKeys(_rotate(q_HPd, *rotation), _rotate(k_KPd, *rotation))

    def rotated_back(self, layer: int, grad_KPd: Tensor) -> Tensor:
        """Return gradients (…, P, d) of rotated queries or keys as those of the ones before the rotation."""
        cos, sin = self._rotation(layer, grad_KPd, 0)
        return _rotate(grad_KPd, cos, -sin)

    def rotated_by(self, layer: int, rotated_KPd: Tensor, shift_P: Tensor) -> Tensor:
        """Return rotated queries or keys (…, P, d) as they are `shift_P` (P,) positions further on."""
        return _rotate(rotated_KPd, *self._rotation_at(layer, rotated_KPd, shift_P))

    def _rotation(self, layer: int, like: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines (1, P, d) of the rotary position embedding, for positions from `first` on."""
        key = self.architecture.layer_types[layer], like.shape[-2], first, like.dtype
        found = self._rotations.get(key)  # most layers of a pass have the same
        if found is None:
            if len(self._rotations) >= MAX_ROTATIONS:
                self._rotations.clear()
            positions = torch.arange(first, first + like.shape[-2], device=like.device)
            found = self._rotations[key] = self._rotation_at(layer, like, positions)
        return found

    def _rotation_at(self, layer: int, like: Tensor, position_P: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self._text.rotary_emb(like, position_P[None], self.architecture.layer_types[layer])
        return cos, sin

    def head_rms(self, w: LayerWeights, normed_PD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reciprocal RMS of queries (…, H, P) and keys (…, KV, P) of the attention's normalised input."""
        q_HPd, k_KPd = self.heads(normed_PD @ w.w_q.T), self.heads(normed_PD @ w.w_k.T)
        return self.rms_norm(q_HPd, w.norm_q)[1], self.rms_norm(k_KPd, w.norm_k)[1]

    def values(self, w: LayerWeights, normed_PD: Tensor) -> Tensor:
        """Return the values (…, KV, P, d) of the attention's normalised input (…, P, D)."""
        return self.heads(normed_PD @ w.w_v.T)

    def repeat_kv(self, x_KPd: Tensor) -> Tensor:
        """Return keys or values (…, KV, P, d) repeated for every query head, (…, H, P, d)."""
        return x_KPd.repeat_interleave(self.architecture.n_heads // self.architecture.n_kv_heads, -3)

    def mlp(self, w: LayerWeights, mlp_in_PD: Tensor, added_PM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return an MLP's output (…, P, D) after its norm, and the norm's reciprocal RMS.

        `added_PM` (…, P, d_mlp) is added to the neurons' activations.
        """
        neurons_PM = self.activation(mlp_in_PD @ w.w_gate.T) * (mlp_in_PD @ w.w_up.T)
        if added_PM is not None:
            neurons_PM = neurons_PM + added_PM
        return self.rms_norm(neurons_PM @ w.w_down.T, w.norm_mlp_out_D)

    def activation(self, gate: Tensor) -> Tensor:
        """Return the activation function of the MLP's gate."""
        return ACT2FN[self.architecture.activation](gate)

    def heads(self, projected: Tensor) -> Tensor:
        """Return queries, keys or values (…, P, heads * d) as (…, heads, P, d)."""
        return projected.unflatten(-1, (-1, self.architecture.d_head)).transpose(-2, -3)

    def _norm_factor(self, norm: Any) -> Tensor:
        return 1 + norm.weight.detach().to(self._norm_dtype)

    def _cast(self, weight: Tensor) -> Tensor:
        return weight.detach().to(self.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary position embedding to (…, heads, P, d)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin

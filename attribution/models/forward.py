"""The forward pass of Gemma 3, layer by layer: the only one in this project.

Tracing, interventions, training and sampling differ in what they keep and replace: attention patterns and norm
scales may be frozen at the values of an earlier pass, functions may compute the output of each MLP and replace queries,
keys and values, queries may be kept from attending to keys, keys and values may be cached. Nothing here writes in place to a tensor that it was given, and nothing turns gradients off:
logits are differentiable in the embeddings, in frozen values and in what replaces an MLP.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .attention_pattern import NO_PATTERN, AttentionPattern, PatternBlock, QueryBlock, causal_mask, query_blocks
from .gemma3 import Gemma3, LayerWeights, QueriesKeys
from .kv_cache import KVCache


class LayerCache(NamedTuple):
    """Activations of one layer in one forward pass. P positions, D width; a batch has one more dimension in front."""

    layer: int
    pattern: AttentionPattern  # attention probabilities; NO_PATTERN if the pass keeps none
    rms_attn_in_P: Tensor  # reciprocal RMS of each norm's input
    rms_attn_out_P: Tensor
    rms_mlp_in_P: Tensor
    rms_mlp_out_P: Tensor
    mlp_in_PD: Tensor  # weighted pre-feedforward norm output: what transcoders read
    mlp_out_PD: Tensor  # weighted post-feedforward norm output: what transcoders write


class FrozenLayer(NamedTuple):
    """Values that a layer uses instead of computing them; None is computed."""

    pattern: AttentionPattern | None = None
    rms_attn_in_P: Tensor | None = None
    rms_attn_out_P: Tensor | None = None
    rms_mlp_in_P: Tensor | None = None
    rms_q_HP: Tensor | None = None  # of queries and keys; without effect where the pattern is frozen
    rms_k_KP: Tensor | None = None


class AttentionOutput(NamedTuple):
    """The sum that one layer's attention adds to the residual stream (…, P, D), its pattern, and the scales of its norms."""

    out_PD: Tensor
    pattern: AttentionPattern
    rms_in_P: Tensor
    rms_out_P: Tensor


class LaterKeysValues(NamedTuple):
    """Keys and values (…, KV, P, d) of the new positions as some queries read them, instead of those of the pass.

    `reader_P` (P,), or (B, P) in a batch, is True where a query reads them.
    """

    reader_P: Tensor
    k_KPd: Tensor | None
    v_KPd: Tensor


class QueriesKeysValues(NamedTuple):
    """Queries (…, H, P, d), keys and values (…, KV, P, d) of the new positions, normalised and rotated.

    Queries and keys are None where the pattern is frozen. `later` holds other keys and values that some queries read;
    where several apply to a query, it reads the last. What follows in a KV cache reads the last of all.
    """

    q_HPd: Tensor | None
    k_KPd: Tensor | None
    v_KPd: Tensor
    later: tuple[LaterKeysValues, ...] = ()


# Takes a layer and its queries, keys and values; returns those to use instead, in other tensors where they differ.
AttentionEdit = Callable[[int, QueriesKeysValues], QueriesKeysValues]

# Takes a layer and its heads' outputs side by side (…, P, H * d), before their projection; returns those to use instead.
HeadsEdit = Callable[[int, Tensor], Tensor]

# Takes the layer up to its MLP (`mlp_out_PD` and `rms_mlp_out_P` are empty) and its weights; returns it with both set.
MLPFunction = Callable[[LayerCache, LayerWeights], LayerCache]


class ForwardPass:
    """A forward pass over residual streams (P, D), or (B, P, D) in a batch. Iterate to run it layer by layer.

    Args:
        weights: the model.
        resid_PD: the residual streams before the first layer that is run, usually `weights.embed(token_ids)`.
        kv_cache: keys and values of earlier positions; those of this pass are appended.
        frozen: values for each layer to use instead of computing them.
        mlp: computes the output of each layer's MLP; None runs the model's own (`model_mlp`).
        keep_patterns: whether layers yield their attention patterns. If not, attention runs in torch's fused kernel.
        first_layer: the layer before which `resid_PD` is; the pass starts there.
        blocked: True where a query must not attend to a key, (Q, K) bool, or (B, Q, K) or (B, H, Q, K) in a batch, for
            the Q new positions and the K positions read so far, these included. A mapping from layers has a mask for
            some. Each query needs a key that is left to it. Frozen patterns are used as they are.
        attention_edit: called with each layer's queries, keys and values of the new positions, before they are cached;
            returns those to use instead.
        heads_edit: called with each layer's heads' outputs before their projection; returns those to use instead.

    Example::

        forward_pass = ForwardPass(weights, weights.embed(token_ids))
        for layer_cache in forward_pass:
            ...
        logits = weights.logits(forward_pass.resid_PD)
    """

    def __init__(
        self,
        weights: Gemma3,
        resid_PD: Tensor,
        *,
        kv_cache: KVCache | None = None,
        frozen: Sequence[FrozenLayer] | None = None,
        mlp: MLPFunction | None = None,
        keep_patterns: bool = True,
        first_layer: int = 0,
        blocked: Tensor | Mapping[int, Tensor] | None = None,
        attention_edit: AttentionEdit | None = None,
        heads_edit: HeadsEdit | None = None,
    ):
        self.weights, self.resid_PD, self.kv_cache = weights, resid_PD, kv_cache
        self.frozen = frozen or [FrozenLayer()] * weights.architecture.n_layers
        self.mlp = mlp or model_mlp(weights)
        self.keep_patterns, self.first_layer = keep_patterns, first_layer
        self.blocked, self.attention_edit, self.heads_edit = blocked, attention_edit, heads_edit

    def __iter__(self) -> Iterator[LayerCache]:
        """Run the layers; `resid_PD` holds the residual stream after the layer yielded last, and may be replaced."""
        n_new = self.resid_PD.shape[-2]
        for layer in range(self.first_layer, self.weights.architecture.n_layers):
            yield self._run_layer(layer)
        if self.kv_cache is not None:
            self.kv_cache.length += n_new

    def run(self) -> Tensor:
        """Run all layers, keeping no activations; return the final residual stream (…, P, D)."""
        for _ in self:
            pass
        return self.resid_PD

    def _run_layer(self, layer: int) -> LayerCache:
        weights, frozen = self.weights, self.frozen[layer]
        w = weights.layer(layer)
        # 1. attention, between two norms
        attention = self.attend(layer, w, self.resid_PD)
        resid_PD = self.resid_PD + attention.out_PD
        # 2. MLP, or what replaces it
        mlp_in_PD, rms_mlp_in_P = weights.rms_norm(resid_PD, w.norm_mlp_in_D, frozen.rms_mlp_in_P)
        empty = mlp_in_PD.new_empty(0)
        before = LayerCache(layer, *attention[1:], rms_mlp_in_P, empty, mlp_in_PD, empty)
        after = self.mlp(before, w)
        # 3. residual stream
        self.resid_PD = resid_PD + after.mlp_out_PD
        return after

    def attend(self, layer: int, w: LayerWeights, resid_PD: Tensor) -> AttentionOutput:
        """Return what a layer's attention adds to a residual stream, with its norms; it is frozen as in the pass."""
        weights, frozen = self.weights, self.frozen[layer]
        normed_PD, rms_in_P = weights.rms_norm(resid_PD, w.norm_attn_in_D, frozen.rms_attn_in_P)
        mixed_PE, pattern = self.mix_values(layer, w, normed_PD)
        if self.heads_edit is not None:
            mixed_PE = self.heads_edit(layer, mixed_PE)
        out_PD, rms_out_P = weights.rms_norm(mixed_PE @ w.w_o.T, w.norm_attn_out_D, frozen.rms_attn_out_P)
        return AttentionOutput(out_PD, pattern, rms_in_P, rms_out_P)

    def mix_values(self, layer: int, w: LayerWeights, normed_PD: Tensor) -> tuple[Tensor, AttentionPattern]:
        """Return the heads' outputs side by side (…, P, H * d), and the pattern if it is kept or frozen.

        `normed_PD` is the attention's normalised input.
        """
        inputs = self._queries_keys_values(layer, w, normed_PD)
        if self.attention_edit is not None:
            inputs = self.attention_edit(layer, inputs)
        keys_values = self._append(layer, inputs)
        mixed_PE, pattern = self._attend_to(layer, inputs.q_HPd, *keys_values)
        for later in inputs.later:
            keys_values = self._with_new(inputs, later, *keys_values)
            other_PE, other = self._attend_to(layer, inputs.q_HPd, *keys_values)
            mixed_PE = torch.where(later.reader_P[..., None], other_PE, mixed_PE)
            pattern = pattern.with_queries(later.reader_P, other)
        if inputs.later and self.kv_cache is not None:
            self.kv_cache.replace(layer, *keys_values)
        return mixed_PE, pattern

    def _queries_keys_values(self, layer: int, w: LayerWeights, normed_PD: Tensor) -> QueriesKeysValues:
        """Return the layer's queries, keys and values of the new positions; no queries and keys for a frozen pattern."""
        weights, frozen = self.weights, self.frozen[layer]
        v_KPd = weights.values(w, normed_PD)
        if frozen.pattern is not None:
            return QueriesKeysValues(None, None, v_KPd)
        first = 0 if self.kv_cache is None else self.kv_cache.length
        q_k = weights.queries_keys(layer, w, normed_PD, first, frozen.rms_q_HP, frozen.rms_k_KP)
        return QueriesKeysValues(*q_k, v_KPd)

    def _append(self, layer: int, new: QueriesKeysValues) -> tuple[Tensor | None, Tensor]:
        """Return keys and values with those in the cache in front, which is extended."""
        if self.kv_cache is None:
            return new.k_KPd, new.v_KPd
        window = self.weights.architecture.window(layer)
        v_KPd = self.kv_cache.append_values(layer, new.v_KPd, window)
        return (None if new.k_KPd is None else self.kv_cache.append_keys(layer, new.k_KPd, window)), v_KPd

    @staticmethod
    def _with_new(
        new: QueriesKeysValues, later: LaterKeysValues, k_KPd: Tensor | None, v_KPd: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """Return keys and values in reach of the pass with those of the new positions replaced."""
        n_cached = v_KPd.shape[-2] - new.v_KPd.shape[-2]
        v_KPd = torch.cat([v_KPd[..., :n_cached, :], later.v_KPd], dim=-2)
        if k_KPd is None or later.k_KPd is None:
            return None, v_KPd
        return torch.cat([k_KPd[..., :n_cached, :], later.k_KPd], dim=-2), v_KPd

    def _attend_to(
        self, layer: int, q_HPd: Tensor | None, k_KPd: Tensor | None, v_KPd: Tensor
    ) -> tuple[Tensor, AttentionPattern]:
        """Return the heads' outputs side by side and their pattern, given keys and values of all positions in reach."""
        v_HPd, pattern = self.weights.repeat_kv(v_KPd), self.frozen[layer].pattern
        if pattern is None:
            assert q_HPd is not None
            assert k_KPd is not None
            arch, first = self.weights.architecture, 0 if self.kv_cache is None else self.kv_cache.length
            reach = _Reach(first, arch.window(layer), arch.attention_scale, self._blocked(layer, q_HPd))
            q_k = QueriesKeys(q_HPd, self.weights.repeat_kv(k_KPd))
            if not self.keep_patterns:
                return _side_by_side(_fused_attention(q_k, v_HPd, reach)), NO_PATTERN
            pattern = _attention_pattern(q_k, reach)
        return _side_by_side(pattern.forward(v_HPd)), pattern

    def _blocked(self, layer: int, q_HPd: Tensor) -> Tensor | None:
        """Return the layer's mask of blocked keys, with a dimension of heads where it has one of rows."""
        blocked = self.blocked.get(layer) if isinstance(self.blocked, Mapping) else self.blocked
        if blocked is not None and blocked.dim() == 3 and q_HPd.dim() == 4:
            return blocked[:, None]
        return blocked


def model_mlp(weights: Gemma3) -> MLPFunction:
    """Return the function that computes the output of the model's own MLPs."""

    def run(before: LayerCache, w: LayerWeights) -> LayerCache:
        mlp_out_PD, rms_mlp_out_P = weights.mlp(w, before.mlp_in_PD)
        return before._replace(mlp_out_PD=mlp_out_PD, rms_mlp_out_P=rms_mlp_out_P)

    return run


class _Reach(NamedTuple):
    """The first query's position, the keys that queries may attend to, and the factor of the scores."""

    first: int
    window: int | None
    scale: float
    blocked: Tensor | None

    def mask(self, block: QueryBlock, device: torch.device) -> Tensor:
        """Return a mask (…, queries, keys) of a block of positions, True where a query must not attend to a key."""
        mask = causal_mask(block, self.window, device)
        if self.blocked is None:
            return mask
        queries = slice(block.queries.start - self.first, block.queries.stop - self.first)
        return mask | self.blocked[..., queries, block.keys]


def _attention_pattern(q_k: QueriesKeys, reach: _Reach) -> AttentionPattern:
    """Return attention probabilities of queries from the first on; the last key is that of the last query."""
    q_HPd, k_HPd = q_k
    stop = reach.first + q_HPd.shape[-2]
    dropped = stop - k_HPd.shape[-2]  # positions before the first cached key
    blocks = []
    for block in query_blocks(stop, reach.window, reach.first):
        queries = slice(block.queries.start - reach.first, block.queries.stop - reach.first)
        keys = slice(block.keys.start - dropped, block.keys.stop - dropped)
        scores_Hqk = q_HPd[..., queries, :] @ k_HPd[..., keys, :].mT * reach.scale
        # In place to save memory; autograd allows it, since no other operation has saved the scores.
        scores_Hqk.masked_fill_(reach.mask(block, scores_Hqk.device), float("-inf"))
        blocks.append(PatternBlock(QueryBlock(block.queries, keys), F.softmax(scores_Hqk, dim=-1)))
    return AttentionPattern(blocks)


def _fused_attention(q_k: QueriesKeys, v_HPd: Tensor, reach: _Reach) -> Tensor:
    """Return the attention's output (…, H, P, d) without storing its pattern; arguments as `_attention_pattern`."""
    q_HPd, k_HPd = q_k
    stop, n_keys = reach.first + q_HPd.shape[-2], k_HPd.shape[-2]
    if q_HPd.dim() == 3:  # torch's fast kernels want a batch
        batch = (tensor[None] for tensor in (q_HPd, k_HPd, v_HPd))
        return _fused_attention(QueriesKeys(next(batch), next(batch)), next(batch), reach)[0]
    scale, no_mask = reach.scale, reach.blocked is None
    if no_mask and reach.first == 0 and (reach.window is None or stop <= reach.window):
        return F.scaled_dot_product_attention(q_HPd, k_HPd, v_HPd, is_causal=True, scale=scale)
    block = QueryBlock(slice(reach.first, stop), slice(stop - n_keys, stop))
    # One query sees every cached key.
    mask = None if no_mask and stop - reach.first == 1 else ~reach.mask(block, q_HPd.device)
    return F.scaled_dot_product_attention(q_HPd, k_HPd, v_HPd, attn_mask=mask, scale=scale)


def _side_by_side(heads_HPd: Tensor) -> Tensor:
    return heads_HPd.transpose(-2, -3).flatten(-2)

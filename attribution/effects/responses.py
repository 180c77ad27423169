"""Gradients back through one attention or one MLP that responds, with its norms, for K columns at once.

The derivatives are written out: every step is then one large matrix product, where automatic differentiation of K columns
repeats hundreds of small operations. Gradients are `grad_PKD`, (positions, columns, width).
"""

import torch
from torch import Tensor

from cotrace.attribution.models.attention_pattern import BLOCK_QUERIES
from cotrace.attribution.models.forward import ForwardPass, FrozenLayer
from cotrace.attribution.models.gemma3 import Gemma3, LayerWeights, QueriesKeys

RESPONSE_BYTES = 2**27  # of the numbers inside a layer that are computed together


class NormResponse:
    """An RMS norm at its input (P, D); its scale responds unless it is frozen."""

    def __init__(self, weights: Gemma3, in_PD: Tensor, factor_D: Tensor, frozen_rms_P: Tensor | None = None):
        self.in_PD, self.factor_D, self.responds = in_PD, factor_D, frozen_rms_P is None
        self.out_PD, self.rms_P = weights.rms_norm(in_PD, factor_D, frozen_rms_P)

    def back(self, grad_PKD: Tensor, part: slice = slice(None)) -> Tensor:
        """Return the gradients with respect to the input, at all positions or a part of them."""
        in_PD, rms_P = self.in_PD[part].to(self.rms_P.dtype), self.rms_P[part]
        scaled_PKD = grad_PKD * (rms_P[:, None] * self.factor_D)[:, None]
        if self.responds:
            share_PK = torch.einsum("pkd,pd->pk", scaled_PKD, in_PD) * (rms_P.square() / in_PD.shape[1])[:, None]
            scaled_PKD -= share_PK[..., None] * in_PD[:, None]
        return scaled_PKD.to(grad_PKD.dtype)


class MLPResponse:
    """A layer's MLP at a residual stream (P, D)."""

    def __init__(self, weights: Gemma3, w: LayerWeights, resid_PD: Tensor):
        self.w = w
        self.norm_in = NormResponse(weights, resid_PD, w.norm_mlp_in_D)
        mlp_in_PD = self.norm_in.out_PD
        with torch.enable_grad():
            gate_PM = (mlp_in_PD @ w.w_gate.T).requires_grad_()
            self.gate_PM = weights.activation(gate_PM)
            (self.slope_PM,) = torch.autograd.grad(self.gate_PM.sum(), gate_PM)
        self.gate_PM = self.gate_PM.detach()
        self.up_PM = mlp_in_PD @ w.w_up.T
        self.norm_out = NormResponse(weights, (self.gate_PM * self.up_PM) @ w.w_down.T, w.norm_mlp_out_D)

    @property
    def out_PD(self) -> Tensor:
        """Return what the MLP adds to the residual stream, (P, D)."""
        return self.norm_out.out_PD

    def add_back(self, grad_PKD: Tensor) -> None:
        """Add the path through the MLP to gradients, in place."""
        n_positions, n_columns, _ = grad_PKD.shape
        at_once = max(1, RESPONSE_BYTES // (n_columns * self.up_PM.shape[1] * grad_PKD.itemsize))
        for start in range(0, n_positions, at_once):
            part = slice(start, start + at_once)
            grad_PKD[part] += self._back(grad_PKD[part], part)

    def _back(self, grad_PKD: Tensor, part: slice) -> Tensor:
        neuron_PKM = self.norm_out.back(grad_PKD, part) @ self.w.w_down
        in_PKD = (neuron_PKM * (self.up_PM[part] * self.slope_PM[part])[:, None]) @ self.w.w_gate
        in_PKD += neuron_PKM.mul_(self.gate_PM[part][:, None]) @ self.w.w_up
        return self.norm_in.back(in_PKD, part)


class AttentionResponse:
    """A layer's attention at a residual stream (P, D).

    Args:
        weights: the model.
        layer: the layer.
        resid_PD: the residual stream before the layer, from the first position on.
        frozen: what it freezes, at these positions.
    """

    def __init__(self, weights: Gemma3, layer: int, resid_PD: Tensor, frozen: FrozenLayer):
        self.weights, self.layer, self.frozen, self.w = weights, layer, frozen, weights.layer(layer)
        self.norm_in = NormResponse(weights, resid_PD, self.w.norm_attn_in_D, frozen.rms_attn_in_P)
        forward_pass = ForwardPass(weights, resid_PD, frozen=[frozen] * weights.architecture.n_layers)
        mixed_PE, self.pattern = forward_pass.mix_values(layer, self.w, self.norm_in.out_PD)
        self.norm_out = NormResponse(weights, mixed_PE @ self.w.w_o.T, self.w.norm_attn_out_D, frozen.rms_attn_out_P)

    @property
    def out_PD(self) -> Tensor:
        """Return what the attention adds to the residual stream, (P, D)."""
        return self.norm_out.out_PD

    def add_back(self, grad_PKD: Tensor) -> None:
        """Add the path through the attention to gradients, in place: values, and scores unless the pattern is frozen."""
        n_positions, n_columns, _ = grad_PKD.shape
        scores = BLOCK_QUERIES * n_positions if self.frozen.pattern is None else 1
        at_once = max(1, RESPONSE_BYTES // (scores * grad_PKD.itemsize))
        for part_PKD in grad_PKD.split(min(at_once, n_columns), 1):
            part_PKD += self._back(part_PKD)

    def _back(self, grad_PKD: Tensor) -> Tensor:
        weights, w, arch = self.weights, self.w, self.weights.architecture
        group, size = arch.n_heads // arch.n_kv_heads, arch.d_head
        normed_PD, out_PKD = self.norm_in.out_PD, self.norm_out.back(grad_PKD)
        values = weights.values(w, normed_PD)
        heads = None if self.frozen.pattern else HeadNorms(weights, self.layer, w, normed_PD, self.frozen)
        in_PKD = torch.zeros_like(out_PKD)
        for kv in range(arch.n_kv_heads):
            value_PKd, key_PKd = (out_PKD.new_zeros(*out_PKD.shape[:2], size) for _ in range(2))
            for head in range(kv * group, (kv + 1) * group):
                rows = slice(head * size, (head + 1) * size)
                head_PKd = out_PKD @ w.w_o[:, rows]
                self.pattern.add_backward(head, head_PKd.flatten(1), value_PKd.flatten(1))
                if heads is not None:
                    query_PKd = self._add_score_gradients(head_PKd, values[kv], heads.rotated(head), head, key_PKd)
                    in_PKD += heads.query_back(head, query_PKd) @ w.w_q[rows]
            rows = slice(kv * size, (kv + 1) * size)
            in_PKD += value_PKd @ w.w_v[rows]
            if heads is not None:
                in_PKD += heads.key_back(kv, key_PKd) @ w.w_k[rows]
        return self.norm_in.back(in_PKD)

    def _add_score_gradients(
        self, head_PKd: Tensor, value_Pd: Tensor, rotated: QueriesKeys, head: int, key_PKd: Tensor
    ) -> Tensor:
        """Return the gradients of one head's rotated queries through its softmax, and add those of its keys in place."""
        scale, query_PKd = self.weights.architecture.attention_scale, torch.empty_like(head_PKd)
        for (queries, keys), pattern_Hqk in self.pattern.blocks:
            pattern_q1k = pattern_Hqk[head][:, None]
            score_qKk = head_PKd[queries] @ value_Pd[keys].T
            score_qKk *= pattern_q1k
            score_qKk -= pattern_q1k * score_qKk.sum(-1, keepdim=True)
            score_qKk *= scale
            query_PKd[queries] = score_qKk @ rotated.k_KPd[keys]
            key_PKd[keys] += torch.einsum("qck,qd->kcd", score_qKk, rotated.q_HPd[queries])
        return query_PKd


class HeadNorms:
    """The norms and rotations of the queries and keys of one attention."""

    def __init__(self, weights: Gemma3, layer: int, w: LayerWeights, normed_PD: Tensor, frozen: FrozenLayer):
        self.weights, self.layer = weights, layer
        self.both = weights.queries_keys(layer, w, normed_PD, 0, frozen.rms_q_HP, frozen.rms_k_KP)
        frozen_q, frozen_k = ([None] * len(x) if f is None else f for x, f in zip(self.both, frozen[-2:], strict=True))
        raw_q, raw_k = (weights.heads(normed_PD @ matrix.T) for matrix in (w.w_q, w.w_k))
        self.q = [NormResponse(weights, x, w.norm_q, rms) for x, rms in zip(raw_q, frozen_q, strict=True)]
        self.k = [NormResponse(weights, x, w.norm_k, rms) for x, rms in zip(raw_k, frozen_k, strict=True)]

    def rotated(self, head: int) -> QueriesKeys:
        """Return the rotated queries and keys of one query head, each (P, d)."""
        return QueriesKeys(self.both.q_HPd[head], self.both.k_KPd[head * len(self.k) // len(self.q)])

    def query_back(self, head: int, grad_PKd: Tensor) -> Tensor:
        """Return the gradients of one head's rotated queries, (P, K, d), before rotation and norm."""
        return self._back(self.q[head], grad_PKd)

    def key_back(self, kv: int, grad_PKd: Tensor) -> Tensor:
        """Return the gradients of one head's rotated keys, (P, K, d), before rotation and norm."""
        return self._back(self.k[kv], grad_PKd)

    def _back(self, norm: NormResponse, grad_PKd: Tensor) -> Tensor:
        return norm.back(self.weights.rotated_back(self.layer, grad_PKd.transpose(0, 1)).transpose(0, 1))


def first_positions(frozen: FrozenLayer, n_positions: int) -> FrozenLayer:
    """Return what a layer freezes at the first positions of a prompt."""
    pattern, *scales = frozen
    scales = [None if scale is None else scale[..., :n_positions] for scale in scales]
    return FrozenLayer(None if pattern is None else pattern.first_positions(n_positions), *scales)

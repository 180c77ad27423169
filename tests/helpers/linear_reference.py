"""The local replacement model in forward mode and float64. It shares no code with the package.

The vectors of each source are injected into an otherwise empty residual stream and propagated forwards through the
frozen attention patterns and norm scales. The dot product with a target's read vector is the edge. Works on the
Hugging Face modules and on dense (F, J, D) decoders.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class FrozenLinearLayer:
    """The linear maps of one layer on one prompt."""

    attention: list[tuple[Tensor, Tensor]]  # per head: pattern (P, P) and value-output map (D, D)
    scale_in: Tensor  # (P, D): input norm
    scale_out: Tensor
    scale_mlp: Tensor
    mlp_in: Tensor
    mlp_out: Tensor
    gate_up: tuple[Tensor, Tensor]
    scale_mlp_out: Tensor


def run_frozen(hf_model, ids: list[int]) -> tuple[list[FrozenLinearLayer], Tensor, Tensor, Tensor]:
    """Run a plain forward pass; return the frozen layers, embeddings, final norm scale and final residual stream."""
    config, text = hf_model.config, hf_model.model
    resid = embed = text.embed_tokens.weight[ids].double() * config.hidden_size**0.5
    layers = []
    for index, block in enumerate(text.layers):
        scale_in = norm_scale(resid, block.input_layernorm, config)
        heads = attention_heads(block.self_attn, resid * scale_in, index, text, config)
        out = sum(p @ (resid * scale_in) @ vo for p, vo in heads)
        scale_out = norm_scale(out, block.post_attention_layernorm, config)
        resid = resid + out * scale_out
        scale_mlp = norm_scale(resid, block.pre_feedforward_layernorm, config)
        x = resid * scale_mlp
        gate = torch.nn.functional.gelu(x @ block.mlp.gate_proj.weight.double().T, approximate="tanh")
        up = x @ block.mlp.up_proj.weight.double().T
        raw = (gate * up) @ block.mlp.down_proj.weight.double().T
        scale_mlp_out = norm_scale(raw, block.post_feedforward_layernorm, config)
        mlp_out = raw * scale_mlp_out
        resid = resid + mlp_out
        layers.append(FrozenLinearLayer(heads, scale_in, scale_out, scale_mlp, x, mlp_out, (gate, up), scale_mlp_out))
    return layers, embed, norm_scale(resid, text.norm, config), resid


def norm_scale(x: Tensor, norm, config) -> Tensor:
    """Return the factor by which a norm multiplies its input, its weight included."""
    return (1 + norm.weight.double()) / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps)


def attention_heads(attention, x: Tensor, index: int, text, config) -> list[tuple[Tensor, Tensor]]:
    """Return each head's attention pattern (P, P) and value-output map (D, D)."""
    size, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    heads = []
    for head in range(config.num_attention_heads):
        own, shared = slice(head * size, (head + 1) * size), slice(head // group * size, (head // group + 1) * size)
        pattern = torch.softmax(attention_scores(attention, head, x, index, text, config), -1)
        output = attention.o_proj.weight[:, own].double()
        heads.append((pattern, attention.v_proj.weight[shared].double().T @ output.T))
    return heads


def attention_scores(attention, head: int, x: Tensor, index: int, text, config) -> Tensor:
    """Return a head's scores before the softmax, (P, P); -inf where a query does not see a key."""
    distance = torch.arange(len(x))[:, None] - torch.arange(len(x))
    seen = (distance >= 0) & ((distance < config.sliding_window) | (config.layer_types[index] == "full_attention"))
    q, k = queries_keys(attention, head, x, x, index, text, config)
    return ((q @ k.T) * config.query_pre_attn_scalar**-0.5).masked_fill(~seen, -torch.inf)


def queries_keys(attention, head: int, x: Tensor, frozen: Tensor, index: int, text, config) -> tuple[Tensor, Tensor]:
    """Return a head's queries and keys (…, P, d) of inputs (…, P, D), with the norm scales of the input `frozen` (P, D)."""
    size, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    own, shared = slice(head * size, (head + 1) * size), slice(head // group * size, (head // group + 1) * size)
    # The library's rotation, which computes angles in float32.
    rotation = text.rotary_emb(frozen, torch.arange(len(frozen))[None], config.layer_types[index])
    w_q, w_k = attention.q_proj.weight[own].double().T, attention.k_proj.weight[shared].double().T
    q = _roped(x @ w_q * norm_scale(frozen @ w_q, attention.q_norm, config), rotation)
    k = _roped(x @ w_k * norm_scale(frozen @ w_k, attention.k_norm, config), rotation)
    return q, k


def _roped(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = (part[0, :, : a.shape[-1]] for part in rotation)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def propagate(
    layers: list[FrozenLinearLayer], skips: list[Tensor | None], embed: Tensor, injected: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Propagate S injections forwards: `embed` (S, P, D) at the embeddings, `injected` (S, L, P, D) at MLP outputs.

    Return the input of each layer's MLP, through the frozen norm, (S, P, D), and the final residual stream.
    """
    resid, reads = embed, []
    for index, layer in enumerate(layers):
        x = resid * layer.scale_in
        resid = resid + sum((p @ x @ vo for p, vo in layer.attention), torch.zeros_like(x)) * layer.scale_out
        read = resid * layer.scale_mlp
        reads.append(read)
        resid = resid + injected[:, index]
        if skips[index] is not None:
            resid = resid + read @ skips[index]
    return reads, resid

"""References of effects in float64. They share no code with the package.

`visited_paths` follows every path forwards in two states: paths that have not visited a set of positions, and those that
have. `gradients` differentiates the Hugging Face model, with norm scales, attention patterns or MLPs replaced by constants.
"""

from contextlib import ExitStack
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor
from transformers.models.gemma3 import modeling_gemma3

from helpers.linear_reference import norm_scale


class LinearFeature(NamedTuple):
    """A feature of one layer and position: its activation is linear in the input of the layer's MLP."""

    layer: int
    position: int
    read_D: Tensor
    writes: list[tuple[int, Tensor]]  # output layer, vector per unit of activation


def visited_paths(layers, skips, embeds, injected, features: list[LinearFeature], cut: set[int]) -> tuple:
    """Propagate S injections through everything, features too; return what avoids the cut and what visits it.

    `embeds` is (S, P, D) and `injected` (S, L, P, D), as of `linear_reference.propagate`. Each result has the inputs of the
    MLPs, a list of (S, P, D), and the final residual streams.
    """
    inside = torch.zeros(embeds.shape[1], 1, dtype=embeds.dtype)
    inside[sorted(cut)] = 1
    apart, through = embeds * (1 - inside), embeds * inside
    pending = torch.zeros(2, *injected.transpose(0, 1).shape, dtype=embeds.dtype)  # (state, L, S, P, D)
    inputs = []
    for index, layer in enumerate(layers):
        streams = []
        for stream in (apart, through):
            x = stream * layer.scale_in
            streams.append(stream + sum(p @ x @ vo for p, vo in layer.attention) * layer.scale_out)
        apart, through = streams[0] * (1 - inside), streams[1] + streams[0] * inside
        reads = [apart * layer.scale_mlp, through * layer.scale_mlp]
        inputs.append(reads)
        for feature in (f for f in features if f.layer == index):
            for state, read in enumerate(reads):
                response_S = read[:, feature.position] @ feature.read_D
                for output, vector_D in feature.writes:
                    pending[state, output, :, feature.position] += response_S[:, None] * vector_D
        out = [pending[state, index] for state in (0, 1)]
        if skips[index] is not None:
            out = [o + read @ skips[index] for o, read in zip(out, reads, strict=True)]
        out[0] = out[0] + injected[:, index]
        apart, through = apart + out[0] * (1 - inside), through + out[1] + out[0] * inside
    return ([own for own, _ in inputs], apart), ([visited for _, visited in inputs], through)


def gradients(hf_model, ids: list[int], value, freeze: str, replaced=None) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients of a value with respect to the embeddings (P, D) and each layer's MLP output.

    Args:
        hf_model: the model of the library, with eager attention, in float64.
        ids: the prompt.
        value: a function from the inputs of all MLPs and the final norm's output, (P, D) each, to a scalar.
        freeze: "none", "attention" (patterns) or "norms" (norm scales; MLPs are `replaced`).
        replaced: a function from a layer and the inputs of the MLPs up to it to the MLP's output.
    """
    seen: dict[str, list] = {"patterns": [], "scales": []}
    with torch.no_grad():
        _run(hf_model, ids, seen, "record", None)
    embeds = (hf_model.model.embed_tokens.weight[ids] * hf_model.config.hidden_size**0.5).double().requires_grad_()
    taps, inputs, final = _run(hf_model, embeds, {n: list(v) for n, v in seen.items()}, freeze, replaced)
    # A value that is read below the last layer does not depend on the outputs above.
    grads = torch.autograd.grad(value(inputs, final), [embeds, *taps], materialize_grads=True, allow_unused=True)
    return grads[0], list(grads[1:])


def _run(hf_model, source, seen, mode, replaced):
    """Run the library's model; record what it computes, or use what was recorded."""
    text, taps, inputs = hf_model.model, [], []
    own_norm, own_attention = modeling_gemma3.Gemma3RMSNorm.forward, modeling_gemma3.eager_attention_forward

    def norm(self, x):
        if mode == "record":
            seen["scales"].append(norm_scale(x.double(), self, hf_model.config))
        if mode == "norms":
            return x * seen["scales"].pop(0)
        return own_norm(self, x)

    def attention(module, query, key, value, mask, dropout=0.0, scaling=None, softcap=None, **options):
        if mode != "attention":
            out, pattern = own_attention(module, query, key, value, mask, dropout, scaling, softcap, **options)
            if mode == "record":
                seen["patterns"].append(pattern)
            return out, pattern
        pattern = seen["patterns"].pop(0)
        values = modeling_gemma3.repeat_kv(value, module.num_key_value_groups)
        return (pattern @ values).transpose(1, 2).contiguous(), pattern

    def keep_input(module, arguments):
        inputs.append(arguments[0][0])

    def tap(layer):
        def hook(module, arguments, output):
            if mode == "norms":
                output = replaced(layer, inputs)[None]
            taps.append(output)
            return output

        return hook

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(modeling_gemma3.Gemma3RMSNorm, "forward", norm))
        stack.enter_context(mock.patch.object(modeling_gemma3, "eager_attention_forward", attention))
        for layer, block in enumerate(text.layers):
            stack.callback(block.mlp.register_forward_pre_hook(keep_input).remove)
            stack.callback(block.post_feedforward_layernorm.register_forward_hook(tap(layer)).remove)
        if isinstance(source, list):
            text(input_ids=torch.tensor([source]))
            return None
        final = text(inputs_embeds=source[None], use_cache=False).last_hidden_state[0]
    return taps, inputs, final

"""Edges of a graph in float64, from the independent reference in linear_reference.py."""

from dataclasses import replace

import torch
from tiny import prompt
from transformers import Gemma3ForCausalLM

from .linear_reference import propagate, run_frozen


def forward_mode(model, model_folder, graph, masked):
    """Return the dense adjacency matrix (M, M) and bias (M,) of a graph's nodes from the independent reference."""
    reference = GraphReference(model, model_folder, graph, masked)
    return reference.edges().numpy(), reference.bias().numpy()


class GraphReference:
    """The edges and biases of a graph's nodes, also without some attention heads."""

    def __init__(self, model, model_folder, graph, masked):
        self.model, self.graph = model, graph
        self.hf_model = Gemma3ForCausalLM.from_pretrained(model_folder, dtype=torch.float64).requires_grad_(False)
        self.layers, self.embed, self.final_scale, _ = run_frozen(self.hf_model, prompt())
        like = torch.zeros((), dtype=torch.float64)
        self.skips = [model.transcoders.skip(index, like) for index in range(len(self.layers))]
        nodes = sources(model, self.layers, self.embed, self.skips, graph, {0, *(masked or [])})
        self.embeds, self.injected, self.constant = nodes

    def edges(self, heads=None):
        """Return the dense adjacency matrix (M, M), with all attention heads or only those of a list of (layer, head)."""
        layers = self.layers
        if heads is not None:
            kept = [[maps for h, maps in enumerate(own.attention) if (i, h) in heads] for i, own in enumerate(layers)]
            layers = [replace(own, attention=attention) for own, attention in zip(layers, kept, strict=True)]
        return self._read(*propagate(layers, self.skips, self.embeds, self.injected))

    def bias(self):
        """Return the contributions of constants and encoder biases to every node, (M,)."""
        streams = propagate(self.layers, self.skips, torch.zeros_like(self.embed)[None], self.constant[None])
        bias = self._read(*streams)[:, 0]
        bias[: self.graph.order.n_features] += encoder_bias(self.model, self.graph)
        return bias

    def _read(self, reads, final):
        return read_targets(self.model, self.graph, self.layers, reads, final, self.final_scale, self.hf_model)


def sources(model, layers, embed, skips, graph, masked):
    """Return the injections of every node in node order, and the constants, which are not nodes."""
    order, (n_positions, width), n_layers = graph.order, embed.shape, len(layers)
    injected = torch.zeros(order.n_nodes, n_layers, n_positions, width, dtype=torch.float64)
    embeds = torch.zeros(order.n_nodes, n_positions, width, dtype=torch.float64)
    constant = torch.zeros(n_layers, n_positions, width, dtype=torch.float64)
    for node, (layer, position, feature) in enumerate(sites(graph)):
        activation = float(graph.nodes["activation"][node].as_py())
        for output, vector in decoder(model, layers, layer, position, feature):
            injected[node, output, position] = activation * vector
    for layer, frozen in enumerate(layers):
        rest = frozen.mlp_out - injected[:, layer].sum(0)
        if skips[layer] is not None:
            rest = rest - frozen.mlp_in @ skips[layer]
        b_dec = model.transcoders.output_bias(layer, embed)
        for position in range(n_positions):
            if position not in masked and b_dec is not None:
                constant[layer, position] = b_dec
            left = rest[position] - constant[layer, position]
            if position == 0:
                constant[layer, position] += left
            else:
                injected[order.errors.start + layer * n_positions + position, layer, position] = left
    for position in range(n_positions):
        embeds[order.tokens.start + position, position] = embed[position]
    return embeds, injected, constant


def sites(graph):
    return list(
        zip(
            *(graph.column(n, -1)[graph.order.features].tolist() for n in ("layer", "position", "feature")), strict=True
        )
    )


def decoder(model, layers, layer, position, feature):
    """Return (output layer, vector per unit of activation) for every layer to which a feature writes."""
    if model.transcoders.kind == "neurons":
        down = model.weights._text.layers[layer].mlp.down_proj.weight[:, feature].double()
        return [(layer, down * layers[layer].scale_mlp_out[position])]
    rows = model.transcoders.tensors(layer).w_dec_FJD[feature].double()
    return [(layer + j, row) for j, row in enumerate(rows)]


def encoder_bias(model, graph):
    if model.transcoders.kind == "neurons":
        return 0.0
    return torch.stack([model.transcoders.tensors(layer).b_enc_F[f].double() for layer, _, f in sites(graph)])


def read_targets(model, graph, layers, reads, final, final_scale, hf_model):
    """Return the dot product of every target with every injection, (M, S)."""
    result = torch.zeros(graph.order.n_nodes, len(final), dtype=torch.float64)
    for node, (layer, position, feature) in enumerate(sites(graph)):
        if model.transcoders.kind == "neurons":
            up = model.weights._text.layers[layer].mlp.up_proj.weight[feature].double()
            column = layers[layer].gate_up[0][position, feature] * up
        else:
            column = model.transcoders.tensors(layer).w_enc_DF[:, feature].double()
        result[node] = reads[layer][:, position] @ column
    rows = hf_model.lm_head.weight.double()
    for target in graph.info["targets"]:
        row = rows[target["token_ids"][0]] - rows.mean(0)
        result[target["node"]] = (final[:, -1] * final_scale[-1]) @ row
    return result

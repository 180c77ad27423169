"""The two identities of docs/mathematics.md, and agreement with an independent forward-mode reference."""

import warnings

import numpy as np
import pytest
import tiny
import torch
from helpers.identities import conservation_gap, relative
from helpers.linear_reference import propagate, run_frozen
from tiny import KINDS, prompt
from transformers import Gemma3ForCausalLM

import cotrace
from cotrace import CotraceWarning

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_incoming_edges_and_bias_add_up_to_the_pre_activation(load, kind, dtype):
    graph = load(kind, dtype).trace(prompt())
    assert graph.order.n_features > 20
    assert conservation_gap(graph).max() < TOLERANCE[dtype]
    assert conservation_gap(graph.prune(0.6, 0.9)).max() < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", ["clt", "per-layer-affine"])
def test_a_graph_without_features_warns_and_is_exact(model_folder, tmp_path, kind):
    layers = [{**tensors, "b_enc": tensors["b_enc"] - 1e6} for tensors in tiny.random_layers()]
    spec = tiny.write_layers(tmp_path, tiny.KINDS[kind][0], tiny.without(layers, *tiny.KINDS[kind][1]))
    model = cotrace.load(model_folder, spec, dtype="float64", device="cpu")
    match = f"error nodes and tokens only: no feature of .*{spec.name}.* is active; check that they were trained on this model"
    with pytest.warns(CotraceWarning, match=match):
        model.plan(prompt())
    with pytest.warns(CotraceWarning, match=match):
        graph = model.trace(prompt(), progress=False)
    assert graph.order.n_features == 0
    assert conservation_gap(graph).max() < TOLERANCE["float64"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.active_features(prompt())


def test_a_prompt_without_unmasked_positions_warns(load):
    model = load("clt")
    for ids, options in ((prompt(1), {}), (prompt(3), {"masked_positions": [1, 2]})):
        with pytest.warns(CotraceWarning, match="every position of the prompt is masked"):
            assert model.trace(ids, progress=False, **options).order.n_features == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.trace(prompt(3), progress=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [None, [3, 6]], ids=["default", "masked"])
def test_rows_and_bias_equal_forward_propagation(load, model_folder, kind, masked):
    """Intervention identity: the vector of every source, propagated forwards, changes every target by the edge."""
    model = load(kind)
    graph = model.trace(prompt(), masked_positions=masked)
    expected, bias = forward_mode(model, model_folder, graph, masked)
    assert relative(graph.adjacency().toarray(), expected) < 1e-9
    computed = graph.column("computed").astype(bool)
    assert np.abs(graph.column("bias") - bias)[computed].max() < 1e-9 * np.abs(bias).max()


def forward_mode(model, model_folder, graph, masked):
    """Return the dense adjacency matrix (M, M) and bias (M,) of a graph's nodes from the independent reference."""
    hf_model = Gemma3ForCausalLM.from_pretrained(model_folder, dtype=torch.float64).requires_grad_(False)
    ids, order = prompt(), graph.order
    layers, embed, final_scale, _ = run_frozen(hf_model, ids)
    like = torch.zeros((), dtype=torch.float64)
    skips = [model.transcoders.skip(index, like) for index in range(len(layers))]
    embeds, injected, constant = sources(model, layers, embed, skips, graph, {0, *(masked or [])})
    reads, final = propagate(layers, skips, embeds, injected)
    columns = read_targets(model, graph, layers, reads, final, final_scale, hf_model)
    bias_reads = propagate(layers, skips, torch.zeros_like(embed)[None], constant[None])
    bias = read_targets(model, graph, layers, *bias_reads, final_scale, hf_model)[:, 0]
    bias[: order.n_features] += encoder_bias(model, graph)
    return columns.numpy(), bias.numpy()


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


@pytest.mark.parametrize("kind", KINDS)
def test_the_replacement_model_is_the_model(load, model_folder, kind):
    hf_model = Gemma3ForCausalLM.from_pretrained(model_folder, attn_implementation="eager")
    expected = hf_model(torch.tensor([prompt()])).logits[0].detach()
    model = load(kind, "float32")
    assert torch.allclose(model.logits(prompt()), expected, rtol=0, atol=1e-5)
    assert torch.allclose(model.replacement(prompt()).forward(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_the_batch_size_only_changes_rounding(load, kind):
    model = load(kind, "float32")
    whole = model.trace(prompt())
    for batch_size in (1, 7):
        other = model.trace(prompt(), batch_size=batch_size)
        assert relative(other.adjacency().toarray(), whole.adjacency().toarray()) < 1e-5


def test_two_runs_give_the_same_file(load, tmp_path):
    model = load("clt", "float32")
    files = [model.trace(prompt()).save(tmp_path / name).read_bytes() for name in ("a.arrow", "b.arrow")]
    assert files[0] == files[1]


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_short_prompts(load, kind, length):
    graph = load(kind).trace(prompt(length))
    assert graph.order.n_tokens == length
    assert conservation_gap(graph).max() < 1e-9


def test_conservation_at_an_earlier_position(load):
    graph = load("clt").trace(prompt(), position=4)
    assert graph.nodes["position"].to_pylist()[-1] == 4
    assert conservation_gap(graph).max() < 1e-9

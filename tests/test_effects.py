"""Effects: the ledger, rows, cuts and freezing modes, against references that share no code with the package."""

import numpy as np
import pytest
import torch
from helpers.effect_reference import LinearFeature, gradients, visited_paths
from helpers.graph_reference import decoder, encoder_bias, read_targets, sites, sources
from helpers.linear_reference import run_frozen
from tiny import KINDS, VOCABULARY, WIDTH, prompt
from transformers import Gemma3ForCausalLM

import cotrace
from cotrace import ArgumentError, CotraceError, ErrorNode, Feature, ablate

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
TOKENS = [3, 8]
RESPONDING = ["clt-affine", "per-layer-affine", "neurons"]


@pytest.fixture(scope="module")
def eager_model(model_folder):
    """Return the model of the transformers library, in float64, with attention that can be replaced."""
    model = Gemma3ForCausalLM.from_pretrained(model_folder, dtype=torch.float64, attn_implementation="eager")
    return model.requires_grad_(False)


def values(effects) -> np.ndarray:
    """Return the effects of features, error nodes and tokens, (K, M)."""
    return np.asarray(effects.effect_KM)


def ledger(effects, name: str) -> np.ndarray:
    return np.array(effects.ledger[name].to_pylist(), dtype=float)


def an_active_feature(model, layer: int = 2) -> Feature:
    rows = [row for row in model.active_features(prompt()).to_pylist() if row["layer"] == layer]
    return Feature(layer, rows[-1]["feature"], position=rows[-1]["position"])


# --- everything frozen ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_effects_of_leaves_add_up_to_the_target(load, kind, dtype):
    model = load(kind, dtype)
    for masked in (None, [3, 6]):
        targets = [*TOKENS, (3, 8), torch.linspace(-1, 1, WIDTH)]
        if masked is None:
            targets.append(an_active_feature(model))
        effects = model.effects(prompt(), targets, [4, -1], masked_positions=masked, progress=False)
        mass = np.abs(values(effects)).sum(1)
        assert (np.abs(ledger(effects, "remainder")) / mass).max() < TOLERANCE[dtype]
        assert np.abs(ledger(effects, "errors")).max() > 0
        sums = sum(ledger(effects, name) for name in ("tokens", "errors", "bias"))
        assert np.allclose(sums, ledger(effects, "value"), rtol=0, atol=TOLERANCE[dtype] * mass.max())


@pytest.mark.parametrize("kind", KINDS)
def test_effects_solve_the_equation_of_the_graph(load, kind):
    """E = A + A diag(1/a) E: a path is an edge, or an edge from a feature and a path into it."""
    model = load(kind)
    feature = an_active_feature(model)
    graph = model.trace(prompt(), [*TOKENS, feature], position=[4, -1], progress=False)
    effects = model.effects(prompt(), [*TOKENS, feature], [4, -1], progress=False)
    matrix, features = graph.adjacency().toarray(), graph.order.features
    step = np.zeros_like(matrix)
    step[:, features] = matrix[:, features] / graph.column("activation")[features]
    expected = np.linalg.solve(np.eye(len(matrix)) - step, matrix)
    rows = expected[[target["node"] for target in graph.info["targets"]], : values(effects).shape[1]]
    assert np.abs(values(effects) - rows).max() < 1e-9 * np.abs(rows).max()


@pytest.mark.parametrize("kind", KINDS)
def test_paths_that_avoid_a_cut_and_paths_that_visit_it_are_all_paths(load, eager_model, kind):
    model, cut = load(kind), {4, 7}
    graph = model.trace(prompt(), TOKENS, progress=False)
    layers, embed, final_scale, _ = run_frozen(eager_model, prompt())
    skips = [model.transcoders.skip(layer, embed) for layer in range(len(layers))]
    embeds, injected, _ = sources(model, layers, embed, skips, graph, {0})
    features = linear_features(model, graph, layers)
    n_nodes = graph.order.logits.start
    parts = visited_paths(layers, skips, embeds[:n_nodes], injected[:n_nodes], features, cut)
    avoiding, visiting = (
        read_targets(model, graph, layers, *part, final_scale, eager_model)[graph.order.logits].numpy()
        for part in parts
    )
    effects = model.effects(prompt(), TOKENS, avoiding=[None, sorted(cut)], progress=False)
    every, found = values(effects)[::2], values(effects)[1::2]
    size = np.abs(every).max()
    assert np.abs(found - avoiding).max() < 1e-9 * size
    assert np.abs(found + visiting - every).max() < 1e-9 * size
    assert np.abs(visiting).max() > 0.01 * size
    assert np.abs(avoiding).max() > 0.01 * size


def linear_features(model, graph, layers) -> list[LinearFeature]:
    """Return the graph's features for the reference."""
    found = []
    for layer, position, number in sites(graph):
        if model.transcoders.kind == "neurons":
            up = model.weights._text.layers[layer].mlp.up_proj.weight[number].double()
            read = layers[layer].gate_up[0][position, number] * up
        else:
            read = model.transcoders.tensors(layer).w_enc_DF[:, number].double()
        found.append(LinearFeature(layer, position, read, list(decoder(model, layers, layer, position, number))))
    return found


def test_a_cut_may_be_any_positions(load):
    model = load("clt")
    parts = {"question": (1, 4), "step": slice(4, 7)}
    avoiding = [None, 5, (4, 7), "step", range(4, 7), [4, 5, 6], ["question", 8]]
    with pytest.raises(ArgumentError, match="twice"):
        model.effects(prompt(), TOKENS, segments=parts, avoiding=avoiding, progress=False)
    by_name = model.effects(prompt(), TOKENS, segments=parts, avoiding="step", progress=False)
    by_span = model.effects(prompt(), TOKENS, avoiding=(4, 7), progress=False)
    both = model.effects(prompt(), TOKENS, segments=parts, avoiding=[None, "step"], progress=False)
    assert np.array_equal(values(by_name), values(by_span))
    assert np.allclose(values(both)[1::2], values(by_name), rtol=0, atol=1e-12)
    position = by_name.nodes["position"].to_numpy()
    assert not values(by_name)[:, (position >= 4) & (position < 7)].any()


def test_columns_do_not_depend_on_the_others(load):
    model = load("clt-affine")
    together = model.effects(prompt(), {4: [3], 9: [(3, 8)], -1: [8, 3]}, avoiding=[None, 2], progress=False)
    alone = [
        model.effects(prompt(), [target], position, avoiding=cut, progress=False)
        for position, target in ((4, 3), (9, (3, 8)), (10, 8), (10, 3))
        for cut in (None, 2)
    ]
    for row, single in zip(values(together), alone, strict=True):
        assert np.abs(row - values(single)[0]).max() < 1e-12 * np.abs(row).max()


# --- what responds ----------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", ["none", "attention", "norms"])
@pytest.mark.parametrize("kind", RESPONDING)
def test_effects_are_gradients_of_the_library_times_what_nodes_write(load, eager_model, kind, freeze):
    model = load(kind)
    feature = an_active_feature(model)
    graph = model.trace(prompt(), TOKENS, progress=False)
    layers, embed, _, _ = run_frozen(eager_model, prompt())
    skips = [model.transcoders.skip(layer, embed) for layer in range(len(layers))]
    embeds, injected, constant = sources(model, layers, embed, skips, graph, {0})
    replaced = replaced_mlps(model, graph, layers, skips, injected, constant)
    nodes = graph.order.logits.start
    effects = model.effects(prompt(), [*TOKENS, feature], freeze=freeze, progress=False)
    rows = dict(zip(effects.ledger["label"].to_pylist(), values(effects), strict=True))
    read_feature = feature_value(model, layers, feature, gates_respond=freeze != "norms")
    for label, value in {**logit_values(eager_model), str(feature): read_feature}.items():
        token_PD, output_LPD = gradients(eager_model, prompt(), value, freeze, replaced)
        expected = torch.einsum("mpd,pd->m", embeds, token_PD)
        expected += torch.einsum("mlpd,lpd->m", injected, torch.stack([grad[0] for grad in output_LPD]))
        if kind == "neurons" and freeze != "norms":  # the norm after an MLP responds to its neurons
            expected[graph.order.features] = neuron_effects(eager_model, graph, layers, output_LPD)
        error = np.abs(rows[label] - expected[:nodes].numpy()).max()
        assert error < 1e-4 * float(expected.abs().max()), label


def logit_values(model):
    """Return centred logits as functions of the final norm's output, by label."""
    rows = model.lm_head.weight.double()

    def value(token):
        return lambda inputs, final: final[-1] @ (rows[token] - rows.mean(0))

    return {f"<{token}>": value(token) for token in TOKENS}


def feature_value(model, layers, feature, gates_respond):
    """Return a feature's pre-activation as a function of the inputs of MLPs; whether the gate of a neuron responds."""
    block = model.weights._text.layers[feature.layer].mlp
    if model.transcoders.kind == "neurons":
        gate, up = (w.weight[feature.feature].double() for w in (block.gate_proj, block.up_proj))
        frozen = layers[feature.layer].gate_up[0][feature.position, feature.feature]

        def value(inputs, final):
            x = inputs[feature.layer][feature.position]
            return (torch.nn.functional.gelu(x @ gate, approximate="tanh") if gates_respond else frozen) * (x @ up)

        return value
    encoder = model.transcoders.tensors(feature.layer).w_enc_DF[:, feature.feature].double()
    return lambda inputs, final: inputs[feature.layer][feature.position] @ encoder


def replaced_mlps(model, graph, layers, skips, injected, constant):
    """Return a function from a layer and the inputs of MLPs up to it to the replaced MLP's output."""
    features = linear_features(model, graph, layers)
    rest = injected[graph.order.errors].sum(0) + constant
    bias = encoder_bias(model, graph)
    biases = bias if torch.is_tensor(bias) else torch.zeros(len(features), dtype=torch.float64)

    def output(layer, inputs):
        out = rest[layer]
        if skips[layer] is not None:
            out = out + inputs[layer] @ skips[layer]
        for feature, bias in zip(features, biases, strict=True):
            for to, vector_D in feature.writes:
                if to == layer:
                    activation = inputs[feature.layer][feature.position] @ feature.read_D + bias
                    at = torch.zeros(len(out), 1, dtype=out.dtype)
                    at[feature.position] = 1
                    out = out + at * (activation * vector_D)
        return out

    return output


def neuron_effects(hf_model, graph, layers, output_LPD):
    """Return effects of neurons whose output passes the norm after the MLP."""
    found = []
    for (layer, position, neuron), activation in zip(
        sites(graph), graph.column("activation")[graph.order.features], strict=True
    ):
        block = hf_model.model.layers[layer]
        gate, up = layers[layer].gate_up
        raw = ((gate * up)[position] @ block.mlp.down_proj.weight.T).requires_grad_()
        weight, eps = block.post_feedforward_layernorm.weight, hf_model.config.rms_norm_eps
        out = raw / torch.sqrt(raw.pow(2).mean() + eps) * (1 + weight)
        (back,) = torch.autograd.grad(out, raw, output_LPD[layer][0, position])
        found.append(back @ block.mlp.down_proj.weight[:, neuron] * float(activation))
    return torch.stack(found)


def test_credit_through_scores_is_the_difference_of_two_modes(load):
    model = load("clt")
    norms, frozen = (model.effects(prompt(), TOKENS, freeze=mode, progress=False) for mode in ("norms", "all"))
    both = model.effects(prompt(), TOKENS, through_qk=True, progress=False)
    assert np.allclose(values(both), values(frozen), rtol=0, atol=1e-12)
    assert np.allclose(both.through_qk_KM, values(norms) - values(frozen), rtol=0, atol=1e-12)
    assert np.abs(both.through_qk_KM).max() > 0


# --- integration ------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", ["all", "norms", "attention", "none"])
@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_effects_of_tokens_add_up_to_the_change_from_a_baseline(load, kind, freeze):
    model = load(kind)
    remainders = []
    for steps in (4, 16, 64):
        options = {"integrate": "inputs", "integration_steps": steps, "baseline": [2, *prompt()[:0:-1]]}
        effects = model.effects(prompt(), TOKENS, freeze=freeze, progress=False, **options)
        remainders.append((np.abs(ledger(effects, "remainder")) / np.abs(values(effects)).sum(1)).max())
    assert remainders[2] < 1e-3
    assert freeze == "all" or remainders[2] < remainders[0]


def test_integrated_inputs_are_the_change_of_the_logits(load):
    model, other = load("clt"), [2, 7, 31, 9, 10, 11, 22, 13, 14, 15, 16]
    effects = model.effects(prompt(), [3], freeze="none", integrate="inputs", baseline=other, progress=False)
    logits = [model.logits(ids)[-1] for ids in (prompt(), other)]
    change = [each[3] - each.mean() for each in logits]
    assert ledger(effects, "value")[0] == pytest.approx(float(change[0] - change[1]))
    moved = np.flatnonzero(values(effects)[0]) - (values(effects).shape[1] - len(other))
    assert moved.tolist() == [3, 6]  # only where the prompts differ


def test_groups_name_the_tokens_that_are_replaced_by_their_mean(load):
    model = load("clt")
    options = {"freeze": "none", "integrate": "inputs", "progress": False}
    effects = model.effects(prompt(), [3], groups={"a": [7, 9], "b": [12, 30]}, **options)
    moved = np.flatnonzero(values(effects)[0]) - (values(effects).shape[1] - len(prompt()))
    assert moved.tolist() == [1, 3, 6]  # 7, 7 and 12
    every = model.effects(prompt(), [3], **options)
    assert np.count_nonzero(values(every)) == len(prompt()) - 1  # all but the masked position


@pytest.mark.parametrize("freeze", ["attention", "none"])
@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
def test_effects_along_an_ablation_are_the_effect_of_the_ablation(load, kind, freeze):
    model = load(kind)
    nodes = [an_active_feature(model, layer) for layer in (0, 1, 2)] + [ErrorNode(0, 5), ErrorNode(1, -1)]
    if kind != "neurons":
        nodes = [
            Feature(node.layer, node.feature, node.position) if isinstance(node, Feature) else node for node in nodes
        ]
    effects = model.effects(
        prompt(), [3], freeze=freeze, integrate="ablation", integration_steps=24, nodes=nodes, progress=False
    )
    found = values(effects)[0][values(effects)[0] != 0]
    results = model.intervene_many(prompt(), [{node: ablate()} for node in nodes], freeze=freeze)
    expected = []
    for result in results:
        before, after = (each - each.mean() for each in (result.logits_before[-1], result.logits[-1]))
        expected.append(float(before[3] - after[3]))
    assert len(found) == len(nodes)
    assert np.allclose(np.sort(found), np.sort(expected), rtol=1e-3, atol=1e-3 * np.abs(expected).max())


# --- refusals ---------------------------------------------------------------------------------

REFUSED = {
    "mode": ({"freeze": "some"}, "freeze='some' is not one of all, norms, attention, none"),
    "integration": ({"integrate": "features"}, "is not one of inputs, ablation"),
    "steps": ({"integrate": "inputs", "integration_steps": 0}, "must be at least 1"),
    "steps of another type": ({"integrate": "inputs", "integration_steps": 1.5}, "integration_steps"),
    "cut with the target": ({"avoiding": [9, 10]}, "position 10"),
    "cut outside": ({"avoiding": 11}, "11"),
    "unknown segment": ({"avoiding": "step 1", "segments": {"step": (1, 3)}}, "no segment has this name"),
    "span outside": ({"segments": {"question": (4, 12)}}, "12"),
    "credit and mode": ({"through_qk": True, "freeze": "norms"}, "leave freeze= and integrate= out"),
    "zero baseline": ({"integrate": "inputs", "baseline": 0}, "zero baseline"),
    "zero embeddings": ({"integrate": "inputs", "baseline": torch.zeros(WIDTH)}, "the baseline is zero"),
    "NaN": ({"integrate": "inputs", "baseline": torch.full((WIDTH,), torch.nan)}, "NaN"),
    "shape": ({"integrate": "inputs", "baseline": torch.ones(3)}, r"expected \(11, 20\) or \(20,\)"),
    "another length": ({"integrate": "inputs", "baseline": prompt(7)}, "7 tokens and the prompt 11"),
    "unused baseline": ({"baseline": "mean"}, 'use them with integrate="inputs"'),
    "group of one": ({"integrate": "inputs", "groups": {"a": [7]}}, "needs at least two"),
    "absent group": ({"integrate": "inputs", "groups": {"a": [4, 5]}}, "no token of the group 'a'"),
    "shared token": ({"integrate": "inputs", "groups": {"a": [7, 9], "b": [9, 12]}}, "name it in one"),
    "nodes alone": ({"nodes": [ErrorNode(0, 3)]}, 'use it with integrate="ablation"'),
    "no nodes": ({"integrate": "ablation", "freeze": "none"}, "needs nodes="),
    "ablation frozen": ({"integrate": "ablation", "nodes": [ErrorNode(0, 3)]}, 'with freeze="none" or "attention"'),
    "no such layer": (
        {"integrate": "ablation", "freeze": "none", "nodes": [ErrorNode(3, 3)]},
        "the model has no layer 3",
    ),
    "token": ({"integrate": "ablation", "freeze": "none", "nodes": ["token@3"]}, "features and error nodes"),
    "several positions": ({"integrate": "ablation", "freeze": "none", "nodes": [ErrorNode(0)]}, "needs one position"),
    "inactive": (
        {"integrate": "ablation", "freeze": "none", "nodes": [Feature(0, 1, 0)]},
        "is not active in this prompt",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_refused_in_one_line(load, name):
    options, message = REFUSED[name]
    with pytest.raises(ArgumentError, match=message) as refusal:
        load("clt", "float32").effects(prompt(), [3], progress=False, **options)
    assert "\n" not in str(refusal.value)


def test_targets_by_position_are_checked(load):
    model = load("clt", "float32")
    for targets, message in (
        ({}, "targets is empty"),
        ({4: []}, "targets is empty"),
        ({11: [3]}, "11"),
        ({-1: [3], 10: [8]}, "names position 10 twice"),
        ({4: [3, 3]}, "named twice"),
        ({4: [VOCABULARY]}, str(VOCABULARY)),
        ({4: [Feature(0, 1, 0)]}, "not active"),
    ):
        with pytest.raises(CotraceError, match=message):
            model.effects(prompt(), targets, progress=False)
    graph = model.trace(prompt(), {4: [3], -1: [8, (3, 8)]}, progress=False)
    assert [t["position"] for t in graph.info["targets"]] == [4, 10, 10]


def test_the_package_exports_effects():
    assert cotrace.Effects.__name__ == "Effects"

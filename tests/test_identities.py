"""The two identities of docs/mathematics.md, and agreement with an independent forward-mode reference."""

import warnings

import numpy as np
import pytest
import tiny
import torch
from helpers.graph_reference import forward_mode
from helpers.identities import conservation_gap, relative
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

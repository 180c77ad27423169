"""Parity with the reference cases: rows, active features, prune masks, both scores, and interventions."""

from pathlib import Path

import numpy as np
import pytest

import cotrace

REFERENCE = Path(__file__).parent / "reference"
CASES = [
    ("clt_8", "clt_gemma_scope_2/clt/width_128_l0_medium"),
    ("clt_24", "clt_gemma_scope_2/clt/width_128_l0_medium"),
    ("clt_24", "clt_circuit_tracer"),
    ("clt_affine_8", "clt_gemma_scope_2/clt/width_128_l0_medium_affine"),
    ("plt_affine_24", "plt_gemma_scope_2"),
    ("plt_affine_24", "plt_circuit_tracer"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request):
    name, transcoders = request.param
    expected = dict(np.load(REFERENCE / "cases" / f"{name}.npz"))
    size = len(expected["adjacency"])
    expected["edge_mask"] = np.unpackbits(expected["edge_mask_packed"], count=size**2).reshape(size, size).astype(bool)
    model = cotrace.load(REFERENCE / "model", REFERENCE / transcoders, device="cpu")
    return model.trace(expected["input_ids"].tolist()), expected


def test_active_features(case):
    graph, expected = case
    found = [graph.column(name, -1)[graph.order.features] for name in ("layer", "position", "feature")]
    assert np.array_equal(np.stack(found, axis=1), expected["active_features"])
    activations = graph.column("activation")[graph.order.features]
    assert np.allclose(activations, expected["activation_values"], rtol=1e-5)


def test_rows(case):
    graph, expected = case
    found, adjacency = graph.adjacency().toarray(), expected["adjacency"]
    largest = np.abs(adjacency).max(1, keepdims=True)
    assert (np.abs(found - adjacency) <= 1e-4 * largest).all()
    assert not found[graph.order.errors].any()
    assert not found[graph.order.tokens].any()


def test_targets(case):
    graph, expected = case
    targets = graph.info["targets"]
    assert [target["token_ids"][0] for target in targets] == expected["logit_ids"].tolist()
    assert np.allclose([target["probability"] for target in targets], expected["logit_probs"], rtol=1e-4)


def test_prune_masks(case):
    graph, expected = case
    kept = graph.select(node_threshold=0.8, edge_threshold=0.98)
    edges = graph.edges()
    mask = np.zeros_like(expected["edge_mask"])
    mask[edges["target"].to_numpy()[kept.edges], edges["source"].to_numpy()[kept.edges]] = True
    assert np.array_equal(kept.nodes, expected["node_mask"])
    assert np.array_equal(mask, expected["edge_mask"] & (expected["adjacency"] != 0))


def test_scores(case):
    graph, expected = case
    assert graph.scores().replacement == pytest.approx(float(expected["replacement_score"]), abs=1e-5)
    assert graph.scores().completeness == pytest.approx(float(expected["completeness_score"]), abs=1e-5)


INTERVENTIONS = {"clt_24": "clt_circuit_tracer", "plt_affine_24": "plt_circuit_tracer"}


@pytest.mark.parametrize("freeze", ["none", "attention", "all"])
@pytest.mark.parametrize("name", INTERVENTIONS)
def test_interventions(name, freeze):
    """Edit several features at several layers at once, one of them inactive; compare activations and logits."""
    expected = dict(np.load(REFERENCE / "interventions" / f"{name}.npz"))
    model = cotrace.load(REFERENCE / "model", REFERENCE / INTERVENTIONS[name], device="cpu")
    sites, values = expected["changes"][:, :3].astype(int), expected["changes"][:, 3].tolist()
    changes = {
        cotrace.Feature(layer, feature, position=position): cotrace.set_to(value)
        for (layer, position, feature), value in zip(sites.tolist(), values, strict=True)
    }
    result = model.intervene(expected["input_ids"], changes, freeze=freeze)
    logits = expected[f"logits_{freeze}"]
    assert np.abs(result.logits.numpy() - logits).max() < 1e-5
    assert np.abs(result.logits_before.numpy() - logits).max() > 0.1
    if freeze == "all":
        return
    found = np.zeros_like(expected[f"activations_{freeze}"])
    layer, position, feature, activation = (
        result.features[column].to_numpy() for column in ("layer", "position", "feature", "activation_after")
    )
    found[layer, position, feature] = activation
    activations = expected[f"activations_{freeze}"]
    activations[tuple(sites.T)] = values  # circuit-tracer reports the unedited activations of these
    assert np.abs(found - activations).max() < 1e-5

"""Effects that a trace saves with the nodes: what they are, where they are kept, and how they select rows."""

import numpy as np
import pyarrow.dataset as ds
import pytest
import torch
from tiny import KINDS, prompt

import cotrace
from cotrace import Feature
from cotrace.attribution.tracing import row_selection
from cotrace.attribution.tracing.activations import ActiveFeatures
from cotrace.attribution.tracing.config import RowBudget, TraceConfig
from cotrace.attribution.tracing.row_selection import EffectRowSelection
from cotrace.common.errors import ArgumentError
from cotrace.graphs import NodeOrder
from cotrace.graphs.effects import total_effects
from cotrace.graphs.saved_effects import expected_sizes, saved_effects


@pytest.fixture(scope="module")
def model(load):
    return load("clt-affine")


@pytest.fixture(scope="module")
def graph(model):
    return model.trace(prompt())


def effects_of(graph, kind):
    """Return the effects on all targets of all nodes but logits, (K, M')."""
    return saved_effects(graph, graph.info["targets"], kind)[:, : graph.order.n_editable]


def importance(graph):
    """Return the absolute total effect of each feature, averaged over targets by their weights."""
    weights = np.array([target["weight"] for target in graph.info["targets"]])
    return (weights @ np.abs(effects_of(graph, "total")))[graph.order.features]


# --- what they are --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_total_effects_are_those_of_the_edges(load, kind):
    model = load(kind)
    features = model.active_features(prompt()).to_pylist()
    target = next(row for row in reversed(features) if row["position"] == len(prompt()) - 1 and row["layer"] > 0)
    graph = model.trace(prompt(), [3, (4, 5), Feature(target["layer"], target["feature"], target["position"])])
    edges = total_effects(graph, [each["node"] for each in graph.info["targets"]])[:, : graph.order.n_editable]
    np.testing.assert_allclose(effects_of(graph, "total"), edges, rtol=1e-9, atol=1e-12 * np.abs(edges).max())


@pytest.mark.parametrize("kind", KINDS)
def test_expected_effects_are_minus_the_live_first_order_effects(load, kind):
    model = load(kind)
    graph, live = model.trace(prompt(), [3, (4, 5)]), model.effects(prompt(), [3, (4, 5)], freeze="none")
    np.testing.assert_allclose(effects_of(graph, "expected"), -live.effect_KM, rtol=1e-9, atol=1e-12)


def test_a_small_ablation_changes_the_target_as_expected(model, graph):
    node = graph.find(graph.info["targets"][0]["label"])[0]
    expected, share = graph.effects_on(node), 1e-6
    logit = model.logits(prompt())[-1]
    token = graph.info["targets"][0]["token_ids"][0]
    for row in np.argsort(-np.abs(expected[graph.order.features]))[:5]:
        layer, feature, position = (int(graph.column(name)[row]) for name in ("layer", "feature", "position"))
        edited = model.intervene(prompt(), {Feature(layer, feature, position): cotrace.multiply(1 - share)}).logits[-1]
        change = (edited - logit)[token] - (edited - logit).mean()
        assert float(change) / share == pytest.approx(expected[row], rel=1e-3)


def test_targets_at_the_unembedding_have_no_effects(graph):
    assert np.isnan(graph.effects_on()[graph.order.logits]).all()
    assert graph.nodes["effect"].null_count == graph.nodes["expected_effect"].null_count == graph.order.n_logits
    assert not expected_sizes(graph, graph.info["targets"])[graph.order.logits].any()


def test_a_target_is_chosen_by_name(graph):
    targets = sorted(graph.info["targets"], key=lambda each: -each["weight"])
    np.testing.assert_array_equal(graph.effects_on(), graph.effects_on(targets[0]["node"]))
    np.testing.assert_array_equal(graph.effects_on(targets[1]["label"]), graph.effects_on(targets[1]["node"]))
    assert not np.array_equal(graph.effects_on(kind="total"), graph.effects_on(), equal_nan=True)
    with pytest.raises(ArgumentError, match="no target 'x'"):
        graph.effects_on("x")
    with pytest.raises(ArgumentError, match="kind='edge' is not one of expected, total"):
        graph.effects_on(kind="edge")


# --- where they are kept --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["graph.arrow", "graph.arrow.zst"])
def test_they_are_kept_by_pruning_and_files(graph, tmp_path, name):
    chosen = graph.select(0.6, 0.9).nodes
    pruned = cotrace.open(graph.prune(0.6, 0.9).save(tmp_path / name))
    for kind in ("expected", "total"):
        np.testing.assert_array_equal(pruned.effects_on(kind=kind), graph.effects_on(kind=kind)[chosen])
    pruned.label(int(np.flatnonzero(pruned.column("computed"))[0]), "labelled")
    assert cotrace.open(pruned.save(tmp_path / f"again-{name}")).effects_on().shape == pruned.effects_on().shape


def test_they_can_be_left_out(model, graph, tmp_path):
    without = cotrace.open(model.trace(prompt(), effects=False).save(tmp_path / "graph.arrow"))
    assert graph.has_effects
    assert not without.has_effects
    assert set(graph.nodes.column_names) - set(without.nodes.column_names) == {"effect", "expected_effect"}
    assert without.nodes.equals(graph.nodes.select(without.nodes.column_names))
    assert expected_sizes(without, without.info["targets"]) is None
    with pytest.raises(ArgumentError, match="no effects; trace the prompt again with effects"):
        without.effects_on()


def test_graphs_with_other_numbers_of_targets_are_one_data_set(model, tmp_path):
    for n, targets in ((1, [3]), (3, [3, 4, 5])):
        model.trace(prompt(), targets).save(tmp_path / f"id={n}" / "circuit.arrow")
    table = ds.dataset(tmp_path, format="ipc", partitioning="hive").to_table(columns=["id", "kind", "expected_effect"])
    lengths = {n: {len(row["expected_effect"] or []) for row in table.to_pylist() if row["id"] == n} for n in (1, 3)}
    assert lengths == {1: {0, 1}, 3: {0, 3}}


def test_networkx_has_an_attribute_for_each_target(graph):
    attributes = graph.to_networkx().nodes[0]
    assert [attributes[f"effect_{k}"] for k in range(len(graph.info["targets"]))] == graph.nodes["effect"][0].as_py()
    assert "expected_effect_0" in attributes


def test_a_plan_counts_their_memory(model):
    with_effects, without = model.plan(prompt()), model.plan(prompt(), effects=False)
    assert with_effects.effect_columns == 10
    assert (without.effect_columns, without.effects_bytes) == (0, 0)
    assert with_effects.replacement_bytes > without.replacement_bytes
    assert with_effects.memory_bytes >= without.memory_bytes


# --- rows selected by them ------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 5, 20, 10**6])
@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
def test_a_budget_keeps_the_features_with_the_largest_effects(load, kind, limit):
    model = load(kind)
    whole, part = model.trace(prompt()), model.trace(prompt(), max_features=limit, select="effect")
    effect, computed = importance(whole), part.computed[part.order.features]
    assert computed.sum() == min(limit, np.count_nonzero(effect))
    assert effect[computed].min(initial=np.inf) >= effect[~computed].max(initial=0)
    assert part.info["settings"]["select"] == "effect"
    assert part.info["traced"]["effect_coverage"] == pytest.approx(effect[computed].sum() / effect.sum())
    lacks = whole.influence() - part.influence()
    assert (lacks <= part.column("influence_bound") + 1e-9).all()
    rows = part.adjacency().toarray()[part.computed]
    np.testing.assert_allclose(rows, whole.adjacency().toarray()[part.computed], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("coverage", [0.3, 0.9, 0.999])
def test_coverage_is_the_share_of_absolute_effects(model, graph, coverage):
    effect = np.sort(importance(graph))[::-1]
    part = model.trace(prompt(), coverage=coverage, select="effect")
    count = int(part.computed[part.order.features].sum())
    reached = effect.cumsum() / effect.sum()
    assert reached[count - 1] >= coverage - 1e-12
    assert count == 1 or reached[count - 2] < coverage
    assert part.info["traced"]["effect_coverage"] >= coverage - 1e-12


def test_targets_always_have_their_row(model):
    rows = model.active_features(prompt()).to_pylist()
    named = [Feature(row["layer"], row["feature"], row["position"]) for row in (rows[-1], rows[len(rows) // 2])]
    graph = model.trace(prompt(), named, max_features=0, select="effect")
    assert graph.computed[graph.order.features].sum() == 2


def test_time_goes_to_the_largest_effects_first(model):
    none = model.trace(prompt(), max_seconds=1e-9, select="effect")
    assert not none.computed[none.order.features].any()
    whole = model.trace(prompt(), max_seconds=3600, select="effect")
    assert whole.info["traced"]["effect_coverage"] == pytest.approx(1)


def test_features_of_all_layers_share_the_time_that_is_left(monkeypatch):
    layer_N, cost = torch.tensor([0, 0, 1, 1]), 2.0
    columns = [layer_N, torch.zeros(4, dtype=torch.long), *(torch.zeros(4),) * 4]
    order, effect_N = NodeOrder(4, 2, 1, 1), np.array([8.0, 1.0, 4.0, 2.0])
    budget = RowBudget(max_seconds=10, select="effect")
    weights_M = np.eye(order.n_nodes)[-1]
    selection = EffectRowSelection(ActiveFeatures(*columns), order, weights_M, budget, np.zeros(4, bool), effect_N)
    selection.started, selection.cost_N = 0.0, torch.full((4,), cost)
    selection.finished_cost, selection.finished_seconds = 1, 1.0
    monkeypatch.setattr(row_selection.time, "monotonic", lambda: 5.5)  # 4.5 s left: two rows of 2 s
    assert selection.select(1).tolist() == [2]  # the other goes to feature 0, of the layer below
    assert selection.select(0).tolist() == [0, 1]  # feature 2 is done


def test_cached_rows_and_selection_by_effect(model_folder, transcoder_spec):
    model = cotrace.load(model_folder, transcoder_spec("clt-affine"), dtype="float64", row_cache_bytes=2**24)
    first = model.trace(prompt(), max_features=20, select="effect")
    again = model.trace(prompt(), max_features=20, select="effect")
    assert first.nodes.equals(again.nodes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"select": "size"}, "select='size' is not one of"),
        ({"select": "effect", "effects": False}, "needs the effects"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ArgumentError, match=words):
        TraceConfig(**options)
    if "effects" not in options:
        with pytest.raises(ArgumentError, match=words):
            RowBudget(**options)

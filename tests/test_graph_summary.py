"""What `cotrace show` answers: targets, signed effects, shares by last step, features first."""

import numpy as np
import pytest
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, choose_targets, node_label, summarize
from cotrace.graphs.effects import ablation_effects, total_effects
from cotrace.graphs.influence import node_influence
from cotrace.graphs.metadata import metadata_of


def with_weights(graph, *weights, labels=None):
    """Return the graph with other weights and texts of its targets."""
    texts = labels or [f" target {index}" for index in range(len(weights))]
    targets = [
        {**target, "weight": weight, "label": text}
        for target, weight, text in zip(graph.info["targets"], weights, texts, strict=True)
    ]
    info = {**graph.info, "targets": targets}
    return Graph(graph.nodes.replace_schema_metadata(metadata_of(info)), info)


# --- effects --------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_an_effect_is_minus_the_predicted_effect_of_the_ablation(graph):
    targets = [target["node"] for target in graph.info["targets"]]
    effects = total_effects(graph, targets)
    for node in range(graph.order.errors.stop):
        changes = ablation_effects(graph, [[node]])[0]
        for target, effect in zip(targets, effects, strict=True):
            if node != target:
                assert effect[node] == pytest.approx(-changes[target], rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_effects_are_the_sum_over_all_paths(graph):
    """`e = (I - A D)^-1` with D the relative change of a feature's output per change of its input."""
    activation = np.nan_to_num(graph.column("activation")).astype(float)
    gain = np.divide(1, activation, out=np.zeros_like(activation), where=activation != 0)
    gain[graph.order.n_features :] = 0
    matrix = dense(graph)
    for target in [each["node"] for each in graph.info["targets"]]:
        effect = np.zeros(len(matrix))
        row = matrix[target]
        for _ in range(graph.info["model"]["n_layers"] + 1):  # paths of 1, 2, … edges
            effect += row
            row = (row * gain) @ matrix
        np.testing.assert_allclose(total_effects(graph, [target])[0], effect, rtol=1e-6, atol=1e-6)


# --- targets --------------------------------------------------------------------------------


def test_a_target_that_dominates_is_chosen_and_others_on_request():
    graph = with_weights(random_graph(4), 0.2, 0.7, 0.1, labels=[" cold", " warm", "cold"])
    nodes = [target["node"] for target in graph.info["targets"]]
    assert [each["node"] for each in choose_targets(graph)] == [nodes[1]]
    assert [each["node"] for each in choose_targets(graph, "all")] == [nodes[1], nodes[0], nodes[2]]
    assert [each["node"] for each in choose_targets(graph, "warm")] == [nodes[1]]
    assert [each["node"] for each in choose_targets(graph, "cold")] == [nodes[2]]  # the exact text comes first
    assert [each["node"] for each in choose_targets(graph, nodes[0])] == [nodes[0]]
    with pytest.raises(ArgumentError, match="no target ' x'"):
        choose_targets(graph, " x")


def test_without_a_target_that_dominates_all_are_chosen():
    graph = with_weights(random_graph(4), 0.5, 0.3, 0.2)
    assert [each["weight"] for each in choose_targets(graph)] == [0.5, 0.3, 0.2]


# --- the answer -----------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(graphs(), st.booleans())
def test_last_steps_are_the_shares_of_the_targets_rows(graph, one):
    target = graph.info["targets"][0]["node"] if one else "all"
    summary = summarize(graph, target)
    matrix, order = np.abs(dense(graph)), graph.order
    expected = np.zeros(order.n_nodes)
    total = sum(each["weight"] for each in summary.targets)
    for each in summary.targets:
        expected += matrix[each["node"]] / (matrix[each["node"]].sum() or 1) * each["weight"] / total
    steps = summary.last_steps
    shares = [expected[part].sum() for part in (order.features, order.tokens, order.errors)]
    assert [steps.features, steps.tokens, steps.errors] == pytest.approx(shares)
    for edge in steps.strongest_tokens:
        assert order.tokens.start <= edge.nodes[0] < order.tokens.stop
        assert edge.sign == np.sign(dense(graph)[edge.nodes[1], edge.nodes[0]]) or edge.strength == 0


@pytest.mark.parametrize("kind", ["feature", "error", "token"])
def test_nodes_of_one_kind_ranked_by_influence_on_the_chosen_target(kind):
    graph = with_weights(random_graph(8, n_features=30, effects=False), 0.1, 0.1, 0.8)
    target = graph.info["targets"][0]["node"]
    summary = summarize(graph, target, kind=kind, n_nodes=100)
    assert summary.ranked_by == "influence"
    alone = np.zeros(graph.order.n_nodes)
    alone[target] = 1
    influence = node_influence(graph.csr, alone)
    part = getattr(graph.order, f"{kind}s")
    expected = [
        node for node in np.argsort(-influence, kind="stable") if part.start <= node < part.stop and influence[node]
    ]
    assert [node.node for node in summary.nodes] == expected
    for node in summary.nodes:
        assert node.influence == pytest.approx(influence[node.node])
        assert node.effects == pytest.approx(total_effects(graph, [target])[:, node.node])


def test_paths_run_through_features_and_their_shares_are_of_the_chosen_target():
    graph = with_weights(random_graph(8, n_features=30), 0.6, 0.3, 0.1)
    summary = summarize(graph, n_paths=10_000)
    assert all(len(path.nodes) > 2 for path in summary.paths)
    everything = summarize(graph, n_paths=10_000, min_length=1)
    direct = sum(path.strength for path in everything.paths if len(path.nodes) == 2)
    assert direct == pytest.approx(summary.last_steps.tokens)
    assert sum(path.strength for path in everything.paths) <= 1 + 1e-9


@pytest.mark.parametrize("kind", ["feature", "error", "token"])
def test_nodes_of_a_graph_with_effects_are_ranked_by_them(kind):
    graph = with_weights(random_graph(8, n_features=30), 0.2, 0.3, 0.5)
    summary = summarize(graph, "all", kind=kind, n_nodes=100)
    assert summary.ranked_by == "expected effect"
    effects = [graph.effects_on(target["node"]) for target in summary.targets]
    size = sum(target["weight"] * np.abs(effect) for target, effect in zip(summary.targets, effects, strict=True))
    part = getattr(graph.order, f"{kind}s")
    assert [node.node for node in summary.nodes] == (part.start + np.argsort(-size[part], kind="stable")).tolist()
    for node in summary.nodes:
        assert node.expected_effects == tuple(effect[node.node] for effect in effects)
        assert node.expected_size == pytest.approx(size[node.node])


def test_a_graph_without_edges_or_features_has_an_empty_answer(command, tmp_path):
    for graph in (random_graph(1, density=0, effects=False), random_graph(1, n_features=0, n_errors=0)):
        assert command("show", graph.save(tmp_path / "graph.arrow"))[0] == 0
        summary = summarize(graph)
        assert summary.nodes == []
        assert summary.paths == []


def test_show_lists_features_first_and_filters_by_target(command, tmp_path):
    graph = with_weights(random_graph(8, n_features=30), 0.8, 0.1, 0.1, labels=[" a", " b", " c"])
    file = graph.save(tmp_path / "graph.arrow")
    status, shown, _ = command("show", file)
    assert status == 0
    answer = shown[shown.index("influence on ' a'") :]
    assert answer.count("\n influence on") == 0
    assert "straight from tokens" in answer
    assert "effect on ' a'" in answer
    best = summarize(graph).nodes[0]
    assert node_label(graph, best.node) in answer
    assert f"{best.effects[0]:+.3f}" in answer
    other = command("show", file, "--target", "b", "--kind", "token", "--min-length", "1")[1]
    assert "largest expected effects on ' b'" in other
    assert "if ablated" in other
    assert f"{best.expected_effects[0]:+.3f}" in answer
    assert "effect on ' b'" in other


def test_show_of_a_very_long_prompt_fits_on_a_page(command, tmp_path):
    graph = random_graph(3, n_positions=6_500, n_features=10, n_errors=2)
    file = graph.save(tmp_path / "graph.arrow")
    shown = command("show", file)[1]
    assert "(6,460 tokens left out)" in shown
    assert len(shown.splitlines()) < 60
    assert len(command("show", file, "--full")[1].splitlines()) > 400

"""Graphs without some of their rows: the influence bound holds for every node, and certain nodes are certain."""

import numpy as np
import pytest
import torch
from helpers.random_graphs import dense, graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import KINDS, prompt

import cotrace
from cotrace.attribution.tracing.activations import ActiveFeatures
from cotrace.attribution.tracing.config import RowBudget
from cotrace.attribution.tracing.row_selection import influence_bound
from cotrace.graphs.csr import CSR
from cotrace.graphs.prune import score_at_share
from cotrace.graphs.pruning_bounds import certainty

ROUNDING = 1e-5


def compared(model, ids, **limits):
    """Return the graph with all rows, and the one with limits."""
    return model.trace(ids), model.trace(ids, **limits)


def computed_features(graph) -> np.ndarray:
    return graph.column("computed").astype(bool)[graph.order.features]


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_holds_for_every_node(load, kind, coverage):
    whole, part = compared(load(kind), prompt(), coverage=coverage)
    lacks = whole.influence() - part.influence()
    assert (lacks >= -ROUNDING).all()
    assert (lacks <= part.column("influence_bound") + ROUNDING).all()
    computed, influence = computed_features(part), part.influence()[part.order.features]
    assert (0 if coverage < 0.9 else 1) <= computed.sum() < len(computed)
    assert part.info["traced"]["coverage"] == pytest.approx(1 - influence[~computed].sum())
    assert part.info["traced"]["coverage"] >= coverage - ROUNDING
    assert part.info["traced"]["bound"] == pytest.approx(part.column("influence_bound").max())
    assert 0 < part.info["traced"]["bound"] <= 1 - part.info["traced"]["coverage"] + ROUNDING
    assert part.info["traced"]["rows"] == computed.sum() + part.order.n_logits
    assert part.info["settings"]["coverage"] == coverage


@pytest.mark.parametrize("kind", KINDS)
def test_computed_rows_equal_those_of_the_graph_with_all_rows(load, kind):
    whole, part = compared(load(kind), prompt(), coverage=0.8)
    rows = part.column("computed").astype(bool)
    found, expected = part.adjacency().toarray(), whole.adjacency().toarray()
    assert np.allclose(found[rows], expected[rows], rtol=1e-9, atol=1e-12 * np.abs(expected).max())
    assert not found[~rows].any()
    for name in ("bias", "pre_activation"):
        assert np.allclose(part.column(name)[rows], whole.column(name)[rows], rtol=1e-9)
    features = ~rows & (part.order.kind_codes() == 0)
    assert part.nodes["bias"].filter(features).null_count == features.sum()
    assert part.nodes["pre_activation"].filter(features).null_count == 0


def test_full_coverage_computes_every_row(load):
    whole = load("clt-affine").trace(prompt())
    assert (whole.info["traced"]["coverage"], whole.info["traced"]["bound"]) == (1, 0)
    assert computed_features(whole).all()
    assert not whole.column("influence_bound").any()


@pytest.mark.parametrize("limit", [0, 1, 7, 10**6])
def test_at_most_max_features_rows_are_computed(load, limit):
    whole, part = compared(load("clt-affine"), prompt(), max_features=limit)
    n = computed_features(part).sum()
    assert n <= limit
    assert n >= min(limit, whole.order.n_features) // 2
    lacks = whole.influence() - part.influence()
    assert (lacks <= part.column("influence_bound") + ROUNDING).all()


def test_a_graph_is_valid_when_the_time_runs_out(load, tmp_path):
    part = load("clt-affine").trace(prompt(), max_seconds=1e-9)
    assert computed_features(part).sum() == 0
    assert part.info["settings"]["max_seconds"] == 1e-9
    reopened = cotrace.open(part.save(tmp_path / "part.arrow"))
    assert reopened.prune().order.n_tokens == len(prompt())
    whole, enough = compared(load("clt-affine"), prompt(), max_seconds=3600)
    assert enough.info["traced"]["coverage"] == 1  # features without influence have no rows
    assert np.allclose(enough.influence(), whole.influence())


def test_rows_of_feature_targets_are_always_computed(load):
    model = load("clt-affine")
    table = model.active_features(prompt())
    rows = [{name: table[name][i].as_py() for name in ("layer", "feature", "position")} for i in (-1, len(table) // 2)]
    named = [cotrace.Feature(**row) for row in rows]
    graph = model.trace(prompt(), named, max_features=0)
    assert computed_features(graph).sum() == 2
    nodes = [target["node"] for target in graph.info["targets"]]
    assert computed_features(graph)[nodes].all()
    whole = model.trace(prompt(), named)
    assert (whole.influence() - graph.influence() <= graph.column("influence_bound") + ROUNDING).all()


def test_limits_of_other_number_types_are_saved_as_python_numbers(load, tmp_path):
    limits = {"coverage": np.float32(0.9), "max_features": np.int64(50), "max_seconds": np.float64(1e6)}
    graph = cotrace.open(load("clt-affine").trace(prompt(), **limits).save(tmp_path / "a.arrow"))
    assert graph.info["settings"]["max_features"] == 50


def test_a_pruned_graph_can_be_pruned_again(load):
    part = load("clt-affine").trace(prompt(), coverage=0.7)
    once = part.prune(0.9)
    assert "certainty" not in once.prune(0.5).info["pruning"]
    assert once.prune(0.5).order.n_nodes < once.order.n_nodes


def test_pruning_keeps_influential_features_without_a_row(load):
    part = load("clt-affine").trace(prompt(), coverage=0.5)
    circuit = part.prune(0.9)
    assert circuit.info["pruning"]["certainty"] == part.certainty(0.9).counts()
    assert sum(part.certainty(0.9).counts().values()) == part.order.n_nodes
    assert not computed_features(circuit).all()
    with pytest.raises(ValueError, match="of the traced graph"):
        circuit.certainty()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"coverage": 0}, "above 0 and at most 1"),
        ({"coverage": 1.5}, "above 0 and at most 1"),
        ({"coverage": float("nan")}, "above 0 and at most 1"),
        ({"max_features": -1}, "at least 0"),
        ({"max_seconds": 0}, "above 0"),
        ({"max_seconds": float("nan")}, "above 0"),
        ({"max_seconds": float("inf")}, "left out for no limit"),
        ({"max_features": 2.5}, "must be an integer"),
        ({"max_features": True}, "must be an integer"),
    ],
)
def test_invalid_limits_are_refused(limits, words):
    with pytest.raises(ValueError, match=words):
        RowBudget(**limits)


# On random graphs: some features lose their rows.


def without_rows(graph, skipped):
    """Return the influence of the graph without the rows of skipped features, (M,), and its dense adjacency."""
    matrix = dense(graph)
    matrix[: graph.order.n_features][skipped] = 0
    share = np.abs(matrix)
    totals = share.sum(1, keepdims=True)
    share /= np.where(totals > 0, totals, 1)
    mass, influence = graph.target_weights, np.zeros(len(matrix))
    for _ in range(int(graph.info["model"]["n_layers"]) + 2):
        mass = mass @ share
        influence += mass
    return influence


@settings(max_examples=200, deadline=None)
@given(graphs(dtype=np.float64), st.randoms(use_true_random=False), st.sampled_from([0.1, 0.5, 0.9]))
def test_certain_nodes_are_certain_in_the_whole_graph(graph, random, share):
    n_layers, n_positions = graph.info["model"]["n_layers"], graph.order.n_tokens
    skipped = np.array([random.random() < share for _ in range(graph.order.n_features)], bool)
    found, true = without_rows(graph, skipped), without_rows(graph, np.zeros_like(skipped))
    sites = [
        torch.tensor(graph.column(name, 0)[graph.order.features].astype(np.int64)) for name in ("layer", "position")
    ]
    every = everywhere(graph)
    mass = np.zeros(every.n_nodes)
    mass[every.features] = (found + graph.target_weights)[graph.order.features]
    none = torch.zeros(graph.order.n_features)
    features = ActiveFeatures(*sites, none, none, none, none)
    bound = influence_bound(features, everywhere(graph), mass, ~skipped, n_layers, n_positions)
    bound = of_nodes(graph, bound, n_positions)
    assert (true - found >= -1e-12).all()
    assert (true - found <= bound + 1e-12).all()
    for threshold in (0.2, 0.5, 0.8, 1):
        said = certainty(found, bound + 1e-12, threshold)
        assert not (said.inside & said.outside).any()
        descending = np.sort(true[true > 0])[::-1]
        if len(descending):
            rank = np.searchsorted(np.cumsum(descending) / descending.sum(), threshold - 1e-9)
            score = descending[min(rank, len(descending) - 1)]
            assert (true[said.inside] >= score * (1 - 1e-9)).all()
            assert (true[said.outside] < score * (1 + 1e-9)).all()


def everywhere(graph):
    """Return the order of a graph with an error at every site, as bounds assume."""
    from cotrace.graphs import NodeOrder

    n_sites = graph.info["model"]["n_layers"] * graph.order.n_tokens
    return NodeOrder(graph.order.n_features, n_sites, graph.order.n_tokens, graph.order.n_logits)


def of_nodes(graph, bound, n_positions):
    """Return the bounds of the graph's own nodes: random graphs have errors at some sites only."""
    order, every = graph.order, everywhere(graph)
    sites = graph.column("layer", 0)[order.errors] * n_positions + graph.column("position", 0)[order.errors]
    errors = bound[every.errors][sites.astype(int)]
    return np.concatenate([bound[every.features], errors, bound[every.tokens], bound[every.logits]])


@settings(max_examples=100, deadline=None)
@given(graphs(dtype=np.float64))
def test_the_estimate_is_the_influence_where_no_row_is_missing(graph):
    assert np.allclose(graph.estimated_influence(), graph.influence(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_closer_than_the_lower_bound(load, kind):
    whole, part = compared(load(kind), prompt(), coverage=0.9)
    true, low, estimate = whole.influence(), part.influence(), part.estimated_influence()
    assert (estimate >= low - ROUNDING).all()
    assert np.abs(estimate - true).sum() < np.abs(low - true).sum()


def test_features_without_rows_pass_on_what_their_site_does():
    """Two features of one site, one with a row: a token, an error, a logit that reads both."""
    from cotrace.graphs.influence import estimated_influence

    # nodes: features 0 and 1, error 2, token 3, logit 4
    rows = {0: [(2, 1.0), (3, 3.0)], 4: [(0, 1.0), (1, 1.0), (3, 2.0)]}
    indptr = np.cumsum([0, *(len(rows.get(row, [])) for row in range(5))])
    indices = np.array([source for row in sorted(rows) for source, _ in rows[row]], np.int32)
    weights = np.array([weight for row in sorted(rows) for _, weight in rows[row]])
    arguments = CSR(indptr, indices, weights), np.array([0, 0, 0, 0, 1.0])
    found = estimated_influence(*arguments, np.array([True, False, False, False, True]), np.array([0, 2]))
    assert found.tolist() == [0.25, 0.25, 0.125, 0.875, 0]
    alone = estimated_influence(*arguments, np.array([True, False, False, False, True]), np.array([0, 1, 2]))
    assert alone.tolist() == [0.25, 0.25, 0.0625, 0.6875, 0]


@settings(max_examples=100, deadline=None)
@given(graphs(dtype=np.float64), st.sampled_from([0, 0.2, 0.5, 0.8, 1]))
def test_without_missing_rows_every_node_is_certain(graph, threshold):
    influence = graph.influence()
    said = certainty(influence, np.zeros(graph.order.n_nodes), threshold)
    score = score_at_share(influence, threshold)
    positive = np.sort(influence[influence > 0])[::-1]
    if np.any(np.isclose(np.cumsum(positive), threshold * positive.sum(), rtol=1e-9)):
        return  # rounding decides at which node the share is reached
    assert (said.inside == (influence >= score)).all()
    assert not said.undecided.any()


def test_certainty_at_thresholds_0_and_1():
    """At a threshold of 0 the largest node is kept, at 1 every node with any influence."""
    influence, bound = np.array([0.1, 0.5]), np.array([0.5, 0.05])
    assert certainty(influence, bound, 0).counts() == {"inside": 0, "outside": 0, "undecided": 2}
    said = certainty(np.array([0.5, 0, 0]), np.array([0, 0.1, 0]), 1)
    assert [mask.tolist() for mask in said] == [[True, False, False], [False, False, True]]
    said = certainty(np.zeros(3), np.zeros(3), 0.8)
    assert said.counts() == {"inside": 0, "outside": 3, "undecided": 0}


def test_from_the_command_line(tmp_path, prompt_text):
    from helpers.cli import MODEL, run

    result = run("trace", prompt_text, *MODEL, "--coverage", "0.7", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "coverage   7" in result.stdout
    (file,) = tmp_path.glob("*.arrow")
    shown = run("show", file, "--full").stdout
    for words in ("coverage   7", "rows were computed", "certainty", "undecided"):
        assert words in shown
    refused = run("trace", prompt_text, *MODEL, "--coverage", "2", "--out", tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --coverage is 2")


@pytest.fixture
def prompt_text():
    from helpers.cli import REFERENCE

    return cotrace.load(REFERENCE / "model", device="cpu").tokenizer.hf_tokenizer.decode([20, 30, 40])

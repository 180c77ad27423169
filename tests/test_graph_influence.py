"""Influence and scores against dense linear algebra in float64."""

import numpy as np
import pytest
from helpers.dense_influence import csr_of, neumann, normalised
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings

from cotrace.graphs import CSR, NodeKind, NodeOrder
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.influence import node_influence
from cotrace.graphs.scores import graph_scores


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_influence_is_the_neumann_series(graph):
    matrix, weights = dense(graph), graph.target_weights
    inverse = np.linalg.inv(np.eye(len(matrix)) - normalised(matrix))
    np.testing.assert_allclose(graph.influence(), neumann(matrix, weights), rtol=1e-12, atol=0)
    np.testing.assert_allclose(graph.influence(), weights @ inverse - weights, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(graphs(dtype=np.float64))
def test_influence_of_a_float64_graph(graph):
    np.testing.assert_allclose(graph.influence(), neumann(dense(graph), graph.target_weights), rtol=1e-12, atol=0)


def test_influence_of_a_graph_worked_by_hand():
    # Features 0 and 1, error 2, token 3, logit 4.
    csr = csr_of([{3: 2.0}, {0: -1.0, 2: 3.0}, {}, {}, {0: 1.0, 1: -1.0}])
    influence = node_influence(csr, np.array([0, 0, 0, 0, 1.0]))
    np.testing.assert_allclose(influence, [0.5 + 0.125, 0.5, 0.375, 0.625, 0])


def test_a_feature_target_counts_its_own_weight_and_what_flows_through_it():
    csr = csr_of([{3: 2.0}, {0: -1.0, 2: 3.0}, {}, {}, {0: 1.0, 1: -1.0}])
    influence = node_influence(csr, np.array([0, 0.5, 0, 0, 0.5]))
    np.testing.assert_allclose(influence, [0.25 + 0.75 / 4, 0.25, 0.75 * 3 / 4, 0.25 + 0.75 / 4, 0])


def test_rows_of_zeros_pass_no_influence_on():
    csr = csr_of([{1: 0.0}, {}, {0: 1.0, 1: 0.0}])
    assert node_influence(csr, np.array([0, 0, 1.0])).tolist() == [1, 0, 0]
    assert csr.row_totals().tolist() == [0, 0, 1]


@pytest.mark.parametrize("rows", [[{}, {0: -4.0}], [{}, {}]], ids=["one edge", "no edge"])
def test_one_token_and_no_features(rows):
    influence = node_influence(csr_of(rows), np.array([0, 1.0]))
    assert influence.tolist() == [float(bool(rows[1])), 0]
    assert graph_scores(NodeOrder(0, 0, 1, 1), csr_of(rows), np.array([0, 1.0]))[:2] == (1, 1)


def test_influence_of_weights_that_almost_underflow():
    csr = csr_of([{}, {0: 1.0}, {0: 1.0, 1: 1.0}])
    tiny = csr._replace(weights=csr.weights * np.float64(5e-324))
    influence = node_influence(tiny, np.array([0, 0, 1.0]))
    assert influence.tolist() == [1, 0.5, 0]


def test_influence_accepts_integer_target_weights():
    assert node_influence(csr_of([{}, {0: 1.0}]), np.array([0, 1])).tolist() == [1, 0]


# --- scores ---------------------------------------------------------------------------------


def plain_scores(graph):
    matrix, weights, kinds = dense(graph), graph.target_weights, graph.order.kind_codes()
    influence = neumann(matrix, weights)
    token, error = influence[kinds == NodeKind.TOKEN].sum(), influence[kinds == NodeKind.ERROR].sum()
    replacement = token / (token + error) if token + error > 0 else 1
    not_errors = 1 - normalised(matrix)[:, kinds == NodeKind.ERROR].sum(1)
    return replacement, (not_errors * (influence + weights)).sum() / (influence + weights).sum()


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_scores_equal_a_plain_dense_implementation(graph):
    np.testing.assert_allclose(graph.scores()[:2], plain_scores(graph), rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(graphs(n_errors=0))
def test_without_errors_both_scores_are_one(graph):
    assert graph.scores()[:2] == (1, 1)


def test_with_nothing_but_errors_replacement_is_zero():
    # Features 0 and 1, error 2, token 3, logit 4: every path starts in the error.
    csr = csr_of([{2: -1.0}, {2: 1.0}, {}, {}, {0: 1.0, 1: 1.0}])
    scores = graph_scores(NodeOrder(2, 1, 1, 1), csr, np.array([0, 0, 0, 0, 1.0]))
    # Of mass 3, the logit and the error (whose share is 1 by definition) are complete.
    assert scores[:2] == (0, pytest.approx(2 / 3))


def test_completeness_falls_with_errors_on_one_row():
    csr = csr_of([{2: 1.0, 3: 3.0}, {}, {}, {}, {0: 1.0}])
    scores = graph_scores(NodeOrder(2, 1, 1, 1), csr, np.array([0, 0, 0, 0, 1.0]))
    assert scores[:2] == (pytest.approx(0.75), pytest.approx((1 + 0.75 + 1) / 3))


def test_scores_are_shares():
    for seed in range(50):
        replacement, completeness, *_ = random_graph(seed).scores()
        assert 0 <= replacement <= 1
        assert 0 <= completeness <= 1


# --- rows of traced graphs -----------------------------------------------------------------------


def site_graph(rng, missing: float):
    """Return the CSR of a traced graph: all features of a site have the same sources, except for missing edges."""
    layers, positions, each = 4, 5, 9
    layer, position = (
        np.repeat(np.arange(layers), positions * each),
        np.tile(np.repeat(np.arange(positions), each), layers),
    )
    n_features, size = len(layer), len(layer) + positions + 2
    rows = [np.flatnonzero((layer < layer[r]) & (position <= position[r])) for r in range(n_features)]
    rows = [np.append(row, n_features + np.arange(position[r] + 1)) for r, row in enumerate(rows)]
    rows += [np.empty(0, int)] * positions + [np.arange(size - 2)] * 2
    rows = [row[rng.random(len(row)) >= missing * (rng.random() < 0.5)].astype(np.int32) for row in rows]
    indptr = indptr_of([len(row) for row in rows])
    weights = rng.standard_normal(indptr[-1]).astype(np.float32)
    weights[rng.random(len(weights)) < 0.02] = 0
    return CSR(indptr, np.concatenate(rows), weights), np.append(np.zeros(size - 2), [0.3, 0.7])


@pytest.mark.parametrize("missing", [0, 0.02, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_influence_of_a_graph_as_it_is_traced(seed, missing):
    csr, targets = site_graph(np.random.default_rng(seed), missing)
    share = np.zeros((len(targets),) * 2)
    for row in range(len(targets)):
        sources, weights = csr.row(row)
        share[row, sources] = np.abs(weights) / max(np.abs(weights).sum(dtype=np.float64), 1e-300)
    expected = np.linalg.solve(np.eye(len(targets)) - share.T, share.T @ targets)
    found = node_influence(csr, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
    assert np.array_equal(found, node_influence(csr, targets))
    tiny = node_influence(csr._replace(weights=(csr.weights * 1e-40).astype(np.float32)), targets)  # subnormal
    np.testing.assert_allclose(tiny.sum(), expected.sum(), rtol=0.05)


def test_sums_have_the_same_bits_on_every_machine():
    """Four sums side by side, added in plain floating point: what the page computes too."""
    graph = random_graph(3, n_features=60, n_positions=6, density=1)
    influence, rows = graph.target_weights * 0, [graph.csr.row(row) for row in range(graph.order.n_nodes)]
    for row, (sources, weights) in reversed(list(enumerate(rows))):
        total, mass = _sum_in_fours(np.abs(weights).tolist()), float(influence[row] + graph.target_weights[row])
        for source, weight in zip(sources, np.abs(weights).tolist(), strict=True):
            if total:
                influence[source] += mass * (weight / total) if len(weights) == 1 else mass / total * weight
    assert graph.influence().tolist() == influence.tolist()


def _sum_in_fours(values):
    in_fours = len(values) // 4 * 4
    sums = [0.0, 0.0, 0.0, 0.0]
    for number, value in enumerate(values):
        sums[number % 4 if number < in_fours else 0] += value
    return sums[0] + sums[1] + (sums[2] + sums[3])

"""Influence from sampled rows: unbiased, linear, exact where everything is drawn, and safe in files."""

import itertools

import numpy as np
import pytest
from helpers.random_graphs import dense, random_graph
from helpers.sampled_graphs import dense_replicate, sampled_graph

from cotrace.graphs.influence import node_influence
from cotrace.graphs.sampling import Draws, replicate_influence


def every_outcome(n_features, rng):
    """Yield the factors (N,) of every outcome of independent draws, and its probability."""
    p = rng.uniform(0.1, 1.0, n_features)
    for drawn in itertools.product([0, 1], repeat=n_features):
        chosen = np.array(drawn)
        yield chosen / p, float(np.prod(np.where(chosen, p, 1 - p)))


@pytest.mark.parametrize("seed", range(6))
def test_the_mean_over_every_outcome_is_the_influence(seed):
    graph = random_graph(seed, n_features=7, n_errors=5, dtype=np.float64)
    order, rng = graph.order, np.random.default_rng(seed)
    factors, probabilities = map(np.array, zip(*every_outcome(order.n_features, rng), strict=True))
    draws = Draws(np.arange(order.n_features), factors.T)
    for weights in (graph.target_weights, rng.random(order.n_nodes) * order.has_kind(0, 3)):
        mean = probabilities @ replicate_influence(graph.csr, weights, draws)
        np.testing.assert_allclose(mean, node_influence(graph.csr, weights), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_replicate_equals_a_dense_reference(seed, dtype):
    graph, _ = sampled_graph(seed, n_features=30, n_errors=10, feature_targets=1, dtype=dtype)
    matrix, draws, order = dense(graph), graph.draws, graph.order
    found = graph.influence_replicates()
    for r in range(draws.n_replicates):
        factors = np.where(order.has_kind(0), 0.0, 1.0)
        factors[draws.row_D] = draws.factor_DR[:, r]
        expected = dense_replicate(matrix, graph.target_weights, factors)
        np.testing.assert_allclose(found[r], expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(graph.influence(), found.mean(axis=0), rtol=1e-12, atol=1e-15)

"""Sampled rows over many seeds: estimates are unbiased, and their intervals cover.

The rows come from a graph that has all of them, so that a trace takes milliseconds; tests/test_sampled_rows.py checks that
a real trace draws the same. The slow test at the end repeats them with real traces.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest
from helpers.sampled_traces import sample
from scipy.stats import norm
from tiny import LAYERS, prompt

import cotrace
from cotrace.attribution.tracing import sampled_rows
from cotrace.graphs.prune import score_at_share
from cotrace.graphs.sampling import Estimate, estimate, replicate_influence, sampled_scores
from cotrace.graphs.scores import graph_scores
from cotrace.graphs.shares import covering_spans, share_replicates

pytestmark = pytest.mark.usefixtures("one_thread")
N_SEEDS = 200
LEAST_INFLUENCE = 1e-3
CASES = {  # name: (kind, options of the trace)
    "clt": ("clt", {}),
    "per-layer": ("per-layer", {}),
    "neurons": ("neurons", {}),
    "several targets": ("clt-affine", {"position": [5, 8, -1], "max_targets": 3}),
    "feature targets": ("clt", {"targets": "features"}),
}
LONG = {
    f"{kind}, long": (kind, {"length": 30, "position": range(8, 30, 3), "max_targets": 2})
    for kind in ("clt", "neurons")
}


class Sampled(NamedTuple):
    """Estimates of a trace with one seed."""

    nodes: Estimate
    shares: Estimate
    scores: tuple
    replicates_RS: np.ndarray
    """Shares in each replicate."""
    n_rows: int


@pytest.fixture(scope="module")
def whole_of(model_of):
    """Return a function from a case to the graph with all rows."""

    @functools.cache
    def whole(case):
        kind, options = (CASES | LONG)[case]
        model, options = model_of(kind), dict(options)
        length = options.pop("length", len(prompt()))
        if options.get("targets") == "features":
            table = model.active_features(prompt())
            rows = [{name: table[name][i].as_py() for name in ("layer", "feature", "position")} for i in (90, -1)]
            options = {"targets": [cotrace.Feature(**row) for row in rows]}
        return model.trace(prompt(length), **options)

    return whole


@pytest.fixture(scope="module")
def sampled_of(whole_of):
    """Return a function from a case and limits to the estimates with each of many seeds; those where all rows are drawn are left out."""

    @functools.cache
    def sampled(case, n_seeds=N_SEEDS, **limits):
        whole = whole_of(case)
        drawn = (sample(whole, LAYERS, seed=seed, **limits) for seed in range(n_seeds))
        return [estimates(whole, each) for each in drawn if each.draws is not None]

    return sampled


def estimates(whole, drawn):
    """Return the estimates from drawn rows."""
    order, weights = whole.order, whole.target_weights
    influence_RM = replicate_influence(whole.csr, weights, drawn.draws)
    shares_RS = share_replicates(influence_RM, order, covering_spans(order.n_tokens, None))
    scores = sampled_scores(order, whole.csr, weights, drawn.draws, influence_RM=influence_RM)
    return Sampled(estimate(influence_RM), estimate(shares_RS), scores, shares_RS, int(drawn.rows.computed_N.sum()))


def true_shares(whole):
    return np.array(whole.shares()["share"].to_pylist())


def limit_of(whole, share):
    """Return a number of features that may have rows: a share of those with influence, and no fewer than are allowed."""
    n_targets = int((whole.target_weights[whole.order.features] > 0).sum())
    n_influential = int((whole.influence()[whole.order.features] > 0).sum())
    least = 2 * sampled_rows.REPLICATES * LAYERS + n_targets
    return max(least, int(share * n_influential))


def covered(found, truth, chosen=True):
    """Return which of the chosen values lie in their intervals, and which of them have an interval that is not a point."""
    right = (found.low - 1e-9 <= truth) & (truth <= found.high + 1e-9)
    return np.stack([right, found.standard_error > 1e-12])[:, np.broadcast_to(chosen, truth.shape)]


def check_unbiased(found, whole):
    """Assert that the means over seeds agree with the graph with all rows."""
    truth, value_SM = whole.influence(), np.array([each.nodes.value for each in found])
    mean, error = value_SM.mean(axis=0), value_SM.std(axis=0, ddof=1) / np.sqrt(len(value_SM))
    certain = error < 1e-12
    np.testing.assert_allclose(mean[certain], truth[certain], rtol=1e-9, atol=1e-12)
    z = (mean - truth)[~certain & (truth > LEAST_INFLUENCE)] / error[~certain & (truth > LEAST_INFLUENCE)]
    assert len(z) > 50
    assert (np.abs(z) > 3).sum() <= max(1, 0.01 * len(z))
    assert np.abs(z).max() < norm.isf(0.005 / len(z))
    total_S = value_SM.sum(axis=1)
    assert abs(total_S.mean() - truth.sum()) < 3 * total_S.std(ddof=1) / np.sqrt(len(total_S))


def check_errors(found, whole):
    """Assert that standard errors are as large as errors are: replicates are uncorrelated."""
    truth = true_shares(whole)
    squared = np.mean([(each.shares.value - truth) ** 2 for each in found], axis=0)
    expected = np.mean([each.shares.standard_error**2 for each in found], axis=0)
    assert 0.75 < expected.sum() / squared.sum() < 1.33


def kept_nodes(scores_M, whole):
    """Return the nodes that pruning by these scores would keep, (M,) bool, without targets at the unembedding."""
    return (scores_M >= score_at_share(scores_M, 0.8)) & ~whole.order.has_kind(3)


def check_coverage(found, whole):
    """Assert that about 95% of the intervals cover, of shares and of the nodes that each sampled graph keeps."""
    truth, shares, weights = whole.influence(), true_shares(whole), whole.target_weights
    of_shares = [covered(each.shares, shares) for each in found]
    of_nodes = [covered(each.nodes, truth, kept_nodes(each.nodes.value + weights, whole)) for each in found]
    right, uncertain = np.concatenate([*of_shares, *of_nodes], axis=1).astype(bool)
    assert right.mean() > 0.92
    assert right[uncertain].mean() < 0.98  # values on which all replicates agree are right in all of the seeds
    assert 0.91 < np.mean([right.mean() for right, _ in of_shares]) < 0.985


@pytest.mark.parametrize("share", [0.25, 0.7])
@pytest.mark.parametrize("case", CASES)
def test_influence_is_unbiased(sampled_of, whole_of, case, share):
    whole = whole_of(case)
    limit = limit_of(whole, share)
    found = sampled_of(case, max_features=limit)
    assert len(found) == N_SEEDS
    check_unbiased(found, whole)
    check_errors(found, whole)
    assert 0.7 * limit <= np.mean([each.n_rows for each in found])
    assert max(each.n_rows for each in found) <= limit


@pytest.mark.parametrize("share", [0.25, 0.7, 0.9])
@pytest.mark.parametrize("case", CASES)
def test_intervals_cover(sampled_of, whole_of, case, share):
    whole = whole_of(case)
    found = sampled_of(case, max_features=limit_of(whole, share))
    check_coverage(found, whole)


def test_intervals_of_scores_cover(sampled_of, whole_of):
    hits = []
    for case in CASES:
        whole = whole_of(case)
        scores = graph_scores(whole.order, whole.csr, whole.target_weights)
        for share in (0.25, 0.7):
            for each in sampled_of(case, max_features=limit_of(whole, share)):
                (low, high), (lowest, highest) = each.scores.replacement_interval, each.scores.completeness_interval
                hits.append((low <= scores.replacement <= high, lowest <= scores.completeness <= highest))
    of_each = np.mean(hits, axis=0)
    assert ((of_each > 0.92) & (of_each < 0.98)).all()


@pytest.mark.parametrize("case", LONG)
def test_the_standard_error_that_was_asked_for_is_reached(sampled_of, whole_of, case):
    whole, wanted = whole_of(case), 0.02
    found = sampled_of(case, standard_error=wanted)
    assert len(found) == N_SEEDS
    check_unbiased(found, whole)
    values = np.array([each.shares.value for each in found])
    assert np.sqrt(((values - true_shares(whole)) ** 2).mean(axis=0)).max() <= wanted
    assert np.mean([each.shares.standard_error.max() for each in found]) <= wanted
    assert np.mean([each.n_rows for each in found]) < 0.5 * whole.order.n_features


def test_several_rounds_are_unbiased_and_uncorrelated(whole_of, monkeypatch):
    monkeypatch.setattr(sampled_rows, "MIN_BATCH_TARGETS", 1)
    monkeypatch.setattr(sampled_rows, "REPLICATES_OF_SEVERAL", 2)
    whole = whole_of("several targets")
    drawn = [sample(whole, LAYERS, seed=seed, max_features=70) for seed in range(N_SEEDS)]
    found = [estimates(whole, each) for each in drawn]
    n_replicates = sampled_rows.MOST_ROUNDS * sampled_rows.REPLICATES_OF_SEVERAL
    assert {each.draws.n_replicates for each in drawn} == {n_replicates}
    assert max(each.n_rows for each in found) <= 70
    check_unbiased(found, whole)
    check_errors(found, whole)
    deviations = np.array([each.replicates_RS for each in found]) - true_shares(whole)
    deviations /= deviations.std(axis=0) + 1e-12
    correlation_RR = np.einsum("srk,stk->rt", deviations, deviations) / deviations.shape[0] / deviations.shape[2]
    between = correlation_RR[~np.eye(n_replicates, dtype=bool)]
    assert abs(between.mean()) < 0.05
    # Later rounds know more rows.
    of_first, of_last = (
        np.mean([each.replicates_RS[part].var(axis=0).sum() for each in found]) for part in (slice(2), slice(-2, None))
    )
    assert of_last < 0.7 * of_first


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clt", "per-layer", "neurons"])
def test_real_traces_are_unbiased_and_their_intervals_cover(model_of, kind):
    model, whole = model_of(kind), model_of(kind).trace(prompt())
    limit, n_seeds = limit_of(whole, 0.7), 1000
    graphs = (model.trace(prompt(), sampled=True, max_features=limit, seed=s, progress=False) for s in range(n_seeds))
    found = []
    for graph in graphs:
        shares = Estimate(*(np.array(graph.shares()[name]) for name in ("share", "standard_error", "low", "high")))
        error, interval = graph.column("standard_error"), graph.influence_interval()
        nodes = Estimate(graph.column("influence"), error, *interval)
        found.append(Sampled(nodes, shares, graph.scores(), None, int(graph.computed[graph.order.features].sum())))
    check_unbiased(found, whole)
    check_errors(found, whole)
    assert max(each.n_rows for each in found) <= limit
    check_coverage(found, whole)

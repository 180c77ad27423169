"""Rows from the cache of a prompt that begins the same: equal to computed rows, merged in order, bounded in size."""

import numpy as np
import pytest
from helpers.identities import conservation_gap
from tiny import KINDS, prompt

import cotrace
import cotrace.attribution.tracing.row_builder as engine
from cotrace.attribution.tracing import row_cache
from cotrace.common.errors import ArgumentError

LONGER = [*prompt(), 5, 8, 13, 21]


@pytest.fixture
def load_cached(model_folder, transcoder_spec):
    """Return a function from a kind to a model with a row cache."""

    def load(kind, room=10**9):
        return cotrace.load(model_folder, transcoder_spec(kind), dtype="float64", device="cpu", row_cache_bytes=room)

    return load


@pytest.fixture
def row_counts(monkeypatch):
    """Return a list that collects the number of computed rows of every batch."""
    counts, sweep = [], engine.compute_rows

    def counting(replacement, batch, columns):
        counts.append(len(batch.node_T))
        return sweep(replacement, batch, columns)

    monkeypatch.setattr(engine, "compute_rows", counting)
    return counts


def assert_same(found, expected):
    """Assert that two graphs are equal up to rounding of sums in another order."""
    assert found.order == expected.order
    assert np.array_equal(found.computed, expected.computed)
    left, right = found.adjacency().toarray(), expected.adjacency().toarray()
    assert np.allclose(left, right, rtol=1e-9, atol=1e-11 * np.abs(right).max())
    for name in ("bias", "pre_activation", "influence", "influence_bound", "dropped"):
        assert np.allclose(found.column(name), expected.column(name), atol=1e-9, equal_nan=True), name
    assert found.info["traced"]["coverage"] == pytest.approx(expected.info["traced"]["coverage"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_prompt_reuses_the_rows_of_its_beginning(load, load_cached, row_counts, kind):
    expected = load(kind).trace(LONGER)
    model = load_cached(kind)
    before = model.trace(prompt())
    row_counts.clear()
    found = model.trace(LONGER)
    assert_same(found, expected)
    assert conservation_gap(found).max() < 1e-9
    own = found.order.n_logits
    assert sum(row_counts) - own == found.order.n_features - before.order.n_features > 0


def test_the_same_prompt_again_computes_its_targets_only(load_cached, row_counts):
    model = load_cached("clt-affine")
    first = model.trace(prompt())
    row_counts.clear()
    again = model.trace(prompt(), coverage=0.9)
    assert sum(row_counts) == again.order.n_logits
    assert 0 < again.computed[again.order.features].sum() < first.order.n_features
    row_counts.clear()
    elsewhere = model.trace(prompt(), [3], position=6)
    assert sum(row_counts) == 1
    assert_same(elsewhere, trace_without_cache(model, [3], position=6))


def trace_without_cache(model, *arguments, **options):
    """Clear the cache, then trace."""
    model.row_cache.clear()
    return model.trace(prompt(), *arguments, **options)


@pytest.mark.parametrize("chunk_edges", [1, 40, 2**22])
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_cached_and_computed_rows_are_merged_in_order(load, load_cached, monkeypatch, chunk_edges, batch_size):
    monkeypatch.setattr(row_cache, "CHUNK_EDGES", chunk_edges)
    expected = load("clt-affine").trace(LONGER)
    model = load_cached("clt-affine")
    part = model.trace(prompt(), coverage=0.7)
    assert 0 < part.computed[part.order.features].sum() < part.order.n_features
    assert_same(model.trace(LONGER, batch_size=batch_size), expected)


def test_more_coverage_computes_missing_rows_only(load, load_cached, row_counts):
    model = load_cached("clt")
    some = model.trace(prompt(), coverage=0.8)
    row_counts.clear()
    more = model.trace(prompt(), coverage=0.95)
    missing = more.computed[more.order.features] & ~some.computed[some.order.features]
    assert sum(row_counts) == missing.sum() + more.order.n_logits
    assert_same(more, load("clt").trace(prompt(), coverage=0.95))


def test_rows_after_a_difference_are_not_reused(load, load_cached, row_counts):
    other = [*prompt()[:5], 17, *prompt()[6:]]
    model = load_cached("clt")
    model.trace(prompt())
    row_counts.clear()
    found = model.trace(other)
    computed = sum(row_counts)
    assert_same(found, load("clt").trace(other))
    early = (found.column("position")[found.order.features] < 5).sum()
    assert computed == found.order.n_features - early + found.order.n_logits
    masked = model.trace(prompt(), masked_positions=[0, 1, 3])
    assert_same(masked, load("clt").trace(prompt(), masked_positions=[0, 1, 3]))


def test_the_cache_is_bounded_and_can_be_cleared(load_cached):
    model = load_cached("clt")
    edges = model.trace(prompt()).n_edges
    room = 2 * edges * (4 + 8)
    model = load_cached("clt", room)
    for last in range(20, 25):
        model.trace([*prompt()[:-1], last])
        assert model.row_cache.nbytes <= room
    assert 1 <= len(model.row_cache) <= 3
    assert repr(model.row_cache).startswith(f"<RowCache: {len(model.row_cache)} prompts, ")
    model.row_cache.clear()
    assert (len(model.row_cache), model.row_cache.nbytes) == (0, 0)
    small = load_cached("clt", 10)
    small.trace(prompt())
    assert len(small.row_cache) == 0


def test_there_is_no_cache_by_default(load, model_folder):
    assert load("clt").row_cache is None
    with pytest.raises(ArgumentError, match="row_cache_bytes"):
        cotrace.load(model_folder, "neurons", row_cache_bytes=-1)


def test_feature_targets_and_limits_with_cached_rows(load, load_cached, row_counts):
    model, plain = load_cached("clt"), load("clt")
    active = model.active_features(prompt()).to_pylist()[-1]
    site = cotrace.Feature(active["layer"], active["feature"], active["position"])
    model.trace(prompt(), max_features=20)
    for options in (
        {"targets": [site]},
        {"max_features": 60},
        {"coverage": 0.9},
        {"targets": [site], "max_features": 0},
    ):
        assert_same(model.trace(prompt(), **options), plain.trace(prompt(), **options))
    assert_same(model.trace(LONGER, max_features=50), plain.trace(LONGER, max_features=50))


def test_cached_rows_take_no_time(load_cached):
    model = load_cached("clt")
    model.trace(prompt())
    again = model.trace(prompt(), max_seconds=30)
    assert again.computed[again.order.features].any()
    assert again.info["traced"]["coverage"] == 1


def test_other_rows_of_the_same_prompt_replace_earlier_ones(load_cached, row_counts):
    model = load_cached("clt")
    model.trace(prompt(), position=4, max_features=10)
    late = model.trace(prompt(), max_features=10)
    row_counts.clear()
    assert_same(model.trace(prompt(), max_features=10), late)
    assert sum(row_counts) == late.order.n_logits


def test_the_prompt_that_shares_most_rows_is_used(load_cached, row_counts):
    model = load_cached("clt-affine")
    model.trace(prompt()[:5])
    before = model.trace(prompt())
    model.trace([2, 9, 9, 9])
    row_counts.clear()
    longer = model.trace(LONGER)
    assert sum(row_counts) == longer.order.n_features - before.order.n_features + longer.order.n_logits
    row_counts.clear()
    shorter = model.trace(prompt()[:8])
    assert sum(row_counts) == shorter.order.n_logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cached_rows_in_other_types(model_folder, transcoder_spec, dtype):
    models = [
        cotrace.load(model_folder, transcoder_spec("clt"), dtype=dtype, device="cpu", row_cache_bytes=room)
        for room in (0, 10**9)
    ]
    models[1].trace(prompt())
    expected, found = (model.trace(LONGER) for model in models)
    left, right = found.adjacency().toarray(), expected.adjacency().toarray()
    assert np.abs(left - right).max() <= 1e-5 * np.abs(right).max()

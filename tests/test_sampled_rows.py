"""Rows that are drawn at random: probabilities and limits of the draws, files, budgets, and prompts of unusual shapes."""

import numpy as np
import pytest
from helpers.sampled_traces import sample
from helpers.sampling_reference import drawn_at, influence_by_loops, one_round, starts_between_changes
from hypothesis import given
from hypothesis import strategies as st
from tiny import LAYERS, prompt, random_layers, without, write_layers

import cotrace
from cotrace.attribution.tracing import sampled_rows
from cotrace.attribution.tracing.row_sampling import LEAST_ROWS, largest_scale, probabilities, systematic
from cotrace.graphs.influence import node_influence

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("clt", "clt-affine", "per-layer", "neurons")
inclusions = st.lists(st.sampled_from([0.0, 1.0, 0.5]) | st.floats(0, 1), min_size=1, max_size=12).map(np.array)


@pytest.fixture(scope="module")
def whole_of(model_of):
    """Return a function from a kind to the graph with all rows."""
    graphs = {}

    def whole(kind):
        if kind not in graphs:
            graphs[kind] = model_of(kind).trace(prompt())
        return graphs[kind]

    return whole


# Draws of one layer.


@given(inclusions)
def test_every_item_is_drawn_with_its_probability(p_n):
    starts, lengths = starts_between_changes(p_n)
    found = sum(length * systematic(p_n, start) for start, length in zip(starts, lengths, strict=True))
    np.testing.assert_allclose(found, p_n, rtol=0, atol=1e-9)


@given(inclusions, st.floats(0, 1, exclude_max=True))
def test_every_run_of_items_has_about_its_expected_number(p_n, start):
    drawn = systematic(p_n, start)
    assert drawn[p_n == 1].all()
    assert not drawn[p_n == 0].any()
    uncertain = np.where(p_n == 1, 0, drawn - p_n)  # those that are drawn for certain lie outside the sum
    sums = np.concatenate([[0], uncertain.cumsum()])
    assert np.ptp(sums) <= 1 + 1e-9


def test_systematic_draws_equal_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_n, start = np.minimum(1, rng.exponential(0.4, rng.integers(1, 30))), rng.random()
        assert np.array_equal(systematic(p_n, start), drawn_at(p_n, start))


def expected_rows(weight_nR, scale):
    """Return the expected number of rows that any replicate draws, and how many one expects on average."""
    p_nR = np.array([[scaled(weight, scale) for weight in row] for row in weight_nR])
    return (1 - np.prod(1 - p_nR, axis=1)).sum(), p_nR.sum() / weight_nR.shape[1]


def scaled(weight, scale):
    """Return the probability of an item: above 0.8 it is 1."""
    if weight <= 0:
        return 0.0
    return weight * scale if weight * scale <= 0.8 else 1.0


def random_weights(rng, n, n_replicates):
    weights = rng.lognormal(0, 3, (n, n_replicates)) * 10.0 ** rng.integers(-200, 200)
    return np.where(rng.random(weights.shape) < 0.2, 0, weights)


@pytest.mark.parametrize("seed", range(20))
def test_the_scale_is_the_largest_within_the_limits(seed):
    rng = np.random.default_rng(seed)
    weight_nR, cost_n = random_weights(rng, int(rng.integers(1, 40)), 8), rng.random(40)
    cost_n = cost_n[: len(weight_nR)]
    scales = []
    for rows in (0, 1, 3, 7.5, 20, 40):
        scale = largest_scale(weight_nR, cost_n, rows, np.inf)
        expected, mean = expected_rows(weight_nR, scale)
        assert expected <= rows * (1 + 1e-9) or mean <= LEAST_ROWS * (1 + 1e-9)
        if np.isfinite(scale):
            more, mean = expected_rows(weight_nR, scale * (1 + 1e-6))
            assert more > rows
            assert mean > LEAST_ROWS * (1 - 1e-9)
        scales.append(scale)
    assert scales == sorted(scales)
    costs = [largest_scale(weight_nR, cost_n, np.inf, cost) for cost in (0.1, 1, 5, cost_n.sum() * 1.001)]
    assert costs == sorted(costs)
    assert costs[-1] == scales[-1] == np.inf


@pytest.mark.parametrize("shape", [(0, 8), (3, 8)])
def test_without_influence_nothing_is_drawn(shape):
    weight_nR = np.zeros(shape)
    assert largest_scale(weight_nR, np.ones(shape[0]), 5.0, np.inf) == 0
    assert not probabilities(weight_nR[:, 0], np.inf, 5).any()


@pytest.mark.parametrize("weight", [5e-324, 1e-310, 1e-200, 1.0, 1e200, 1e308])
def test_weights_of_any_size_are_drawn(weight):
    one = np.full((1, 4), weight)
    assert largest_scale(one, np.ones(1), 1.0, np.inf) == np.inf
    assert probabilities(one[:, 0], np.inf, 1).tolist() == [1.0]
    among = np.array([[weight] * 4, [weight / 2] * 4, [1.0] * 4, [0.0] * 4])
    assert probabilities(among[:, 0], largest_scale(among, np.ones(4), 4.0, np.inf), 4)[[0, 2]].tolist() == [1.0, 1.0]
    scale = largest_scale(among, np.ones(4), 1.5, np.inf)
    assert 0 < scale < np.inf
    assert probabilities(among[:, 0], scale, np.inf).max() > 0.3


@pytest.mark.parametrize("seed", range(20))
def test_a_replicate_never_exceeds_its_limit_and_leaves_nothing_out(seed):
    rng = np.random.default_rng(seed)
    for most in (1, 2, 5, 30):
        weight_n = random_weights(rng, 25, 1)[:, 0]
        for scale in (1 / weight_n.max(), 10 / weight_n.mean(), np.inf):
            p_n = probabilities(weight_n, scale, most)
            assert ((p_n > 0) == (weight_n > 0)).all()
            assert all(systematic(p_n, start).sum() <= most for start in [0.0, 1 - 1e-16, *rng.random(20)])
            free = np.array([scaled(weight, scale) for weight in weight_n])
            if np.floor(free[free < 1].sum()) + 1 + (free == 1).sum() <= most:
                np.testing.assert_array_equal(p_n, free)


def test_equal_probabilities_in_all_replicates_keep_the_limit(whole_of):
    """Draws of replicates with the same probabilities overlap little or much together, unlike independent ones."""
    whole = whole_of("clt")
    for limit in (48, 53, 71):
        assert (
            max(sample(whole, LAYERS, seed=seed, max_features=limit).rows.computed_N.sum() for seed in range(30))
            <= limit
        )


# Draws of a trace.


@pytest.mark.parametrize("kind", KINDS)
def test_draws_equal_those_of_a_reference(whole_of, kind):
    whole = whole_of(kind)
    for seed, limit in enumerate((60, 70, 85)):
        p_NR, g_NR = one_round(whole, seed, limit, LAYERS)
        found = sample(whole, LAYERS, seed=seed, max_features=limit)
        assert np.array_equal(found.draws.row_D, np.flatnonzero(g_NR.any(axis=1)))
        np.testing.assert_allclose(found.draws.factor_DR, g_NR[found.draws.row_D], rtol=1e-7)
        np.testing.assert_allclose(found.inclusion_N, p_NR.mean(axis=1), rtol=1e-7, atol=1e-12)
        drawn = g_NR > 0
        np.testing.assert_allclose(g_NR[drawn], 1 / p_NR[drawn])


@pytest.mark.parametrize(("kind", "dtype"), [("clt", "float64"), ("clt-affine", "float32"), ("neurons", "float64")])
def test_a_file_holds_what_a_plain_loop_finds(model_of, whole_of, tmp_path, kind, dtype):
    model = model_of(kind, dtype)
    graph = cotrace.open(model.trace(prompt(), sampled=True, max_features=60, seed=5).save(tmp_path / "a.arrow"))
    found = influence_by_loops(graph)
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(graph.influence_replicates(), found, **tolerance)
    np.testing.assert_allclose(graph.column("influence"), found.mean(axis=0), **tolerance)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    np.testing.assert_allclose(graph.column("standard_error"), error, **tolerance)
    np.testing.assert_allclose(graph.column("certified"), node_influence(graph.csr, graph.target_weights), **tolerance)
    # The rows are those that a sampler of the whole graph draws.
    expected = sample(whole_of(kind), LAYERS, seed=5, max_features=60)
    assert np.array_equal(graph.draws.row_D, expected.draws.row_D)
    np.testing.assert_allclose(graph.draws.factor_DR, expected.draws.factor_DR, rtol=1e-4)
    features = graph.order.features
    np.testing.assert_allclose(graph.column("inclusion")[features], expected.inclusion_N, rtol=1e-4, atol=1e-7)
    assert graph.info["traced"]["sampling"]["rows_added"] == expected.n_added


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_intervals_hold_what_other_batches_round_differently(model_of, dtype):
    model = model_of("clt", dtype)
    graph, whole = model.trace(prompt(), sampled=True, max_features=60), model.trace(prompt())
    low, high = graph.influence_interval()
    same = (graph.column("standard_error") == 0) & (graph.column("influence_bound") == 0)
    assert same.sum() > 10
    assert ((low <= whole.influence()) & (whole.influence() <= high))[same].all()


def test_the_sampler_draws_the_same_from_computed_and_from_stored_rows(model_of, whole_of):
    for limits in ({"standard_error": 0.04}, {"max_features": 100}, {"standard_error": 0.02, "max_features": 96}):
        graph = model_of("clt").trace(prompt(), sampled=True, seed=9, **limits)
        expected = sample(whole_of("clt"), LAYERS, seed=9, **limits)
        assert np.array_equal(graph.draws.row_D, expected.draws.row_D)
        np.testing.assert_allclose(graph.draws.factor_DR, expected.draws.factor_DR, rtol=1e-9)
        assert np.array_equal(graph.column("computed")[graph.order.features].astype(bool), expected.rows.computed_N)


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
@pytest.mark.parametrize("limit", [300, 10**6])
def test_with_all_rows_the_graph_is_the_ordinary_one(model_of, kind, limit):
    found = model_of(kind).trace(prompt(), sampled=True, seed=3, max_features=limit)
    expected = model_of(kind).trace(prompt(), max_features=limit)  # features without influence have no rows
    assert found.nodes.column_names == expected.nodes.column_names
    assert found.nodes.equals(expected.nodes)
    assert (found.info["traced"], found.sampled) == (expected.info["traced"], False)


def test_a_pilot_that_asks_for_all_rows_leads_to_the_ordinary_graph(model_of):
    found = model_of("clt-affine").trace(prompt(), sampled=True, standard_error=1e-9)
    expected = model_of("clt-affine").trace(prompt(), max_features=10**6)
    assert found.nodes.column_names == expected.nodes.column_names
    assert np.array_equal(found.column("computed"), expected.column("computed"))
    # The rows of the pilot come from other batches, which round differently.
    np.testing.assert_allclose(found.influence(), expected.influence(), rtol=1e-12, atol=1e-15)


def test_the_seed_decides_the_file(model_of, tmp_path):
    def content(name, **options):
        graph = model_of("clt").trace(prompt(), sampled=True, max_features=60, **options)
        graph.info["created"] = ""
        return graph.save(tmp_path / name).read_bytes()

    assert content("a.arrow", seed=1) == content("b.arrow", seed=1)
    assert content("a.arrow", seed=1) != content("c.arrow", seed=2)
    assert content("d.arrow") == content("e.arrow", seed=0)


def test_rows_of_earlier_traces_change_no_draw(model_folder, transcoder_spec):
    options = {"dtype": "float64", "device": "cpu"}
    model = cotrace.load(model_folder, transcoder_spec("clt"), row_cache_bytes=2**28, **options)
    plain = cotrace.load(model_folder, transcoder_spec("clt"), **options)
    limits = {"sampled": True, "max_features": 60, "seed": 4}
    model.trace(prompt(), max_features=40)  # stores some of the rows
    for _ in range(2):
        found, expected = model.trace(prompt(), **limits), plain.trace(prompt(), **limits)
        assert np.array_equal(found.draws.row_D, expected.draws.row_D)
        np.testing.assert_allclose(found.draws.factor_DR, expected.draws.factor_DR, rtol=1e-9)
        np.testing.assert_allclose(found.influence(), expected.influence(), rtol=1e-9, atol=1e-12)
        assert found.column("computed")[found.order.features].sum() <= 60


@pytest.mark.parametrize("limits", [{"max_features": 150}, {"standard_error": 0.01}])
def test_later_rounds_draw_known_rows_for_certain(whole_of, monkeypatch, limits):
    monkeypatch.setattr(sampled_rows, "MIN_BATCH_TARGETS", 1)
    monkeypatch.setattr(sampled_rows, "COMPLETION_SHARE", 0.5)
    found = sample(whole_of("clt-affine"), LAYERS, seed=2, **limits)
    factors = found.draws.factor_DR.reshape(len(found.draws.row_D), -1, sampled_rows.REPLICATES_OF_SEVERAL)
    assert factors.shape[1] == sampled_rows.MOST_ROUNDS
    for number in range(1, factors.shape[1]):
        known = (factors[:, :number] > 0).any(axis=(1, 2))
        assert (factors[known, number] == 1).all()
        assert len(known) > known.sum() or number > 1


# Unusual prompts and transcoders.


@pytest.mark.filterwarnings("ignore:the graph has error nodes and tokens only")
@pytest.mark.parametrize("limits", [{"max_features": 48}, {"standard_error": 0.01}])
@pytest.mark.parametrize(
    ("ids", "masked"), [([2], None), ([2, 7], None), ([2, 7, 31], None), (prompt(), range(11)), (prompt(), range(10))]
)
def test_prompts_with_few_or_no_features(model_of, ids, masked, limits):
    model = model_of("clt-affine")
    graph = model.trace(ids, masked_positions=masked, sampled=True, **limits)
    whole = model.trace(ids, masked_positions=masked)
    if graph.sampled:
        low, high = graph.influence_interval()
        assert np.mean((low <= whole.influence() + 1e-9) & (whole.influence() <= high + 1e-9)) > 0.9
    else:
        np.testing.assert_allclose(graph.influence(), whole.influence(), rtol=1e-9, atol=1e-12)
    assert sum(graph.shares()["share"].to_pylist()) == pytest.approx(1, abs=0.2 * graph.sampled + 1e-9)


@pytest.mark.filterwarnings("ignore:the graph has error nodes and tokens only")
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("empty", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_layers_without_features(model_folder, tmp_path, empty, skip):
    layers = without(random_layers(seed=3), *(() if skip else ("skip",)))
    layers = [{**t, "threshold": t["threshold"] + 1e4 * (i in empty)} for i, t in enumerate(layers)]
    spec = str(write_layers(tmp_path / "transcoders", "scope-clt", layers))
    model = cotrace.load(model_folder, spec, dtype="float64", device="cpu")
    whole = model.trace(prompt())
    found = [sample(whole, LAYERS, seed=seed, max_features=60) for seed in range(20)]
    rows = [each.rows.computed_N.sum() for each in found]
    assert max(rows) <= 60
    n_influential = (whole.influence()[whole.order.features] > 0).sum()
    assert min(rows) >= min(40, n_influential)  # empty layers leave their share to the others
    graph = model.trace(prompt(), sampled=True, max_features=60)
    assert graph.sampled == (found[0].draws is not None)


def test_feature_targets_are_drawn_by_all_and_counted(model_of):
    model = model_of("clt")
    table = model.active_features(prompt())
    rows = [{name: table[name][i].as_py() for name in ("layer", "feature", "position")} for i in (3, 9, 40, 100, -1)]
    targets = [cotrace.Feature(**row) for row in rows]
    whole = model.trace(prompt(), targets)
    nodes = [target["node"] for target in whole.info["targets"]]
    for limit in (53, 60):
        for seed in range(30):
            found = sample(whole, LAYERS, seed=seed, max_features=limit)
            assert found.rows.computed_N.sum() <= limit
            assert (found.draws.factor_DR[np.isin(found.draws.row_D, nodes)] == 1).all()
            assert np.isin(nodes, found.draws.row_D).all()
    with pytest.raises(cotrace.CotraceError, match="at least 53"):
        model.trace(prompt(), targets, sampled=True, max_features=52)

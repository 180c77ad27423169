"""Influence from sampled rows: unbiased, linear, exact where everything is drawn, and safe in files."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from helpers.random_graphs import dense, random_graph
from helpers.sampled_graphs import as_sampled, dense_replicate, sampled_graph

import cotrace
from cotrace.common.errors import ArgumentError, FileError
from cotrace.graphs.drawing.render import svg_text
from cotrace.graphs.influence import node_influence
from cotrace.graphs.sampling import Draws, estimate, jackknife, replicate_influence, sampled_scores
from cotrace.graphs.summary import summarize
from cotrace.graphs.uncertainty import influence_interval
from cotrace.graphs.verdicts import coverage_verdict


def every_outcome(n_features, rng):
    """Yield the factors (N,) of every outcome of independent draws, and its probability."""
    p = rng.uniform(0.1, 1.0, n_features)
    for drawn in itertools.product([0, 1], repeat=n_features):
        chosen = np.array(drawn)
        yield chosen / p, float(np.prod(np.where(chosen, p, 1 - p)))


def full_draws(graph, n_replicates):
    n_features = graph.order.n_features
    return Draws(np.arange(n_features), np.ones((n_features, n_replicates)))


# --- mathematics --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_over_every_outcome_is_the_influence(seed):
    graph = random_graph(seed, n_features=7, n_errors=5, dtype=np.float64)
    order, rng = graph.order, np.random.default_rng(seed)
    factors, probabilities = map(np.array, zip(*every_outcome(order.n_features, rng), strict=True))
    draws = Draws(np.arange(order.n_features), factors.T)
    left_out = rng.random(order.n_nodes)
    for weights in (graph.target_weights, rng.random(order.n_nodes) * order.has_kind(0, 3)):
        for lost in (None, left_out):
            for exact_ends in (False, True):
                found = replicate_influence(graph.csr, weights, draws, left_out=lost, exact_ends=exact_ends)
                expected = node_influence(graph.csr, weights, lost)
                np.testing.assert_allclose(probabilities @ found, expected, rtol=1e-12, atol=1e-13)


def test_sums_of_scores_are_unbiased():
    graph = random_graph(1, n_features=7, n_errors=5, dtype=np.float64)
    order = graph.order
    factors, probabilities = map(np.array, zip(*every_outcome(7, np.random.default_rng(1)), strict=True))
    # As many replicates as outcomes, each as often as it is likely: their mean is the expectation.
    repeats = np.rint(probabilities * 1500).astype(int)
    draws = Draws(np.arange(7), np.repeat(factors, repeats, axis=0).T)
    draws.factor_DR[:] /= draws.factor_DR.mean(axis=1, keepdims=True)
    found, exact = sampled_scores(order, graph.csr, graph.target_weights, draws), graph.scores()
    assert found.replacement == pytest.approx(exact.replacement, abs=0.02)
    assert found.completeness == pytest.approx(exact.completeness, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
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
    np.testing.assert_allclose(graph.column("influence"), found.mean(axis=0), rtol=1e-6, atol=1e-9)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    np.testing.assert_allclose(graph.column("standard_error"), error, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_with_all_rows_a_replicate_equals_the_influence_to_the_last_bit(seed, dtype):
    graph = random_graph(seed, n_features=60, n_errors=10, n_layers=6, feature_targets=2, dtype=dtype)
    for weights in (graph.target_weights, np.random.default_rng(seed).random(graph.order.n_nodes)):
        for n_replicates in (1, 3):
            found = replicate_influence(graph.csr, weights, full_draws(graph, n_replicates))
            for replicate in found:
                assert np.array_equal(replicate, node_influence(graph.csr, weights))
            mean = estimate(found)
            assert np.array_equal(mean.value, found[0])
            assert (mean.standard_error == (0 if n_replicates > 1 else np.inf)).all()
    exact, found = graph.scores(), sampled_scores(graph.order, graph.csr, graph.target_weights, full_draws(graph, 3))
    assert found[:2] == pytest.approx(exact[:2], rel=1e-12)
    assert found.replacement_interval == pytest.approx((exact.replacement,) * 2, rel=1e-12)
    assert found.completeness_interval == pytest.approx((exact.completeness,) * 2, rel=1e-12)


def test_influence_is_linear_in_the_targets():
    graph, _ = sampled_graph(2, n_features=40, n_errors=12)
    one, other = np.zeros((2, graph.order.n_nodes))
    one[-1], other[[-2, int(graph.draws.row_D[-1])]] = 0.25, (1.5, 2.0)
    together = graph.influence_replicates(one + 3 * other)
    np.testing.assert_allclose(
        together, graph.influence_replicates(one) + 3 * graph.influence_replicates(other), rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(graph.influence_on(one + 3 * other), together.mean(axis=0), rtol=1e-12)


def test_intervals_are_students_and_cover_the_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, (5, 4000))
    found = estimate(values, 0.9)
    # The quantile 0.95 of Student's t with 4 degrees of freedom, from a table.
    np.testing.assert_allclose(found.high - found.value, 2.131847 * found.standard_error, rtol=1e-6)
    assert ((found.low <= 3) & (found.high >= 3)).mean() == pytest.approx(0.9, abs=0.015)
    of_means = jackknife(lambda k: k, values)
    np.testing.assert_allclose(of_means.standard_error, found.standard_error, rtol=1e-10)
    np.testing.assert_allclose(of_means.value, found.value, rtol=1e-12)


def test_a_level_that_is_no_share_is_refused():
    graph, _ = sampled_graph()
    for level in (0, 1, 95, "0.95"):
        with pytest.raises(ArgumentError, match="level"):
            graph.influence_interval(level)


def test_estimates_of_many_samples_are_right_on_average():
    _, whole = sampled_graph(5, n_features=40, n_errors=12)
    exact, shares = whole.influence(), np.array(whole.shares()["share"])
    means, covered = [], []
    for seed in range(60):
        graph, _ = sampled_graph(5, n_features=40, n_errors=12, draw_seed=seed, share=4)
        means.append(graph.influence())
        table = graph.shares()
        low, high, error = (np.array(table[name]) for name in ("low", "high", "standard_error"))
        covered += ((low <= shares + 1e-12) & (shares <= high + 1e-12))[error > 1e-9].tolist()
    found = estimate(np.array(means))
    assert (np.abs(found.value - exact) <= 4.5 * found.standard_error + 1e-12).all()
    assert 0.88 <= np.mean(covered) <= 1


# --- graphs -------------------------------------------------------------------------------------


def test_shares_add_up_and_have_the_errors_of_their_sums():
    graph, whole = sampled_graph(4, n_features=40, n_errors=12, n_positions=7)
    table = graph.shares()
    assert table["name"].to_pylist() == ["0:2", "2:4", "4:5", "5:6", "6:7", "errors"]
    tokens, errors = graph.order.tokens, graph.order.errors
    replicates = graph.influence_replicates()
    first = replicates[:, tokens.start : tokens.start + 2].sum(axis=1)
    assert table["share"][0].as_py() == pytest.approx(first.mean())
    assert table["standard_error"][0].as_py() == pytest.approx(first.std(ddof=1) / np.sqrt(len(first)))
    assert table["share"][5].as_py() == pytest.approx(replicates[:, errors].sum(axis=1).mean())
    named = graph.shares({"first": (0, 2), "last": [6]})
    assert named["name"].to_pylist() == ["first", "last", "other", "errors"]
    assert named["share"][0].as_py() == pytest.approx(table["share"][0].as_py())
    assert sum(named["share"].to_pylist()) == pytest.approx(sum(table["share"].to_pylist()))
    exact = whole.shares()
    assert exact["standard_error"].to_pylist() == [0.0] * 6
    assert exact["low"].equals(exact["high"])
    with pytest.raises(ArgumentError, match="segment 'all' is empty"):
        graph.shares({"all": []})


def test_kinds_of_numbers():
    graph, whole = sampled_graph(4, n_features=40, n_errors=12)
    assert set(whole.influence_kind()) == {"exact"}
    error, bound = graph.column("standard_error"), graph.column("influence_bound")
    kinds = graph.influence_kind()
    assert set(kinds) == {"exact", "certified", "estimate"}
    same = graph.column("influence") == graph.column("certified")
    assert np.array_equal(kinds == "exact", (error == 0) & (bound == 0) & same)
    # The quantile 0.975 of Student's t with 5 degrees of freedom, from a table.
    assert np.array_equal(kinds == "estimate", (bound > 0) & (bound >= 2 * 2.570582 * error))
    certified, exact = graph.column("certified"), whole.influence()
    assert (certified <= exact + 1e-12).all()
    assert (exact <= certified + bound + 1e-12).all()
    np.testing.assert_allclose(graph.influence()[kinds == "exact"], exact[kinds == "exact"], rtol=1e-12, atol=1e-15)


def test_ends_of_paths_whose_rows_are_there_are_exact():
    graph, _ = sampled_graph(4, n_features=40, n_errors=12, density=0.9)
    layer, found = graph.column("layer", -1), 0
    for row in graph.draws.row_D[layer[graph.draws.row_D] == 1].tolist():
        shares = dict(zip(graph.csr.row(row)[0].tolist(), graph.csr.row_shares(row).tolist(), strict=True))
        table = graph.ancestors([row])
        for node, share in zip(table["node"].to_pylist(), table["share"].to_pylist(), strict=True):
            if layer[node] == 0:  # reached along one edge only
                assert share == pytest.approx(shares[node], rel=1e-12)
                found += 1
    assert found > 5


def test_where_rows_of_ends_are_missing_drawn_ones_stand_for_them():
    graph, _ = sampled_graph(4, n_features=40, n_errors=12, share=1.0)
    order, draws = graph.order, graph.draws
    weights = np.where(order.has_kind(0), 1 / order.n_features, 0.0)
    added = graph.computed & order.has_kind(0)
    added[draws.row_D] = False
    assert added.any()
    expected = [
        dense_replicate(dense(graph), np.where(added, 0.0, weights), np.where(order.has_kind(0), draws.factors(order.n_nodes, r), 1.0))
        for r in range(draws.n_replicates)
    ]  # fmt: skip
    np.testing.assert_allclose(graph.influence_on(weights), np.mean(expected, axis=0), rtol=1e-10, atol=1e-14)
    passed, ends = graph.passed_on(weights)
    size = np.abs(dense(graph))
    totals = size.sum(axis=1, keepdims=True)
    shares = np.divide(size, totals, out=np.zeros_like(size), where=totals > 0)
    np.testing.assert_allclose((passed + ends) @ shares, graph.influence_on(weights), rtol=1e-10, atol=1e-14)


def test_flow_conserves_influence_in_a_sampled_graph():
    graph, _ = sampled_graph(4, n_features=40, n_errors=12)
    flow = graph.flow({"a": (0, 2), "b": (2, 3)})
    starts, n_spans = flow.share_start_SK.sum(axis=1), len(flow.spans)
    entering, leaving = flow.share_SC[:, :n_spans].sum(axis=0), flow.share_SC.sum(axis=1)
    np.testing.assert_allclose(starts + entering, leaving, rtol=1e-9, atol=1e-12)
    assert flow.share_SC[:, n_spans:].sum() == pytest.approx(1)


def test_pruning_ranks_by_the_estimate_and_keeps_exact_edges(tmp_path):
    graph, whole = sampled_graph(4, n_features=40, n_errors=12, density=0.9)
    kept = graph.select(0.7, 0.95).nodes
    influence = graph.influence()
    descending = np.sort(influence)[::-1]
    score = descending[np.searchsorted(np.cumsum(descending) / descending.sum(), 0.7)]
    assert (influence[kept & graph.order.has_kind(0, 1)] >= score * (1 - 1e-12)).all()
    pruned = graph.prune(0.7, 0.95)
    assert pruned.estimated
    assert not pruned.sampled
    record = pruned.info["pruning"]["sampling"]
    low, high = influence_interval(graph)
    assert record["ranked"] == (influence >= score).sum()
    assert record["uncertain"] == int(((low < score) & (score < high)).sum())
    assert 0 <= record["gap"] <= 1
    again = cotrace.open(pruned.save(tmp_path / "pruned.arrow"))
    assert again.nodes.equals(pruned.nodes, check_metadata=True)
    edges = {
        (int(s), int(t)): w
        for s, t, w in zip(*(pruned.edges()[n].to_pylist() for n in ("source", "target", "weight")), strict=True)
    }
    old = np.flatnonzero(kept)
    for (source, target), weight in edges.items():
        assert dense(whole)[old[target], old[source]] == weight
    lows, highs = pruned.influence_interval()
    np.testing.assert_allclose(lows, low[kept], atol=1e-12)
    np.testing.assert_allclose(highs, high[kept], atol=1e-12)
    assert np.array_equal(pruned.influence_kind(), graph.influence_kind()[kept])
    sampling = pruned.info["traced"]["sampling"]
    verdict = coverage_verdict(pruned.info)
    assert (
        f"estimated from {sampling['rows']} of 40 rows in 6 replicates; the largest standard error of a span" in verdict
    )
    assert f"whether {record['uncertain']} of the nodes around the node threshold" in verdict


def test_scores_have_intervals():
    graph, whole = sampled_graph(4, n_features=40, n_errors=12, n_replicates=12)
    found, exact = graph.scores(), whole.scores()
    assert exact.replacement_interval is None
    for name in ("replacement", "completeness"):
        low, high = getattr(found, f"{name}_interval")
        assert 0 <= low <= getattr(found, name) <= high <= 1
        assert low - 0.1 <= getattr(exact, name) <= high + 0.1
    assert graph.info["traced"]["scores"]["replacement_interval"] == list(found.replacement_interval)
    part = graph.scores(range(20))
    assert part.graph == "subgraph"
    assert part.replacement_interval is not None
    assert part.replacement <= found.replacement + 0.3


def test_a_subgraph_of_a_sampled_graph(tmp_path):
    graph, _ = sampled_graph(4, n_features=40, n_errors=12)
    part = graph.subgraph(range(0, 30))
    again = cotrace.open(part.save(tmp_path / "part.arrow"))
    assert again.estimated
    assert not again.sampled
    assert again.nodes.equals(part.nodes, check_metadata=True)
    with pytest.raises(ArgumentError, match="no replicates"):
        again.influence_replicates()


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_keeps_everything(dtype, tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12, dtype=dtype)
    for name in ("graph.arrow", "graph.arrow.zst"):
        again = cotrace.open(graph.save(tmp_path / name))
        assert again.nodes.equals(graph.nodes, check_metadata=True)
        assert again.info == graph.info
        assert np.array_equal(again.influence_replicates(), graph.influence_replicates())
        assert again.scores() == graph.scores()
    assert graph.nodes.column_names[15:21] == [
        "dropped", "standard_error", "certified", "inclusion", "draws", "computed",
    ]  # fmt: skip


def edited(graph, name, edit):
    """Return the table of a graph with one column edited as a Python list."""
    values = graph.nodes[name].to_pylist()
    edit(values)
    field = graph.nodes.schema.field(name)
    return graph.nodes.set_column(graph.nodes.schema.get_field_index(name), field, pa.array(values, field.type))


def set_to(node, value):
    def edit(values):
        values[node] = value

    return edit


def change_draws(change):
    def edit(values):
        node = next(number for number, each in enumerate(values) if each is not None)
        values[node] = change(values[node])

    return edit


HOSTILE = {
    "negative error": ("standard_error", set_to(0, -1e-9)),
    "error that is no number": ("standard_error", set_to(3, float("nan"))),
    "infinite error": ("standard_error", set_to(3, float("inf"))),
    "negative certified": ("certified", set_to(0, -0.5)),
    "certified that is no number": ("certified", set_to(0, float("nan"))),
    "inclusion above 1": ("inclusion", set_to(0, 1.5)),
    "negative inclusion": ("inclusion", set_to(0, -0.5)),
    "inclusion of a token": ("inclusion", set_to(-5, 0.5)),
    "feature without inclusion": ("inclusion", set_to(0, None)),
    "inclusion that is no number": ("inclusion", set_to(0, float("nan"))),
    "a factor below 1": ("draws", change_draws(lambda each: [0.5, *each[1:]])),
    "a negative factor": ("draws", change_draws(lambda each: [-2.0, *each[1:]])),
    "a factor that is no number": ("draws", change_draws(lambda each: [float("nan"), *each[1:]])),
    "an infinite factor": ("draws", change_draws(lambda each: [float("inf"), *each[1:]])),
    "too few factors": ("draws", change_draws(lambda each: each[1:])),
    "too many factors": ("draws", change_draws(lambda each: [*each, 1.0])),
    "no factors": ("draws", change_draws(lambda each: [])),
    "a row that no replicate drew": ("draws", change_draws(lambda each: [0.0] * len(each))),
    "draws of a target": ("draws", set_to(-1, [1.0] * 6)),
    "draws of a token": ("draws", set_to(-5, [1.0] * 6)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_columns_are_refused(what, tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12)
    table = edited(graph, *HOSTILE[what])
    path = tmp_path / "graph.arrow"
    cotrace.graphs.store.save_table(table, path)
    with pytest.raises(FileError, match="trace the prompt again"):
        cotrace.open(path)


def test_draws_of_a_row_that_is_missing_are_refused(tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12, share=0.5)
    missing = int(np.flatnonzero(~graph.computed[graph.order.features])[0])
    path = tmp_path / "graph.arrow"
    cotrace.graphs.store.save_table(edited(graph, "draws", set_to(missing, [1.0] * 6)), path)
    with pytest.raises(FileError, match="draws"):
        cotrace.open(path)


def test_factors_that_no_trace_has_are_refused_when_they_are_used(tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12)
    huge = [each and [1e308] * 6 for each in graph.nodes["draws"].to_pylist()]
    field = graph.nodes.schema.field("draws")
    index = graph.nodes.schema.get_field_index("draws")
    path = tmp_path / "graph.arrow"
    cotrace.graphs.store.save_table(graph.nodes.set_column(index, field, pa.array(huge, field.type)), path)
    hostile = cotrace.open(path)
    for use in (hostile.influence, hostile.prune, hostile.shares, hostile.scores, lambda: hostile.flow({"a": (0, 1)})):
        with pytest.raises(FileError, match="draws have factors that no trace has"):
            use()


@pytest.mark.parametrize(
    "changes",
    [None, {"replicates": 5}, {"replicates": 1}, {"replicates": 2**60}, {"seeds": []}, {"seeds": [0, 0]}, {"seeds": [-1]}, {"rows": -1},
     {"replicates": "many"}, {"seeds": 0}, {"span_error": None}, {"span_error": -1.0}, {"partial": 1}, {"features": 2.5}],
)  # fmt: skip
def test_hostile_metadata_are_refused(changes, tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12)
    traced = graph.info["traced"]
    graph.info["traced"] = {**traced, "sampling": {**traced["sampling"], **(changes or {})}}
    if changes is None:
        del graph.info["traced"]["sampling"]
    with pytest.raises(ArgumentError, match="undo the edit"):
        graph.save(tmp_path / "graph.arrow")


@pytest.mark.parametrize(
    "names", [["draws"], ["standard_error"], ["certified", "inclusion"], ["standard_error", "certified", "inclusion"]]
)
def test_columns_come_together(names, tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12)
    path = tmp_path / "graph.arrow"
    cotrace.graphs.store.save_table(graph.nodes.drop_columns(names), path)
    if names == ["draws"]:  # as in a smaller graph
        assert not cotrace.open(path).sampled
        return
    with pytest.raises(FileError):
        cotrace.open(path)


# --- merging ------------------------------------------------------------------------------------


def three_samples(**options):
    options = {"n_features": 40, "n_errors": 12, "share": 4.0, **options}
    return [sampled_graph(4, draw_seed=seed, n_replicates=3 + seed, **options)[0] for seed in range(3)]


def assert_same_estimates(one, other):
    for name in ("influence", "standard_error", "certified", "influence_bound", "inclusion", "bias"):
        np.testing.assert_allclose(one.column(name), other.column(name), rtol=1e-5, atol=1e-9, err_msg=name)
    assert np.array_equal(one.computed, other.computed)
    assert np.array_equal(one.csr.indices, other.csr.indices)
    assert np.array_equal(one.csr.weights, other.csr.weights)
    assert one.scores()[:2] == pytest.approx(other.scores()[:2], rel=1e-6)
    mine, theirs = (dict(each.info["traced"]["sampling"]) for each in (one, other))
    assert sorted(mine.pop("seeds")) == sorted(theirs.pop("seeds"))
    assert mine.pop("span_error") == pytest.approx(theirs.pop("span_error"), rel=1e-6)
    assert mine == theirs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_merged_graphs_have_all_replicates_and_rows(dtype, tmp_path):
    a, b, c = three_samples(dtype=dtype)
    merged = a.merge(b, c)
    again = cotrace.open(merged.save(tmp_path / "merged.arrow"))
    assert again.nodes.equals(merged.nodes, check_metadata=True)
    assert merged.draws.n_replicates == 3 + 4 + 5
    assert np.array_equal(merged.computed, a.computed | b.computed | c.computed)
    together = np.concatenate([each.influence_replicates() for each in (a, b, c)])
    np.testing.assert_allclose(merged.influence_replicates(), together, rtol=1e-12, atol=1e-15)
    for other in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a, b), b.merge(c, a)):
        assert_same_estimates(merged, other)
    for row in np.flatnonzero(merged.computed):
        owner = next(each for each in (a, b, c) if each.computed[row])
        assert all(map(np.array_equal, merged.csr.row(row), owner.csr.row(row)))


def test_merging_refuses_other_graphs():
    a, b, _ = three_samples()
    with pytest.raises(ArgumentError, match="seed 0 is in graph 2"):
        a.merge(a)
    with pytest.raises(ArgumentError, match="seed 1 is in graph 3"):
        a.merge(b, b)
    with pytest.raises(ArgumentError, match="graph 2 has no draws"):
        a.merge(b.prune())
    with pytest.raises(ArgumentError, match="graph 2 has no draws"):
        a.merge(random_graph(4, n_features=40, n_errors=12))
    with pytest.raises(ArgumentError, match="another token ids"):
        a.merge(sampled_graph(5, draw_seed=1, n_features=40, n_errors=12)[0])
    b.info["settings"]["max_features"] = 7
    with pytest.raises(ArgumentError, match="max_features"):
        a.merge(b)
    b.info["settings"].pop("max_features")
    b.info["model"] = {**b.info["model"], "name": "another"}
    with pytest.raises(ArgumentError, match="another model"):
        a.merge(b)


def test_graphs_without_features_or_draws_are_files_too(tmp_path):
    for n_features in (0, 5):
        whole = random_graph(1, n_features=n_features, n_errors=6, dtype=np.float64)
        order = whole.order
        has_row = whole.computed & ~order.has_kind(0)
        nothing = Draws(np.zeros(0, int), np.zeros((0, 4)))
        graph = as_sampled(whole, nothing, np.zeros(order.n_features), has_row, [7])
        again = cotrace.open(graph.save(tmp_path / "graph.arrow"))
        assert again.draws.n_replicates == 4
        np.testing.assert_allclose(again.influence(), node_influence(graph.csr, graph.target_weights), rtol=1e-12)
        assert again.prune().estimated
        assert again.shares()["standard_error"].to_pylist() == [0.0] * (order.n_tokens + 1)
        assert cotrace.from_networkx(again.to_networkx()).draws.n_replicates == 4


def test_a_pruned_graph_survives_networkx():
    pruned = sampled_graph(3, n_features=40, n_errors=12)[0].prune()
    again = cotrace.from_networkx(pruned.to_networkx())
    assert again.estimated
    assert not again.sampled
    assert again.info["pruning"] == pruned.info["pruning"]
    assert np.array_equal(again.column("standard_error"), pruned.column("standard_error"))


# --- other tools, pictures, differences ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_networkx_and_graphml_keep_everything(dtype, tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12, dtype=dtype)
    paths = graph.export(tmp_path / "graph.graphml").paths
    for again in (cotrace.from_networkx(graph.to_networkx()), cotrace.import_graph(paths[0])):
        assert again.info["traced"] == graph.info["traced"]
        assert np.array_equal(again.draws.row_D, graph.draws.row_D)
        assert np.array_equal(again.draws.factor_DR, graph.draws.factor_DR)
        for name in ("influence", "standard_error", "certified", "inclusion", "influence_bound"):
            assert np.array_equal(again.column(name), graph.column(name), equal_nan=True), name
        assert np.array_equal(again.influence_replicates(), graph.influence_replicates())


def test_a_networkx_graph_without_some_nodes_has_no_draws():
    graph, _ = sampled_graph(3, n_features=40, n_errors=12)
    converted = graph.to_networkx()
    converted.remove_node(0)
    again = cotrace.from_networkx(converted)
    assert again.estimated
    assert not again.sampled
    converted.remove_node(graph.order.tokens.start)  # it comes back, without what is known of it
    assert not cotrace.from_networkx(converted).estimated


@pytest.mark.parametrize("value", ["a lot", float("nan"), 0.5, None, True])
def test_hostile_draws_of_networkx_are_refused(value):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12)
    converted, row = graph.to_networkx(), int(graph.draws.row_D[2])
    converted.nodes[row]["draws_1"] = value
    if value is None:
        del converted.nodes[row]["draws_1"]
    with pytest.raises(ArgumentError, match="draws"):
        cotrace.from_networkx(converted)


def test_formats_say_what_they_lack(tmp_path):
    graph, _ = sampled_graph(3, n_features=40, n_errors=12)
    exported = graph.export(tmp_path / "graph.json")
    assert "which rows were drawn, standard errors and certain limits of influence" in exported.left_out
    again = cotrace.import_graph(exported.paths[0])
    assert not again.estimated
    assert "sampling" not in again.info["traced"]
    for name in ("graph.csv", "graph.parquet", "graph.gexf", "graph.dot"):
        graph.export(tmp_path / name)
    lines = (tmp_path / "graph.nodes.csv").read_text().splitlines()
    header = lines[0].replace('"', "").split(",")
    assert header[-6:] == [f"draws_{replicate}" for replicate in range(6)]
    row = int(graph.draws.row_D[3])
    found = [float(value) for value in lines[row + 1].split(",")[-6:]]
    assert found == graph.draws.factor_DR[3].tolist()
    assert graph.prune().export(tmp_path / "pruned.csv").left_out


def test_pictures_show_errors():
    graph, _ = sampled_graph(4, n_features=40, n_errors=12)
    node = int(np.argmax(graph.column("standard_error")[: graph.order.n_features]))
    influence, error = graph.influence()[node], graph.column("standard_error")[node]
    svg = svg_text(graph)
    assert f"influence {influence:.4g} ± {error:.2g}" in svg
    assert f"influence estimated from {len(graph.draws.row_D)} of 40 rows" in " ".join(svg.split())
    low, high = graph.scores().replacement_interval
    assert f"({low:.3f} to {high:.3f})" in svg
    pruned = graph.prune(0.9, 0.98)
    node = int(np.argmax(pruned.column("standard_error")[: pruned.order.n_features]))
    traced = f"{pruned.column('influence')[node]:.4g} ± {pruned.column('standard_error')[node]:.2g}"
    assert f"in the traced graph {traced}" in svg_text(pruned)
    assert "±" not in svg_text(random_graph(4))


def test_differences_within_the_errors_are_no_changes():
    options = {"n_features": 40, "n_errors": 12, "share": 2.0}
    (one, whole), (other, _) = (sampled_graph(4, draw_seed=seed, **options) for seed in (0, 1))
    diff = one.diff(other, min_change=0.0)
    nodes = diff.nodes
    a, b = (np.array(nodes[name]) for name in ("influence_a", "influence_b"))
    # The quantile 0.975 of Student's t with 5 degrees of freedom, from a table.
    half = 2.570582 * np.hypot(one.column("standard_error"), other.column("standard_error"))
    number = np.array(nodes["node_a"])
    changed = np.array(nodes["status"].to_pylist()) == "changed"
    assert np.array_equal(changed, np.abs(a - b) > half[number])
    assert changed.sum() < (a != b).sum() / 3
    assert "A and B are from sampled rows" in " ".join(diff.cautions)
    assert "A is from sampled rows" in " ".join(one.diff(whole).cautions)
    assert "lower bound" not in " ".join(diff.cautions)
    assert not any("sampled" in caution for caution in whole.diff(whole).cautions)


def test_a_summary_has_errors_and_names_say_what_a_graph_is():
    graph, whole = sampled_graph(4, n_features=40, n_errors=12)
    for node in summarize(graph, "all").nodes:
        assert node.influence == pytest.approx(graph.influence()[node.node])
        assert node.standard_error == pytest.approx(graph.column("standard_error")[node.node])
    assert {node.standard_error for node in summarize(whole).nodes} == {0.0}
    assert repr(graph).startswith("<Sampled graph of ")
    assert repr(graph.prune()).startswith("<Pruned graph of ")
    assert np.array_equal(graph.estimated_influence(), graph.influence())
    graph.influence()[:] = 0  # a copy
    assert graph.influence().sum() > 0

"""Validation: effects that edges predict, effects of ablations in the model, and their agreement."""

import json

import numpy as np
import pytest
import tiny
import torch
from helpers.cli import MODEL, run
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from rich.console import Console
from scipy import stats

import cotrace
from cotrace.attribution.effects.config import EffectsConfig
from cotrace.attribution.interventions.config import InterventionConfig
from cotrace.attribution.interventions.layer_modes import FROZEN, LayerMode
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.validation import estimates
from cotrace.attribution.validation.ablations import AblationEffects, AblationRunner
from cotrace.attribution.validation.agreement import correlation, pair_correlation, spearman
from cotrace.attribution.validation.controls import draw_controls, measure_controls
from cotrace.attribution.validation.estimates import NULLS, AblationEstimator
from cotrace.attribution.validation.plot import plot_validation
from cotrace.cli.report_validation import print_validation
from cotrace.common.progress import Progress
from cotrace.graphs.effects import ablation_effects, pair_influence
from cotrace.graphs.store import save_table
from cotrace.graphs.verdicts import coverage_verdict, parting_nodes, validation_verdict

pytestmark = pytest.mark.usefixtures("one_thread")
WHAT = ("", "_kl", "_direct", "_activation", "_predicted", "_signed")
FEW = {"nodes": 10, "sample": 12, "controls": 2, "paths": 3, "progress": False}


@pytest.fixture(scope="module")
def model(load):
    return load("clt-affine")


@pytest.fixture(scope="module")
def whole(model):
    return model.trace(tiny.prompt())


@pytest.fixture(scope="module")
def validated(model, whole):
    return model.validate(whole, groups={"mine": [0, 5, whole.order.tokens.start + 3]}, **FEW)


# --- predicted effects ------------------------------------------------------------------------


def dense_effects(graph, removed, others_respond):
    """Return the same effects by solving the linear equations of all nodes at once."""
    matrix, size, n_features = dense(graph), graph.order.n_nodes, graph.order.n_features
    activation = np.nan_to_num(graph.column("activation")).astype(float)
    values = []
    for nodes in removed:
        fixed = np.zeros(size, bool)
        fixed[list(nodes)] = True
        gain = np.zeros(size)  # relative change of the output per change of the value
        if others_respond:
            free = ~fixed[:n_features] & (activation[:n_features] != 0)
            gain[:n_features][free] = 1 / activation[:n_features][free]
        share = np.linalg.solve(np.eye(size) - gain[:, None] * matrix, np.where(fixed, -1.0, 0.0))
        change = matrix @ share
        change[fixed] = np.where(np.arange(size) < n_features, -activation, -1.0)[fixed]
        values.append(change)
    return np.array(values)


@settings(max_examples=40, deadline=None)
@given(graphs(dtype=np.float64))
def test_effects_along_edges_solve_the_linear_equations(graph):
    changeable = graph.order.n_features + graph.order.n_errors + graph.order.n_tokens
    removed = [range(0, changeable, 3), range(min(1, changeable)), range(graph.order.errors.stop, changeable), ()]
    for others_respond in (True, False):
        expected = dense_effects(graph, removed, others_respond)
        found = ablation_effects(graph, removed, others_respond)
        assert np.allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(initial=1))


def test_only_features_errors_and_tokens_can_be_ablated():
    graph = random_graph()
    for node in (-1, graph.order.logits.start, graph.order.n_nodes):
        for effects in (lambda nodes: ablation_effects(graph, [nodes]), lambda nodes: pair_influence(graph, nodes)):
            with pytest.raises(ValueError, match="only features, errors and tokens"):
                effects([node])
            with pytest.raises(ValueError, match="only features, errors and tokens"):
                effects([1.7])
            with pytest.raises(ValueError, match="only features, errors and tokens"):
                effects([True])
            with pytest.raises(ValueError, match="named twice"):
                effects([3, 3])
            assert not effects([]).any()


# --- measured effects -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_with_everything_frozen_effects_are_the_edges(load, kind):
    model = load(kind)
    graph = model.trace(tiny.prompt())
    record = model.validate(graph, freeze="all", **FEW).info["validation"]
    weights = np.array([target["weight"] for target in graph.info["targets"]])
    rows = graph.adjacency().toarray()[[target["node"] for target in graph.info["targets"]]]
    for row in record["nodes"]:
        edges = -rows[:, row["node"]]
        assert row["predicted"] == pytest.approx(row["measured"], abs=1e-9)
        assert row["measured"] == pytest.approx(edges @ weights, abs=1e-9)
        assert row["size"] == pytest.approx(np.abs(edges) @ weights, abs=1e-9)
    for group in record["groups"]:  # others do not respond, so it is the sum
        edges = -rows[:, group["nodes"]].sum(1)
        assert group["predicted"] == pytest.approx(group["measured"], abs=1e-9)
        assert group["measured"] == pytest.approx(edges @ weights, abs=1e-9)


def test_later_activations_are_those_of_an_intervention(model, whole):
    prompt = model._prompt_context(whole.info["token_ids"], whole.info["masked_positions"])
    ablations = AblationRunner(prompt, whole)
    nodes = [0, whole.order.errors.start + 12, whole.order.tokens.start + 4]
    measured = ablations.measure([cotrace.nodes_of(whole, [node]) for node in nodes], [LayerMode()] * 3)
    for k, node in enumerate(nodes):
        alone = model.intervene(tiny.prompt(), {cotrace.nodes_of(whole, [node])[0]: cotrace.ablate()})
        after = {
            (row["layer"], row["position"], row["feature"]): row["activation_after"]
            for row in alone.features.to_pylist()
        }
        expected = [after.get(key, 0.0) for key in ablations.features] - whole.column("activation")[
            whole.order.features
        ]
        assert np.allclose(measured.feature_KN[k], expected, atol=1e-10)
        assert measured.kl_K[k] == pytest.approx(alone.kl(), abs=1e-12)


def test_controls_are_other_features_of_nearly_the_same_size(model, whole):
    prompt = model._prompt_context(whole.info["token_ids"], whole.info["masked_positions"])
    ablations = AblationRunner(prompt, whole)
    chosen = ablations.features[:6]
    drawn = draw_controls(ablations, chosen, np.random.default_rng(0), set(chosen))
    assert len(set(drawn)) == 6
    assert not set(drawn) & set(chosen)
    position = np.array([key[1] for key in ablations.active_features])
    for key, control in zip(chosen, drawn, strict=True):
        size, of_control = (ablations.sizes[ablations.index_of[k]] for k in (key, control))
        here = position == key[1]
        if here.sum() >= 20:
            assert control[1] == key[1]
            rank = np.sort(np.abs(np.log(ablations.sizes[here] / size)))
            assert abs(np.log(of_control / size)) <= rank[18]
    with pytest.raises(ValueError, match="too few active features"):
        draw_controls(
            ablations, ablations.active_features[:1], np.random.default_rng(0), set(ablations.active_features)
        )


def test_sizes_are_the_norms_of_source_vectors(load):
    for kind in ("clt", "per-layer", "neurons"):
        model = load(kind)
        prompt = model._prompt_context(tiny.prompt(), None)
        ablations = AblationRunner(prompt, model.trace(tiny.prompt()))
        activations = model._activations(prompt.ids_P, TraceConfig(), Progress(False))
        squares = [
            sum(e.output_vectors(j).square().sum(1) for j in range(e.decoder_UJD.shape[1])) for e in activations.encoded
        ]
        expected = np.concatenate([part.sqrt().numpy() for part in squares])
        assert np.allclose(ablations.sizes, expected)


# --- the record -------------------------------------------------------------------------------


def test_the_record_has_the_requested_ablations(validated, whole):
    record = validated.info["validation"]
    top = [row["node"] for row in record["nodes"] if row["control_size"] is not None]
    influence = whole.column("influence")[whole.order.features]
    assert top == np.argsort(-influence, kind="stable")[:10].tolist()
    assert sum(row["sampled"] for row in record["nodes"]) == 12
    order = whole.order
    errors = [row for row in record["nodes"] if order.errors.start <= row["node"] < order.errors.stop]
    tokens = [row for row in record["nodes"] if row["node"] >= order.tokens.start]
    assert len(errors) == len(tokens) == 10
    assert all(row["control_size"] is None for row in errors + tokens)
    assert [group["name"] for group in record["groups"]][-1] == "mine"
    assert all(np.isfinite(path["kept_measured"]) for path in record["paths"])
    assert 0 < len(record["paths"]) <= 3
    assert {row["least"] for row in record["later"]} <= {1, 2}
    names = [f"spearman{what}{of}" for what in WHAT for of in ("", "_top")]
    for name in (*names, "spearman_pairs", "spearman_pairs_clamped"):
        found = record["summary"][name]
        assert -1 <= found["low"] <= found["value"] <= found["high"] <= 1


def test_the_same_seed_gives_the_same_record(model, whole, validated):
    mine = validated.info["validation"]["groups"][-1]["nodes"]
    again = model.validate(whole, groups={"mine": mine}, **FEW)
    assert again.info["validation"] == validated.info["validation"]
    other = model.validate(whole, groups={"mine": mine}, seed=1, **FEW)
    assert other.info["validation"] != validated.info["validation"]


def test_the_record_is_saved_and_removed_by_pruning(validated, tmp_path):
    path = validated.save(tmp_path / "graph.arrow")
    opened = cotrace.open(path)
    assert opened.info["validation"] == json.loads(json.dumps(validated.info["validation"]))
    assert np.array_equal(opened.csr.weights, validated.csr.weights)
    assert "validation" not in opened.prune().info


def test_a_damaged_record_is_refused(validated, tmp_path):
    record = {**validated.info["validation"], "nodes": [{"node": "none"}]}
    with pytest.raises(ValueError, match="validation"):
        validated.with_validation(record).save(tmp_path / "graph.arrow")
    save_table(validated.with_validation(record).nodes, tmp_path / "graph.arrow")
    with pytest.raises(ValueError, match="validation"):
        cotrace.open(tmp_path / "graph.arrow")


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_plot(validated, tmp_path, ending):
    path = plot_validation(validated, tmp_path / f"plot.{ending}")
    assert path.read_bytes()[:4] in (b"<?xm", b"\x89PNG", b"%PDF")
    assert len(list(tmp_path.iterdir())) == 1


def test_graphs_without_a_validation_cannot_be_plotted(validated, whole, tmp_path):
    with pytest.raises(ValueError, match="has no validation"):
        plot_validation(whole, tmp_path / "plot.svg")
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.pdf"):
        plot_validation(validated, tmp_path / "plot.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["per-layer", "neurons"])
@pytest.mark.parametrize("errors", ["recomputed", "constant"])
def test_a_circuit_of_every_kind(load, kind, errors):
    model = load(kind)
    circuit = model.trace(tiny.prompt(), [cotrace.Feature(2, feature_at(model, 2, 9), 9), 5, (3, 4)]).prune()
    if kind == "neurons" and errors == "constant":
        with pytest.raises(ValueError, match="neurons are the MLP itself"):
            model.validate(circuit, errors=errors, **FEW)
        return
    record = model.validate(circuit, errors=errors, **FEW).info["validation"]
    assert record["settings"]["errors"] == errors
    assert any(row["measured"] for row in record["nodes"])


def feature_at(model, layer, position):
    rows = model.active_features(tiny.prompt()).to_pylist()
    return next(r["feature"] for r in rows if (r["layer"], r["position"]) == (layer, position))


@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_targets_that_are_features_are_read_and_not_ablated(load, kind, monkeypatch):
    model = load(kind)
    feature = feature_at(model, 2, 9)
    graph = model.trace(tiny.prompt(), [cotrace.Feature(2, feature, 9)])
    (node,) = (target["node"] for target in graph.info["targets"])
    frozen = model.validate(graph, freeze="all", **FEW).info["validation"]
    free = model.validate(graph, groups={"target": [node]}, **FEW).info["validation"]
    assert node not in {n for record in (frozen, free) for row in record["nodes"] for n in (row["node"],)}
    assert all(node not in path["nodes"] for record in (frozen, free) for path in record["paths"])
    prompt = model._prompt_context(graph.info["token_ids"], graph.info["masked_positions"])
    ablations, random = AblationRunner(prompt, graph), np.random.default_rng(0)
    monkeypatch.setattr(ablations, "measure", lambda changes, *_arguments, **_options: drawn.extend(changes) or nothing)
    drawn, nothing = [], AblationEffects(*(np.zeros((999, 1)) for _ in range(3)))
    measure_controls(ablations, [(n,) for n in range(8)], 20, [LayerMode()] * 3, random, None)
    assert len(drawn) == 160
    assert not {f for one in drawn for f in one} & {cotrace.nodes_of(graph, [n])[0] for n in (*range(8), node)}
    edges = graph.adjacency().toarray()[node]
    assert any(row["measured"] for row in frozen["nodes"])
    for row in frozen["nodes"]:
        assert row["measured"] == pytest.approx(-edges[row["node"]], abs=1e-9)
    assert free["groups"][-1]["measured"] == pytest.approx(-graph.column("activation")[node], abs=1e-9)


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
def test_with_mlps_clamped_features_follow_their_inputs(load, kind):
    """Compare with interventions that freeze all layers below one, for each layer: its features respond there."""
    model, ids = load(kind), tiny.prompt()
    graph = model.trace(ids)
    layer_N = graph.column("layer")[graph.order.features]
    node = int(np.flatnonzero(layer_N == 0)[3])
    ablations = AblationRunner(model._prompt_context(ids, None), graph)
    clamped = ablations.measure([cotrace.nodes_of(graph, [node])], [LayerMode(mlp=FROZEN)] * 3)
    below = [
        LayerMode(mlp=FROZEN),
        LayerMode(mlp=FROZEN),
        LayerMode(),
    ]  # so that layer 2 computes its own output, which has no effect
    responding = ablations.measure([cotrace.nodes_of(graph, [node])], below)
    mine = layer_N == 2
    assert np.allclose(clamped.feature_KN[0][mine], responding.feature_KN[0][mine], atol=1e-12)
    assert np.abs(clamped.feature_KN[0][mine]).max() > 1e-6
    if kind != "neurons":  # with everything frozen exactly the edges, except where a feature would become inactive
        change_N = ablations.measure([cotrace.nodes_of(graph, [node])], [LayerMode(True, True, FROZEN)] * 3).feature_KN[
            0
        ]
        on = (layer_N > 0) & ~np.isclose(change_N, -graph.column("activation")[graph.order.features])
        edges_N = graph.adjacency().toarray()[: len(layer_N), node]
        assert on.sum() > 20
        assert np.allclose(change_N[on], -edges_N[on], atol=1e-10)


def test_pairs_of_equal_ranks_correlate_fully(whole):
    influence_KN = pair_influence(whole, [1, 3, 7])[:, whole.order.features]
    activation_N = np.abs(whole.column("activation")[whole.order.features])
    assert pair_correlation(whole, [1, 3, 7], -influence_KN * activation_N)["value"] == pytest.approx(1)
    assert pair_correlation(whole, [1, 3, 7], np.zeros_like(influence_KN)) is None


def test_influence_of_pairs_is_that_of_a_target(whole):
    """A feature's column equals `Graph.influence` with that feature as the only target."""
    matrix = np.abs(whole.adjacency().toarray())
    shares = matrix / np.where(matrix.sum(1) > 0, matrix.sum(1), 1)[:, None]
    every = np.linalg.inv(np.eye(len(matrix)) - shares) - np.eye(len(matrix))
    sources = [3, 40, whole.order.errors.start + 12, whole.order.tokens.start + 4]
    assert np.allclose(pair_influence(whole, sources), every[:, sources].T, atol=1e-12)


def test_a_graph_may_have_influence_in_errors_and_tokens_only(model, whole, tmp_path, capsys):
    influence = whole.column("influence").copy()
    influence[whole.order.features] = 0
    at = whole.nodes.schema.get_field_index("influence")
    nodes = whole.nodes.set_column(at, whole.nodes.schema.field(at), [influence])
    validated = model.validate(cotrace.Graph(nodes, whole.info), **{**FEW, "paths": 0})
    record = validated.info["validation"]
    assert len(record["nodes"]) == 20
    assert all(row["measured"] and row["control_size"] is None for row in record["nodes"])
    assert record["summary"]["spearman"] is record["summary"]["spearman_pairs_clamped"] is None
    assert record["groups"] == record["paths"] == []
    assert cotrace.open(validated.save(tmp_path / "graph.arrow")).info["validation"] == record
    assert plot_validation(validated, tmp_path / "plot.png").exists()
    print_validation(validated)
    assert "too few values" in capsys.readouterr().out


# --- estimates by gradients -------------------------------------------------------------------


def prepared(model, graph):
    """Return the runner, and the estimator, of a graph's ablations."""
    runner = AblationRunner(model._prompt_context(graph.info["token_ids"], graph.info["masked_positions"]), graph)
    return runner, AblationEstimator(runner, Progress(False))


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
def test_first_order_is_the_slope_of_what_is_measured(load, kind):
    model, share = load(kind), 1e-5
    graph = model.trace(tiny.prompt(), [5, cotrace.Feature(2, feature_at(model, 2, 9), 9)])
    runner, estimator = prepared(model, graph)
    targets = {target["node"] for target in graph.info["targets"]}
    own = [n for n in range(0, graph.order.n_features, 29) if n not in targets]
    sets = [*((n,) for n in (*own, graph.order.errors.start + 12, graph.order.tokens.start + 4)), tuple(own[:3])]
    edits = [dict.fromkeys(cotrace.nodes_of(graph, nodes), cotrace.multiply(1 - share)) for nodes in sets]
    measured_ST = runner.measure_edits(edits, [LayerMode()] * 3).target_KT / share
    found_ST = estimator.first_order(sets, "none")
    assert np.abs(found_ST).min(axis=1).max() > 0
    assert np.allclose(found_ST, measured_ST, rtol=1e-3, atol=1e-4 * np.abs(measured_ST).max())


@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_first_order_with_everything_frozen_is_what_edges_predict(load, kind):
    model = load(kind)
    graph = model.trace(tiny.prompt())
    record = model.validate(graph, **FEW).info["validation"]
    by_node = {row["node"]: row for row in record["nodes"]}
    for row in by_node.values():
        assert row["first_order_all"] == pytest.approx(row["predicted"], abs=1e-9)
        assert row["first_order_all_size"] == pytest.approx(row["predicted_size"], abs=1e-9)
    for row in record["groups"]:  # a sum over nodes, even where one acts through another
        if set(row["nodes"]) <= set(by_node):
            together = sum(by_node[node]["first_order_none"] for node in row["nodes"])
            assert row["first_order_none"] == pytest.approx(together, abs=1e-9)


def test_with_enough_points_what_is_integrated_is_what_is_measured(model, whole, monkeypatch):
    monkeypatch.setattr(estimates, "LIVE", EffectsConfig(freeze="none", integration_steps=24))
    record = model.validate(whole, **FEW).info["validation"]
    rows = [row for row in record["nodes"] if row["integrated"] is not None]
    assert len(rows) >= 20
    for row in rows:
        assert row["integrated"] == pytest.approx(row["measured"], rel=1e-3, abs=1e-6)
        assert row["integrated_size"] == pytest.approx(row["size"], rel=1e-3, abs=1e-6)
    first, stop = whole.order.tokens.start, whole.order.tokens.stop
    tokens = [row for row in record["nodes"] if first <= row["node"] < stop]
    assert tokens
    assert all(row["integrated"] is row["null_signs"] is None for row in tokens)


@pytest.mark.parametrize("null", sorted(NULLS))
def test_nulls_keep_lengths_and_angles(model, whole, null):
    vectors_sD = torch.randn(3, tiny.WIDTH, dtype=torch.float64)
    turned_sD = NULLS[null](vectors_sD, np.random.default_rng(0))
    assert torch.allclose(turned_sD @ turned_sD.T, vectors_sD @ vectors_sD.T)
    assert not torch.allclose(turned_sD, vectors_sD)
    runner, estimator = prepared(model, whole)
    drawn = estimator.randomized([(3,), (40,), (3, 40)], null, np.random.default_rng(0))
    for edits, key in zip(drawn.edits, (3, 40), strict=False):
        lengths = [-edit.shift for edit in edits.values()]
        assert np.sqrt(np.square(lengths).sum()) == pytest.approx(runner.sizes[runner.index_of[runner.features[key]]])
    slightly = [{node: cotrace.add(1e-5 * edit.shift) for node, edit in edits.items()} for edits in drawn.edits]
    measured_ST = runner.measure_edits(slightly, [LayerMode()] * 3).target_KT / 1e-5
    assert np.allclose(drawn.change_ST, measured_ST, rtol=1e-3, atol=1e-4 * np.abs(measured_ST).max())


def test_only_the_live_model_is_estimated(model, whole):
    for options in (
        {"freeze": "all"},
        {"errors": "constant"},
        {"freeze": "attention"},
        {"freeze": "attention", "layers": [1]},
    ):
        record = model.validate(whole, **options, **FEW).info["validation"]
        assert not [name for row in (*record["nodes"], record["summary"]) for name in row if "first_order" in name]


def test_records_without_estimates_stay_readable(validated, tmp_path, capsys):
    record = json.loads(json.dumps(validated.info["validation"]))
    for row in (*record["nodes"], *record["groups"], *record["paths"], record["summary"]):
        for name in [name for name in row if any(part in name for part in ("first_order", "integrated", "null"))]:
            del row[name]
    older = validated.with_validation(record)
    assert cotrace.open(older.save(tmp_path / "older.arrow")).info["validation"] == record
    assert parting_nodes(record, 5) == []
    for full in (False, True):
        print_validation(older, full=full)
    assert "first order" not in capsys.readouterr().out


def test_the_report_names_the_nodes_where_the_estimate_is_wrong(validated, capsys):
    record = json.loads(json.dumps(validated.info["validation"]))
    wrong = max(record["nodes"], key=lambda row: row["size"])
    wrong["first_order_none"] = wrong["measured"] - 30 * wrong["size"]
    assert parting_nodes(record, 2)[0] == wrong
    print_validation(validated.with_validation(record))
    assert f"farthest apart: {wrong['label']}" in capsys.readouterr().out
    print_validation(validated.with_validation(record), full=True)
    shown = capsys.readouterr().out
    for words in (
        "differ most",
        f"{wrong['first_order_none']:+.3f}",
        "the model responds",
        "random signs",
        "integrated",
    ):
        assert words in shown


# --- refusals ---------------------------------------------------------------------------------


def test_graphs_of_another_model_are_refused(model, load, whole):
    with pytest.raises(ValueError, match="traced with the transcoders"):
        load("clt").validate(whole, **FEW)
    other = whole.with_validation({}).info | {"model": {**whole.info["model"], "sha256": "0" * 64}}
    with pytest.raises(ValueError, match="traced with the model"):
        model.validate(cotrace.Graph(whole.nodes, other), **FEW)


def test_a_direction_is_not_in_the_file(model):
    graph = model.trace(tiny.prompt(), [np.ones(tiny.WIDTH)])
    with pytest.raises(ValueError, match="do not store"):
        model.validate(graph, **FEW)


@pytest.mark.parametrize("name", ["nodes", "sample", "controls"])
def test_nothing_to_measure_is_refused(model, whole, name):
    with pytest.raises(ValueError, match=f"{name} is 0; use at least 1"):
        model.validate(whole, **{**FEW, name: 0})


def test_groups_of_nodes_that_cannot_be_ablated_are_refused(model, whole):
    for nodes, cure in (([], "has no nodes"), (5, "has no nodes"), ([3, 3], "names a node twice")):
        with pytest.raises(ValueError, match=cure):
            model.validate(whole, groups={"wrong": nodes}, **FEW)
    with pytest.raises(ValueError, match="another name"):
        model.validate(whole, groups={"3 most influential features": [5]}, **FEW)
    for layers in ([0], []):
        with pytest.raises(ValueError, match="leave layers= out"):
            model.validate(whole, freeze="all", layers=layers, **FEW)
    with pytest.raises(ValueError, match="is not a feature, error node or token"):
        model.validate(whole, groups={"target": [whole.order.logits.start]}, **FEW)
    with pytest.raises(ValueError, match="without an error node"):
        model.validate(whole, groups={"first": [whole.order.errors.start]}, **FEW)


def test_rank_correlations_of_rows_are_those_of_each_row():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 9, (2, 20, 12)).astype(float)  # with ties
    a[3] = b[5] = 1
    with np.errstate(all="raise"):
        found = spearman(a, b)
    assert np.isnan(found[[3, 5]]).all()
    for row, value in enumerate(found):
        if row not in (3, 5):
            assert value == pytest.approx(stats.spearmanr(a[row], b[row]).statistic, abs=1e-12)


def test_a_correlation_needs_several_different_values():
    random = np.random.default_rng(0)
    assert correlation(np.arange(9.0), np.arange(9.0), random) is None
    assert correlation(np.ones(15), np.arange(15.0), random) is None
    found = correlation(np.arange(30.0), np.arange(30.0) ** 3, random)
    assert found == {"value": pytest.approx(1), "low": pytest.approx(1), "high": pytest.approx(1)}


def test_an_unknown_freeze_is_refused():
    with pytest.raises(ValueError, match="not one of none, attention, all"):
        InterventionConfig("everything")


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    model = cotrace.load(MODEL[1], device="cpu")
    return model.trace([2, 20, 30, 40, 50]).prune().save(tmp_path / "graph.arrow")


def test_the_command_writes_the_graph_the_plot_and_a_table(path):
    before = path.read_bytes()
    done = run(
        "validate", path, "--device", "cpu", "--nodes", "4", "--sample", "6", "--controls", "1", "--groups", "a=0,1"
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before
    beside = path.with_name("graph.validated.arrow")
    assert {p.name for p in path.parent.iterdir()} == {"graph.arrow", beside.name, "graph.validation.svg"}
    assert cotrace.open(beside).info["validation"]["settings"]["nodes"] == 4
    for words in ("more than controls", "predicted: change of", "measured: the change in the model", "freeze none"):
        assert words in done.stdout
    assert len(done.stdout.splitlines()) <= 20
    shown = run("show", beside, "--full")
    for words in ("influence and effect", "more than controls", "layers later", "freeze none, errors recomputed"):
        assert words in shown.stdout
    assert run("show", beside).stdout.count("predicted: ") == 1


def test_a_narrow_terminal_wraps_no_row(validated, monkeypatch, capsys):
    monkeypatch.setattr("cotrace.cli.report.console", Console(width=60, color_system=None))
    print_validation(validated, full=True)
    lines = capsys.readouterr().out.splitlines()
    record = validated.info["validation"]
    start = next(n for n, line in enumerate(lines) if line.split()[:1] == ["ablated"])
    end = next(n for n, line in enumerate(lines) if line.startswith(" predicted: "))
    assert end - start - 1 == len(record["nodes"]) + len(record["groups"]) + 2 * len(record["paths"])


def record_of(larger, signs, features=10):
    return {"summary": {"larger_than_controls": larger, "sign_agreement_top": signs, "features": features}}


@pytest.mark.parametrize(
    ("larger", "signs", "verdict"),
    [
        (0.9, 0.8, "supported: of the 10 most influential features, 9 change the targets more than controls"),
        (0.9, 0.7, "partly supported"),
        (0.9, 0.5, "not supported"),
        (0.4, 1.0, "not supported"),
        (None, None, "undetermined"),
    ],
)
def test_the_verdict_of_a_validation(larger, signs, verdict):
    assert validation_verdict(record_of(larger, signs)).startswith(verdict)


@pytest.mark.parametrize(
    ("coverage", "bound", "undecided", "verdict"),
    [
        (1.0, 0.0, 0, None),
        (0.99, 0.01, 0, "the circuit can be used: 1.00% of the influence"),
        (0.95, 0.05, 1_146, "the circuit can be used for its strongest nodes and paths: only 5.00%"),
        (0.4, 0.6, 1_146, "do not rely on this circuit: 60.00% of the influence"),
    ],
)
def test_the_verdict_on_coverage(coverage, bound, undecided, verdict):
    counts = {"inside": 3, "outside": 51, "undecided": undecided}
    info = {"traced": {"coverage": coverage, "bound": bound}, "pruning": {"certainty": counts}}
    found = coverage_verdict(info)
    assert found is verdict is None or found.startswith(verdict)
    assert found is None or len(found.splitlines()) == 1


MISTAKES = {
    "group": (["--groups", "a"], "NAME=12,45,77"),
    "node": (["--groups", "a=99999"], "there is no node 99999"),
    "token": (["--groups", "a='a'@0"], "no node of this graph"),
    "name": (["--groups", "a=0", "--groups", "a=1"], "names 'a' twice"),
    "plot": (["--plot", "x.gif"], ".svg, .png, .pdf"),
    "plot in a folder's place": (["--plot", "folder.svg"], "is a folder; name a file with --plot"),
    "graph in a folder's place": (["--out", "folder.svg"], "is a folder; name a file with --out"),
    "an existing file": (["--out", "graph.arrow"], "exists; add --force to overwrite it"),
    "freeze": (["--freeze", "some"], "none, attention, all"),
    "other transcoders": (["--transcoders", "neurons:3", "--device", "cpu"], "traced with the transcoders"),
}


@pytest.mark.parametrize(("wrong", "cure"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_and_change_no_files(command, path, monkeypatch, wrong, cure):
    monkeypatch.chdir(path.parent)
    (path.parent / "folder.svg").mkdir()
    before = path.read_bytes()
    status, out, problem = command("validate", path, *wrong)
    assert (status, out) == (2, "")
    assert cure in problem
    assert len(problem.splitlines()) == 1
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.rglob("*")} == {"graph.arrow", "folder.svg"}


def test_a_missing_graph_is_refused(command, tmp_path):
    status, _, problem = command("validate", tmp_path / "none.arrow")
    assert status == 2
    assert "none.arrow" in problem

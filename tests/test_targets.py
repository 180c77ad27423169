"""Targets of a trace: tokens, differences, directions, features; invalid ones are refused."""

import numpy as np
import pytest
import torch
from helpers.identities import conservation_gap
from tiny import WIDTH, prompt

from cotrace import Feature
from cotrace.graphs.drawing.select import picture_subject, strongest_nodes
from cotrace.graphs.paths import node_label
from cotrace.graphs.target_choice import find_target


@pytest.fixture(scope="module")
def model(load):
    return load("clt")


def weights(graph):
    return [target["weight"] for target in graph.info["targets"]]


def test_the_default_is_the_likeliest_tokens_up_to_the_mass(model):
    probability = torch.softmax(model.logits(prompt())[-1], 0).sort(descending=True).values
    graph = model.trace(prompt(), target_mass=0.5, max_targets=40)
    count = int((probability.cumsum(0) < 0.5).sum()) + 1
    assert graph.order.n_logits == count
    assert np.allclose(weights(graph), probability[:count] / probability[:count].sum())
    assert model.trace(prompt(), max_targets=2).order.n_logits == 2


def test_a_difference_is_the_difference_of_its_tokens_rows(model):
    tokens = model.trace(prompt(), [5, 9])
    difference = model.trace(prompt(), [(5, 9)])
    rows = tokens.adjacency()[tokens.order.logits].toarray()
    assert np.allclose(difference.adjacency()[[-1]].toarray()[0][:-1], (rows[0] - rows[1])[:-2])
    assert difference.info["targets"][0]["probability"] is None
    logits = model.logits(prompt())[-1]
    assert difference.column("pre_activation")[-1] == pytest.approx(float(logits[5] - logits[9]))


def test_a_direction_is_read_like_an_unembedding_row(model):
    row = model.weights.unembedding(torch.tensor([5]))[0] - model.weights.mean_unembedding_D
    token, direction = model.trace(prompt(), [5]), model.trace(prompt(), [row])
    assert np.allclose(token.adjacency().toarray(), direction.adjacency().toarray(), atol=1e-12)
    from_numpy = model.trace(prompt(), [row.numpy()])
    assert np.array_equal(from_numpy.adjacency().toarray(), direction.adjacency().toarray())


def test_a_feature_target_is_its_own_row(model):
    active = model.active_features(prompt()).to_pylist()[-1]
    graph = model.trace(prompt(), [Feature(active["layer"], active["feature"], active["position"])])
    assert graph.order.n_logits == 0
    assert graph.info["targets"][0]["label"] == f"L{active['layer']}#{active['feature']}@{active['position']}"
    assert graph.target_weights[graph.order.n_features - 1] == 1
    circuit = graph.prune()
    assert circuit.target_weights.sum() == 1
    assert conservation_gap(circuit).max() < 1e-9


def test_weights_are_probabilities_for_tokens_and_equal_for_other_targets(model):
    direction = torch.ones(WIDTH)
    graph = model.trace(prompt(), [5, (6, 7), direction])
    probability = float(torch.softmax(model.logits(prompt())[-1], 0)[5])
    raw = np.array([probability, 1, 1])
    assert np.allclose(weights(graph), raw / raw.sum())
    assert conservation_gap(graph).max() < 1e-9


def test_active_features_are_the_nodes_of_the_graph(model):
    active, nodes = model.active_features(prompt()), model.trace(prompt()).nodes
    for name in active.column_names:
        assert active[name].to_pylist() == nodes[name].to_pylist()[: len(active)]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "empty"),
        ("cold", "is a list"),
        ([5, 5], "named twice"),
        ([99], "outside the vocabulary"),
        ([(5, 5)], "is zero"),
        ([torch.ones(WIDTH + 1)], "width"),
        ([torch.full((WIDTH,), torch.nan)], "NaN"),
        ([torch.zeros(WIDTH)], "zero"),
        ([Feature(0, 1, 0)], "not active"),
        ([Feature(0, 1)], "needs one position"),
        ([Feature(0, 1, [2])], "needs one position"),
        ([Feature(0, 1, "prompt")], "needs one position"),
        ([Feature(0, 1, 11)], "outside the prompt of 11 tokens"),
        ([Feature(0, 1, 5), Feature(0, 1, -6)], "named twice"),
        ([("feature", 0, 0, 1)], "invalid target"),
        ([3.5], "invalid target"),
        ([True], "must be an integer"),
        ([torch.tensor(1.5)], "must be an integer"),
        ([(5, 6.0)], "must be an integer"),
        (5, "is a list"),
        (np.int64(5), "is a list"),
        (["text"], "no tokenizer"),
    ],
)
def test_bad_targets_are_refused(model, targets, message):
    with pytest.raises(ValueError, match=message) as error:
        model.trace(prompt(), targets)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": 11}, "outside the prompt of 11 tokens"),
        ({"position": -12}, "outside the prompt"),
        ({"max_targets": 0}, "at least 1"),
        ({"target_mass": 0.0}, "share of the probability"),
        ({"target_mass": 1.5}, "share of the probability"),
        ({"batch_size": 0}, "batch_size"),
        ({"masked_positions": [11]}, "outside the prompt"),
        ({"masked_positions": [1.5]}, "must be an integer"),
        ({"masked_positions": 3}, "expected a list of positions"),
        ({"position": 1.5}, "must be an integer"),
        ({"position": [3, 11]}, "outside the prompt"),
        ({"position": []}, "empty list"),
        ({"position": range(10**15)}, "outside the prompt"),
        ({"position": range(0)}, "empty list"),
        ({"position": -1, "targets": "next"}, "nothing follows position 10"),
        ({"max_targets": 2.5}, "must be an integer"),
        ({"batch_size": True}, "must be an integer"),
    ],
)
def test_bad_options_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        model.trace(prompt(), **options)


def test_too_little_memory_is_reported_before_the_work(model, monkeypatch):
    import psutil

    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(ValueError, match="are free; shorten the prompt"):
        model.trace(prompt())


def test_an_interrupted_trace_leaves_nothing(model, monkeypatch, tmp_path):
    import tempfile

    import cotrace.attribution.tracing.row_builder as engine

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    calls = []

    def interrupt(*arguments):
        calls.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "compute_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.trace(prompt())
    assert calls
    assert not list(tmp_path.iterdir())


def test_targets_of_several_positions_are_traced_as_one(model):
    together = model.trace(prompt(), [5, (6, 7)], position=[4, -1, 4])
    alone = [model.trace(prompt(), [5, (6, 7)], position=p) for p in (4, 10)]
    rows = together.adjacency()[together.order.logits].toarray()[:, : together.order.logits.start]
    for i, graph in enumerate(alone):
        expected = graph.adjacency()[graph.order.logits].toarray()[:, : graph.order.logits.start]
        assert np.allclose(rows[2 * i : 2 * i + 2], expected, atol=1e-12)
        assert np.allclose(together.column("bias")[together.order.logits][2 * i :][:2], graph.column("bias")[-2:])
    features = together.order.features
    assert np.allclose(
        together.adjacency()[features].toarray()[:, :-4], alone[1].adjacency()[features].toarray()[:, :-2]
    )
    assert conservation_gap(together).max() < 1e-9
    assert together.column("position")[together.order.logits].tolist() == [4, 4, 10, 10]
    assert [target["position"] for target in together.info["targets"]] == [4, 4, 10, 10]
    assert together.info["position"] == 10
    scale = [sum(graph.info["targets"][0]["probability"] + 1 for graph in alone)]
    mixed = sum(
        (g.info["targets"][0]["probability"] + 1) / scale[0] * g.influence()[: g.order.logits.start] for g in alone
    )
    assert np.allclose(together.influence()[: together.order.logits.start], mixed)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_every_token_of_a_step_can_be_a_target(model, batch_size):
    step = range(5, 10)
    graph = model.trace(prompt(), "next", position=step, batch_size=batch_size)
    assert graph.column("token", 0)[graph.order.logits].tolist() == [prompt()[p + 1] for p in step]
    assert np.allclose(weights(graph), 1 / 5)
    assert conservation_gap(graph).max() < 1e-9
    assert graph.prune().order.n_logits == 5


def test_the_likeliest_tokens_of_several_positions(model):
    graph = model.trace(prompt(), position=[2, 3], max_targets=2)
    probability = [target["probability"] for target in graph.info["targets"]]
    assert np.allclose(weights(graph), np.array(probability) / sum(probability))
    assert graph.column("position")[graph.order.logits].tolist() == [2, 2, 3, 3]


def test_feature_targets_are_named_once_for_all_positions(model):
    active = model.active_features(prompt()).to_pylist()[0]
    site = Feature(active["layer"], active["feature"], active["position"])
    graph = model.trace(prompt(), [site, (5, 6)], position=[3, 7])
    assert np.allclose(weights(graph), 1 / 3)
    assert [target["position"] for target in graph.info["targets"]] == [active["position"], 3, 7]


def test_the_position_of_a_feature_target_may_count_from_the_end(model):
    active = model.active_features(prompt()).to_pylist()[0]
    graphs = [
        model.trace(prompt(), [Feature(active["layer"], active["feature"], position)])
        for position in (active["position"], active["position"] - len(prompt()))
    ]
    assert graphs[0].info["targets"] == graphs[1].info["targets"]
    with pytest.raises(ValueError, match="must be an integer"):
        Feature("a", 1, 2)


def test_a_position_may_be_any_integer(model):
    graphs = [model.trace(prompt(), [5], position=p) for p in (7, torch.tensor(7), np.int64(7), [np.array(7)], -4)]
    for graph in graphs:
        assert graph.info["targets"][0]["position"] == 7
        assert graph.info["settings"]["positions"] == [7]
        assert graph.info["settings"]["targets"] == "named"


def test_a_picture_of_many_targets_shows_their_sources_too(model):
    circuit = model.trace(prompt(30), "next", position=range(4, 29)).prune()
    shown = strongest_nodes(picture_subject(circuit), 24)
    assert len(shown) == 24
    assert 2 <= (circuit.order.kind_codes()[shown] == 3).sum() <= 6  # and their tokens; the other half is for sources


def test_labels_of_targets_at_several_positions_differ(model):
    circuit = model.trace(prompt(), [5, (6, 7)], position=[4, 9]).prune()
    names = [node_label(circuit, t["node"]) for t in circuit.info["targets"]]
    assert len(set(names)) == 4
    targets = circuit.info["targets"]
    with pytest.raises(ValueError, match="several targets are"):
        find_target(targets, targets[0]["label"])
    assert find_target(targets, str(targets[2]["node"])) == targets[2]["node"]


@pytest.mark.parametrize(
    ("feature", "cure"),
    [
        (Feature(99, 1, position=5), "the model has no layer 99; its layers are 0"),
        (Feature(-1, 1, position=5), "the model has no layer -1"),
        (Feature(1, 10**6, position=5), "layer 1 has"),
    ],
)
def test_features_outside_the_transcoders_are_refused_before_the_forward_pass(load, feature, cure, monkeypatch):
    model = load("clt")
    monkeypatch.setattr(type(model), "_activations", None)  # the forward pass: must not be reached
    with pytest.raises(ValueError, match=cure):
        model.trace(prompt(), targets=[feature])

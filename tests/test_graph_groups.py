"""Groups of features: clustering, profiles, names, what they keep, and groups in files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.random_graphs import dense, random_graph
from hypothesis import given
from hypothesis import strategies as st
from tiny import prompt

sys.path.append(str(Path(__file__).parent.parent))  # benchmarks are not installed

import cotrace
from benchmarks.groups import agreement, labels_of, others, responses, within_and_between
from cotrace.common.errors import ArgumentError
from cotrace.graphs import CSR, Graph, NodeKind
from cotrace.graphs.annotations import node_names
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.grouping.clusters import clusters
from cotrace.graphs.grouping.describe import label_of, name_of, reason_of
from cotrace.graphs.grouping.kept import kept_by
from cotrace.graphs.grouping.profiles import cosines
from cotrace.graphs.schema import build_table

NO_LIMITS = {"similarity": 0.2, "max_size": 100}


def with_edges(graph, matrix, **columns):
    """Return a graph with the edges of a dense matrix (M, M), and other columns."""
    rows = [np.flatnonzero(row) for row in matrix]
    csr = CSR(indptr_of([len(row) for row in rows]), np.concatenate(rows).astype(np.int32), matrix[matrix != 0])
    kept = {
        name: graph.nodes[name].chunk(0)
        for name in graph.nodes.column_names
        if name not in ("node", "kind", "sources", "weights")
    }
    return Graph(build_table(graph.order, kept | columns, csr, graph.info), graph.info)


def planted(copies=3):
    """Return a graph in which features come in clones, and the clones: as sets of nodes with like edges and effects."""
    graph = random_graph(1, n_layers=4, n_positions=3, n_features=36, n_logits=4, density=1, dtype=np.float64)
    rng, matrix, order = np.random.default_rng(0), dense(graph), graph.order
    layer, position = (graph.column(name, -1) for name in ("layer", "position"))
    effects = rng.normal(size=(len(graph.info["targets"]), order.n_editable))
    clones = []
    for one in np.unique(np.stack([layer, position])[:, order.features], axis=1).T:
        nodes = np.flatnonzero((layer == one[0]) & (position == one[1]))
        nodes = nodes[nodes < order.n_features][:copies]
        for factor, node in zip((1.5, 2.0), nodes[1:], strict=False):
            matrix[node], matrix[:, node] = factor * matrix[nodes[0]], factor * matrix[:, nodes[0]]
            effects[:, node] = factor * effects[:, nodes[0]]
        if len(nodes) > 1:
            clones.append(frozenset(nodes.tolist()))
    return with_edges(graph, matrix, expected_effect=effects), clones


# --- clustering -----------------------------------------------------------------------------


def test_blocks_of_like_features_become_groups_and_the_rest_stays_alone():
    similarity = np.full((6, 6), 0.1)
    similarity[:3, :3], similarity[3:5, 3:5] = 0.9, 0.8
    found = clusters(similarity, np.ones(6, int), least=0.5, max_size=10)
    assert sorted(map(tuple, found)) == [(0, 1, 2), (3, 4)]
    assert [tuple(group) for group in clusters(similarity, np.ones(6, int), least=0.85, max_size=10)] == [(0, 1, 2)]


def test_parts_are_joined_by_their_mean_similarity():
    similarity = np.eye(3)
    similarity[0, 1] = similarity[1, 0] = 0.9
    similarity[0, 2] = similarity[2, 0] = 0.8
    assert [len(group) for group in clusters(similarity, np.ones(3, int), least=0.41, max_size=9)] == [2]
    assert [len(group) for group in clusters(similarity, np.ones(3, int), least=0.4, max_size=9)] == [3]


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0.05, 0.95))
def test_groups_respect_classes_and_size_and_do_not_overlap(seed, max_size, least):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(25, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = rng.integers(-1, 2, 25)
    found = clusters(vectors @ vectors.T, classes, least, max_size)
    members = np.concatenate([*found, np.empty(0, int)])
    assert len(np.unique(members)) == len(members)
    for group in found:
        assert 2 <= len(group) <= max_size
        assert len(np.unique(classes[group])) == 1
        assert (np.diff(group) > 0).all()


# --- profiles -------------------------------------------------------------------------------


def test_cosines_are_those_of_profiles_written_out_by_name():
    graph = random_graph(3, n_features=25, n_errors=6, dtype=np.float64)
    order, matrix = graph.order, dense(graph)
    nodes = np.arange(order.n_features)
    mass = graph.influence() + graph.target_weights
    directions = np.random.default_rng(0).normal(size=(len(nodes), 5))
    found = cosines(graph, nodes, mass, lambda chosen: directions[chosen])
    rows = graph.nodes.select(["kind", "layer", "feature"]).to_pylist()
    names = [
        (row["kind"], row["layer"], row["feature"]) if row["kind"] in ("feature", "error") else node
        for node, row in enumerate(rows)
    ]
    column_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    by_name = np.zeros((order.n_nodes, len(column_of)))
    by_name[np.arange(order.n_nodes), [column_of[name] for name in names]] = 1
    total = np.abs(matrix).sum(1)
    flow = np.divide(
        matrix * np.sqrt(mass)[:, None], total[:, None], where=total[:, None] > 0, out=np.zeros_like(matrix)
    )
    expected = {
        "inputs": (matrix @ by_name)[nodes],
        "outputs": (by_name.T @ flow).T[nodes],
        "directions": directions,
        "effects": np.array([graph.effects_on(each["node"]) for each in graph.info["targets"]]).T[nodes],
    }
    assert list(found) == ["effects", "outputs", "inputs", "directions"]
    for name, vectors in expected.items():
        length = np.linalg.norm(vectors, axis=1)
        with np.errstate(invalid="ignore"):
            unit = vectors / np.where(length > 0, length, np.nan)[:, None]
        np.testing.assert_allclose(found[name], unit @ unit.T, atol=1e-9)


def test_effects_of_few_targets_are_not_compared():
    graph = random_graph(3, n_logits=2)
    mass = graph.influence() + graph.target_weights
    assert "effects" not in cosines(graph, np.arange(5), mass)


# --- suggestions ----------------------------------------------------------------------------


def test_clones_are_found_with_their_reasons():
    graph, clones = planted()
    groups = graph.suggest_groups(similarity=0.97)
    assert clones
    assert {frozenset(group.nodes) for group in groups} == set(clones)
    for group in groups:
        assert group.reason.startswith("same effects (1.00), same outputs (1.00)")
        assert group.similarity == pytest.approx(1)
        assert len({str(member) for member in group.members}) == len(group.nodes)


def test_a_group_has_effects_of_one_sign_on_the_target():
    graph = random_graph(4, n_features=40, n_positions=5, density=1)
    for target in graph.info["targets"]:
        effect = graph.effects_on(target["node"])
        groups = graph.suggest_groups(target["node"], **NO_LIMITS)
        assert len(groups) or not len(graph.csr.row(target["node"])[0])
        for group in groups:
            assert len(set(np.sign(effect[list(group.nodes)]))) == 1
            assert group.effect == pytest.approx(float(effect[list(group.nodes)].sum()), rel=1e-5)
            assert group.name.startswith("lowers" if group.effect > 0 else "raises")


def test_no_group_is_larger_than_max_size_and_only_the_strongest_are_compared():
    graph = random_graph(4, n_features=40, n_positions=5, density=1)
    assert max(len(group.nodes) for group in graph.suggest_groups(similarity=0.01, max_size=3)) <= 3
    few = graph.suggest_groups("all", similarity=0.01, max_features=6)
    assert few.compared == 6
    strongest = np.argsort(-graph.influence()[: graph.order.n_features])[:6]
    assert {node for group in few for node in group.nodes} <= set(strongest.tolist())


def test_groups_of_the_user_and_targets_are_left_alone():
    graph = random_graph(5, n_features=40, feature_targets=2, density=1)
    graph.group("mine", [0, 1, 2])
    targets = {target["node"] for target in graph.info["targets"]}
    grouped = {node for group in graph.suggest_groups(**NO_LIMITS) for node in group.nodes}
    assert grouped
    assert not grouped & ({0, 1, 2} | targets)


def test_the_same_graph_gives_the_same_groups():
    graph = random_graph(7, n_features=40, density=1)
    first, second = (graph.suggest_groups(**NO_LIMITS) for _ in range(2))
    assert first.table == second.table
    first.apply()
    assert graph.suggest_groups(**NO_LIMITS).table == first.table


@pytest.mark.parametrize("n_logits", [1, 3])
def test_a_graph_without_effects_is_grouped_by_its_edges(n_logits):
    graph = random_graph(5, n_features=40, n_logits=n_logits, density=1, effects=False)
    groups = graph.suggest_groups(**NO_LIMITS)
    assert len(groups)
    heaviest = max(graph.info["targets"], key=lambda target: target["weight"])
    effects = -graph.effects(heaviest["node"]).effect_KM[0]
    assert groups[0].effect == pytest.approx(effects[list(groups[0].nodes)].sum())


def test_a_graph_without_features_has_no_groups():
    groups = random_graph(5, n_features=0).suggest_groups()
    assert len(groups) == 0
    assert groups.table.num_rows == 0


def test_directions_count():
    graph = random_graph(5, n_features=30, density=1)
    n = graph.order.n_features
    same, other = np.ones((n, 2)), np.eye(n)
    sizes = [sum(len(group.nodes) for group in graph.suggest_groups(directions=each)) for each in (same, other)]
    assert sizes[0] > sizes[1]
    assert "same decoder direction (1.00)" in graph.suggest_groups(directions=same)[0].reason
    for wrong in (same[1:], same[0], same * np.nan, np.array([["a"]] * n)):
        with pytest.raises(ArgumentError, match="directions"):
            graph.suggest_groups(directions=wrong)


@pytest.mark.parametrize(
    "wrong", [{"similarity": 0}, {"similarity": 1.5}, {"similarity": True}, {"max_size": 1}, {"max_features": 2.5}]
)
def test_options_outside_their_range_are_refused(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        random_graph(1).suggest_groups(**wrong)


# --- what groups keep -----------------------------------------------------------------------


def reference_scores(graph, kept):
    """Return the scores with dense matrices: features that are not kept lose their rows and count as errors."""
    order, matrix = graph.order, np.abs(dense(graph))
    codes = order.kind_codes()
    lost = (codes == NodeKind.FEATURE) & ~kept & (graph.target_weights == 0)
    matrix[lost] = 0
    total = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, total, where=total > 0, out=np.zeros_like(matrix))
    weights = graph.target_weights
    influence = weights @ share @ np.linalg.inv(np.eye(order.n_nodes) - share)
    is_error = (codes == NodeKind.ERROR) | lost
    token, error = influence[codes == NodeKind.TOKEN].sum(), influence[is_error].sum()
    mass = influence + weights
    return token / (token + error), 1 - (share[:, is_error].sum(1) @ mass) / mass.sum()


@pytest.mark.parametrize("seed", range(5))
def test_kept_scores_are_those_of_a_graph_in_which_other_features_are_errors(seed):
    graph = random_graph(seed, n_features=20, feature_targets=1, density=1, dtype=np.float64)
    in_group = np.random.default_rng(seed).random(graph.order.n_nodes) < 0.5
    in_group[graph.order.n_features :] = False
    assert kept_by(graph, in_group).scores[:2] == pytest.approx(reference_scores(graph, in_group))
    in_group[graph.order.features] = True
    assert kept_by(graph, in_group).scores[:2] == pytest.approx(graph.scores()[:2])


def test_groups_of_all_features_keep_everything_and_none_keep_nothing():
    graph = random_graph(5, n_features=12, n_layers=2, density=1, dtype=np.float64)
    groups = graph.suggest_groups(similarity=0.99)
    grouped = {node for group in groups for node in group.nodes}
    influence = graph.influence()[: graph.order.n_features]
    assert groups.kept.influence == pytest.approx(sum(influence[list(grouped)]) / influence.sum())
    assert groups.kept.graph_scores == graph.scores()
    assert groups.kept.scores.replacement <= graph.scores().replacement


# --- names ----------------------------------------------------------------------------------


def test_the_label_of_a_group_is_the_one_whose_words_its_members_share():
    labels = ["days of the week", "months", "names of days", "", "the days Monday and Tuesday"]
    assert label_of(labels, [1, 3, 1, 9, 1]) == "months"
    assert label_of(labels, [1, 1, 1, 9, 1]) in ("days of the week", "names of days")
    assert label_of(["", ""], [1, 2]) == ""


def test_names_are_new_and_never_those_of_nodes():
    assert name_of("", 0.5, " cold", set()) == "lowers cold 1"
    assert name_of("", -0.5, " cold", {"raises cold 1"}) == "raises cold 2"
    assert name_of("days", 0.5, " cold", {"days"}) == "days 1"
    assert name_of("references to the days of the week in many languages", 0.5, " cold", set()) == "days…week… 1"
    assert name_of("", 0.0, " ", set()) == "leaves ␣ 1"
    graph, _ = planted()
    for node in range(graph.order.n_features):
        graph.label(node, "same words")
    groups = graph.suggest_groups(similarity=0.97)
    assert [group.name for group in groups] == [f"same words {i + 1}" for i in range(len(groups))]
    groups.apply()
    assert graph.find(groups[0].name) == list(groups[0].nodes)


def test_a_reason_names_what_members_share_and_else_what_is_closest():
    assert reason_of({"effects": 0.4, "outputs": 0.93, "inputs": 0.5, "directions": np.nan}) == (
        "same outputs (0.93), same inputs (0.50)"
    )
    assert reason_of({"effects": 0.4, "outputs": 0.3}) == "same effects (0.40)"


# --- in graphs and files --------------------------------------------------------------------


def test_apply_writes_groups_and_undo_takes_them_out_again(tmp_path):
    graph = random_graph(5, n_features=40, density=1)
    graph.group("mine", [0, 1])
    before = json.dumps(graph.info)
    groups = graph.suggest_groups(**NO_LIMITS)
    assert json.dumps(graph.info) == before
    groups.apply()
    groups.apply()
    reopened = cotrace.open(graph.save(tmp_path / "graph.arrow"))
    assert list(reopened.groups) == ["mine", *(group.name for group in groups)]
    for group in groups:
        assert reopened.find(group.name) == list(group.nodes)
    stored = reopened.info["groups"][1]
    assert (stored["source"], stored["reason"]) == ("suggested", groups[0].reason)
    assert set(reopened.prune(0.5).groups) == set(reopened.groups)
    reopened.remove_suggested_groups()
    assert list(reopened.groups) == ["mine"]
    groups.undo()
    assert json.dumps(graph.info) == before


def test_a_suggestion_that_the_user_names_again_is_the_users():
    graph = random_graph(5, n_features=40, density=1)
    groups = graph.suggest_groups(**NO_LIMITS)
    groups.apply()
    graph.group(groups[0].name, list(groups[0].nodes[:2]))
    graph.remove_suggested_groups()
    assert list(graph.groups) == [groups[0].name]


def test_a_damaged_source_of_a_group_is_refused():
    graph = random_graph(5)
    graph.info["groups"] = [{"name": "mine", "nodes": [], "source": 3}]
    with pytest.raises(ArgumentError, match="groups"):
        graph.save("never.arrow")


def test_groups_show_themselves():
    graph, _ = planted()
    groups = graph.suggest_groups(similarity=0.97)
    assert f"{len(groups)} of" in repr(groups)
    assert groups[0].reason in groups._repr_html_()
    share = groups.graph.influence()[[node for group in groups for node in group.nodes]].sum()
    share /= groups.graph.influence()[groups.graph.order.features].sum()
    assert f"{share:.1%} of the influence of all features" in repr(groups)
    assert groups.table["size"].to_pylist() == [len(group.nodes) for group in groups]


def test_names_in_html_are_texts_without_control_characters():
    graph, _ = planted()
    graph.add_labels(
        {(f.layer, f.feature): "<b>\x1b[31m\x00 x" for f in graph.suggest_groups(similarity=0.97)[0].members}
    )
    shown = graph.suggest_groups(similarity=0.97)._repr_html_()
    assert "&lt;b&gt;" in shown
    assert not {"\x1b", "\x00"} & {*shown}


# --- with the model -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clt", "neurons"])
def test_the_model_adds_decoder_directions(model_of, kind):
    model = model_of(kind)
    graph = model.trace(prompt(), progress=False)
    layer, feature, activation = (
        graph.column(name)[graph.order.features] for name in ("layer", "feature", "activation")
    )
    directions = [
        np.sign(a) * model.transcoders.decoders(int(i), torch_index(f), model.weights)[0].sum(0).double().numpy()
        for i, f, a in zip(layer, feature, activation, strict=True)
    ]
    assert model.suggest_groups(graph).table == graph.suggest_groups(directions=np.array(directions)).table


def torch_index(feature):
    import torch

    return torch.tensor([int(feature)])


def test_a_group_is_edited_as_one(model_of):
    model = model_of("clt")
    graph = model.trace(prompt(), progress=False)
    groups = graph.suggest_groups(similarity=0.2)
    groups.apply()
    whole = cotrace.Supernode.from_group(graph, groups[0].name)
    assert (whole.members, whole.name) == (groups[0].members, groups[0].name)
    together = model.intervene(graph.info["token_ids"], {whole: cotrace.ablate()})
    one_by_one = model.intervene(graph.info["token_ids"], {member: cotrace.ablate() for member in groups[0].members})
    assert together.logits.equal(one_by_one.logits)
    with pytest.raises(ArgumentError, match="no group 'unknown'"):
        cotrace.Supernode.from_group(graph, "unknown")


# --- benchmark ------------------------------------------------------------------------------


def test_agreement_is_the_mean_cosine_within_minus_between():
    cosine = np.array([[1, 0.8, 0.1, 0.2], [0.8, 1, 0.3, 0.4], [0.1, 0.3, 1, 0.6], [0.2, 0.4, 0.6, 1]])
    assert within_and_between(cosine, np.array([0, 0, 1, 1])) == pytest.approx((0.7, 0.25))
    assert within_and_between(cosine, np.array([0, 0, 1, -1])) == pytest.approx((0.8, 0.2))
    found = agreement(cosine, [np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])])
    assert found["within"] == pytest.approx((0.7 + 0.25) / 2)
    assert found["difference"] == pytest.approx((0.45 + (0.25 - np.mean([0.8, 0.2, 0.3, 0.6]))) / 2)


def test_other_partitions_have_the_same_features_and_as_many_groups():
    graph = random_graph(4, n_features=40, n_positions=5, density=1)
    groups = graph.suggest_groups(similarity=0.4)
    label = labels_of(groups)
    sizes = sorted(len(group.nodes) for group in groups)
    sign = np.sign(graph.effects_on()[: graph.order.n_features])
    for name, partitions in others(graph, groups).items():
        for other in partitions:
            assert np.array_equal(other >= 0, label >= 0)
            if name.startswith("random"):
                assert sorted(np.bincount(other[other >= 0])) == sizes
            if name == "random_signed":
                assert all(len(set(sign[other == number])) == 1 for number in range(len(groups)))


def test_responses_are_changes_of_centred_logits_of_the_live_model(model_of):
    model = model_of("clt")
    graph = model.trace(prompt(), progress=False)
    ids = graph.info["token_ids"]
    likeliest = model.logits(ids)[-1].topk(20).indices.tolist()
    tokens = sorted({*likeliest, *(target["token_ids"][0] for target in graph.info["targets"])})
    found = responses(model, graph)
    for node in (0, graph.order.n_features - 1):
        (feature,) = node_names(graph, [node])
        result = model.intervene(ids, {feature: cotrace.ablate()})
        change = (result.logits - result.logits_before)[-1].double()
        np.testing.assert_allclose(found[node], (change - change.mean())[tokens].numpy(), atol=1e-9)


# --- command line ---------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return random_graph(5, n_features=40, density=1).save(tmp_path / "graph.arrow")


def test_the_command_writes_suggestions_into_the_file(command, file):
    status, output, _ = command("group", file, "--similarity", 0.2)
    expected = cotrace.open(file).suggest_groups(similarity=0.2)
    assert status == 0
    assert [*cotrace.open(file).groups] == [group.name for group in expected]
    for words in (expected[0].name, expected[0].reason, expected.kept.text(), f"wrote {file}"):
        assert words in output
    assert expected[0].name in command("show", file)[1]
    status, output, _ = command("group", file, "--undo")
    assert (status, f"groups removed: {len(expected)}; the graph now has 0" in output) == (0, True)
    assert not cotrace.open(file).groups


def test_the_command_makes_and_removes_groups_of_the_user(command, file):
    assert "group 'mine': nodes 1\n" in command("group", file, 3, "--name", "mine")[1]
    assert "group 'mine': nodes 2, in place of 1" in command("group", file, 3, 5, "--name", "mine")[1]
    command("group", file, "--similarity", 0.2)
    assert cotrace.open(file).find("mine") == [3, 5]
    assert command("group", file, "--remove", "mine")[0] == 0
    assert "mine" not in cotrace.open(file).groups


def test_a_dry_run_writes_nothing_and_json_has_all(command, file, tmp_path):
    before = file.read_bytes()
    status, output, _ = command("group", file, "--similarity", 0.2, "--dry-run", "--json")
    printed = json.loads(output)
    assert (status, printed["file"], file.read_bytes()) == (0, None, before)
    assert len(printed["suggested"]) == len(cotrace.open(file).suggest_groups(similarity=0.2))
    assert printed["kept"]["scores"]["replacement"] <= 1
    other = tmp_path / "other.arrow"
    assert command("group", file, "--out", other)[0] == 0
    assert file.read_bytes() == before
    refused = command("group", file, "--out", other)
    assert refused[0] == 2
    assert "--force" in refused[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["3"], "--name"),
        (["--name", "mine"], "needs nodes"),
        (["--name", "mine", "nowhere"], "nowhere"),
        (["--name", "mine", "3", "--undo"], "one at a time"),
        (["--remove", "mine"], "no such group"),
        (["--similarity", "0"], "--similarity"),
        (["--max-size", "1"], "--max-size"),
        (["--target", "nothing"], "nothing"),
    ],
)
def test_mistakes_are_one_line(command, file, options, words):
    before = file.read_bytes()
    status, _, errors = command("group", file, *options)
    assert status == 2
    assert len(errors.strip().splitlines()) == 1
    assert words in errors
    assert file.read_bytes() == before

"""Two graphs side by side: identities, alignment, matching, tables, pictures and the command."""

import csv
import io
import itertools
import json
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tiny_checkpoints import write_tokenizer

import cotrace
from cotrace import GraphDiff
from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph
from cotrace.graphs.diff.align import align, edit_pairs
from cotrace.graphs.diff.measures import rank_correlation, weighted_jaccard
from cotrace.graphs.drawing.config import DrawingConfig
from cotrace.graphs.order import KINDS

SMALL = graphs(n_features=15, n_errors=4)
SIZES = st.lists(st.floats(0, 1e3), min_size=0, max_size=20)
WORDS = st.lists(st.integers(0, 3), max_size=7)


def insert_token(graph, position, text=" very"):
    """Return the graph of a prompt with one more token, which nothing reads: later nodes move by one position."""
    info = {**graph.info, "tokens": list(graph.info["tokens"]), "token_ids": list(graph.info["token_ids"])}
    info["tokens"].insert(position, text)
    info["token_ids"].insert(position, 5)
    order, token = graph.order, graph.order.tokens.start + position
    rows = graph.nodes.to_pylist()
    rows.insert(token, {**rows[order.tokens.start], "position": position, "text": text, "token": 5})
    for number, row in enumerate(rows):
        row["node"] = number
        row["sources"] = [source + (source >= token) for source in row["sources"]]
        if number != token and row["position"] is not None and row["position"] >= position:
            row["position"] += 1
    info["targets"] = [{**each, "node": each["node"] + (each["node"] >= token)} for each in info["targets"]]
    info["position"] += 1
    return with_rows(graph, rows, info)


def with_rows(graph, rows, info=None):
    """Return a graph with other rows of its table, in the order of the node kinds."""
    table = pa.Table.from_pylist(rows, schema=graph.nodes.schema)
    codes = pa.array([KINDS.index(row["kind"]) for row in rows], pa.int8())
    kind = pa.DictionaryArray.from_arrays(codes, pa.array(KINDS))
    return Graph(table.set_column(1, table.schema.field("kind"), kind), info or graph.info)


def by_name(table, *columns):
    """Return the rows of a table of nodes by kind and name."""
    return {(row["kind"], row["name"]): tuple(row[column] for column in columns) for row in table.to_pylist()}


# --- identities -----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SMALL, st.sampled_from([None, "all"]), st.sampled_from(["feature", "label", "group", "site"]))
def test_a_graph_does_not_differ_from_itself(graph, target, match):
    diff = graph.diff(graph, target=target, match=match)
    for table in (diff.nodes, diff.edges):
        assert set(table["status"].to_pylist()) <= {"both"}
        assert not np.any(table["change"].to_numpy())
    assert set(diff.similarity["jaccard"].to_pylist()) == {1.0}
    assert set(diff.similarity["correlation"].to_pylist()) <= {1.0, None}
    assert diff.similarity["only_a"].to_pylist() == diff.similarity["only_b"].to_pylist() == [0] * len(diff.similarity)
    assert diff.top_nodes().num_rows == diff.top_edges().num_rows == 0
    assert not diff.cautions


def test_of_several_alignments_swapped_prompts_take_the_same():
    a, b = random_graph(1, n_positions=2), random_graph(2, n_positions=2)
    a.info["tokens"], b.info["tokens"] = ["p", "q"], ["q", "p"]  # either p or q can be paired
    assert a.diff(b).alignment.pairs == tuple((i, j) for j, i in b.diff(a).alignment.pairs)


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, st.sampled_from(["feature", "label", "site"]), st.floats(0, 1))
def test_a_difference_is_symmetric(a, b, match, min_change):
    options = {"match": match, "min_change": min_change, "target": "all"}
    there, back = a.diff(b, **options), b.diff(a, **options)
    assert there.alignment.pairs == tuple(sorted((i, j) for j, i in back.alignment.pairs))
    swapped = {"both": "both", "changed": "changed", "only_a": "only_b", "only_b": "only_a"}
    for ours, theirs in zip(there.similarity.to_pylist(), back.similarity.to_pylist(), strict=True):
        assert 0 <= ours["jaccard"] <= 1
        assert ours["jaccard"] == theirs["jaccard"]
        assert ours["change"] == pytest.approx(-theirs["change"], abs=1e-12)
        assert (ours["correlation"] is None) == (theirs["correlation"] is None)
        assert (ours["correlation"] or 0) == pytest.approx(theirs["correlation"] or 0, abs=1e-12)
        assert all(ours[status] == theirs[swapped[status]] for status in swapped)


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL)
def test_influence_is_that_of_each_graph_and_every_node_and_edge_is_there_once(a, b):
    diff = a.diff(b, target="all")
    for side, graph in (("a", a), ("b", b)):
        numbers = diff.nodes[f"node_{side}"].drop_null().to_numpy()
        assert sorted(numbers) == list(range(graph.order.n_nodes))
        shown = diff.nodes[f"influence_{side}"].to_numpy()[diff.nodes[f"node_{side}"].is_valid().to_numpy()]
        assert shown == pytest.approx(graph.influence()[numbers], abs=1e-12)
        units = diff.nodes[f"node_{side}"].to_pylist()
        found = {
            (units[edge["target"]], units[edge["source"]]): edge[f"weight_{side}"]
            for edge in diff.edges.to_pylist()
            if edge[f"weight_{side}"]
        }
        matrix = dense(graph)
        assert found == pytest.approx(
            {(t, s): matrix[t, s] for t, s in zip(*map(list, np.nonzero(matrix)), strict=True)}
        )
        assert diff.edges[f"influence_{side}"].to_numpy().sum() == pytest.approx(graph.influence().sum(), abs=1e-9)


@pytest.mark.parametrize("position", range(4))
def test_a_token_that_nothing_reads_changes_nothing_else(position):
    graph = random_graph(3, n_features=30)
    diff = graph.diff(insert_token(graph, position + 1), target="all")
    assert diff.alignment.pairs == tuple((i, i + (i > position)) for i in range(4))
    (extra,) = [row for row in diff.nodes.to_pylist() if row["status"] != "both"]
    assert (extra["kind"], extra["status"], extra["position_a"]) == ("token", "only_b", None)
    assert extra["position_b"] == position + 1
    assert diff.jaccard == 1.0
    assert set(diff.edges["status"].to_pylist()) == {"both"}
    moved = {name for _, name in by_name(diff.nodes) if "/" in name}
    assert all(int(b) == int(a) + 1 for a, b in (re.search(r"@(\d+)/(\d+)$", name).groups() for name in moved))
    assert moved or position == 3


# --- alignment ------------------------------------------------------------------------------


def distance(a, b):
    """Return the edit distance and minus the number of equal pairs of the best alignment, by trying all."""
    best = (len(a) + len(b), 0)
    for size in range(min(len(a), len(b)) + 1):
        for left, right in itertools.product(
            itertools.combinations(range(len(a)), size), itertools.combinations(range(len(b)), size)
        ):
            best = min(best, cost(a, b, list(zip(left, right, strict=True))))
    return best


def cost(a, b, pairs):
    equal = sum(a[i] == b[j] for i, j in pairs)
    return len(a) + len(b) - len(pairs) - equal, -equal


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_tokens_are_aligned_at_the_smallest_edit_distance(a, b):
    pairs = edit_pairs(a, b)
    assert pairs == sorted(pairs)
    assert sorted(pairs, key=lambda pair: pair[1]) == pairs
    assert cost(a, b, pairs) == distance(a, b)
    assert [(j, i) for i, j in pairs] == edit_pairs(b, a)


def test_other_alignments_and_their_columns():
    a = random_graph(1)
    b = insert_token(insert_token(a, 2, " so"), 2)
    assert align(a, b, "start").pairs == tuple((i, i) for i in range(4))
    assert align(a, b, "end").pairs == tuple((i, i + 2) for i in range(4))
    given_pairs = align(a, b, {0: 0, -1: -1})
    assert given_pairs.pairs == ((0, 0), (3, 5))
    assert given_pairs.positions == ((0, 0), (None, 1), (None, 2), (None, 3), (None, 4), (1, None), (2, None), (3, 5))
    assert given_pairs.columns(0).tolist() == [0, 5, 6, 7]
    assert given_pairs.columns(1).tolist() == [0, 1, 2, 3, 4, 7]
    crossed = a.diff(a, align=[(1, 2), (2, 1)])
    assert {row["position_b"] for row in crossed.nodes.to_pylist() if row["position_a"] == 1} == {2}


def test_prompts_that_are_too_long_for_edit_distances_are_refused(monkeypatch):
    monkeypatch.setattr("cotrace.graphs.diff.align.MAX_CELLS", 3)
    assert edit_pairs([1, 2, 3, 4, 5], [1, 2, 9, 4, 5]) == [(i, i) for i in range(5)]  # only what differs counts
    with pytest.raises(ArgumentError, match="2 and 2 tokens differ, too many to align"):
        edit_pairs([1, 2, 3, 5], [1, 8, 9, 5])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("sideways", "is not one of tokens, start, end"),
        ({9: 0}, "position of A 9 is outside the prompt of 4 tokens"),
        ({0: 1, 2: 1}, "position 1 of B is in two pairs"),
        ([1, 2], "expected pairs"),
        (3, "expected pairs"),
    ],
)
def test_wrong_alignments_are_refused(how, message):
    graph = random_graph(1)
    with pytest.raises(ArgumentError, match=message):
        graph.diff(graph, align=how)


# --- measures -------------------------------------------------------------------------------


@given(SIZES, st.randoms())
def test_the_jaccard_index_is_a_share(values, random):
    a, b = np.array(values), np.array(random.sample(values, len(values)))
    assert 0 <= weighted_jaccard(a, b) <= 1
    assert weighted_jaccard(a, b) == weighted_jaccard(b, a)
    assert weighted_jaccard(a, a) == 1
    assert weighted_jaccard(a, np.zeros(len(a))) == (0 if a.any() else 1)


def test_the_jaccard_index_by_hand():
    assert weighted_jaccard(np.array([0.5, 0.5, 0]), np.array([0.25, 0, 0.75])) == 0.25 / 1.75


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 12)).astype(float)
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(np.ones(5), np.arange(5.0)) is None
    assert rank_correlation(np.arange(2.0), np.arange(2.0)) is None


# --- matching -------------------------------------------------------------------------------


def with_transcoders(graph, name):
    """Return the same graph as one that was traced with other transcoders."""
    return Graph(graph.nodes, {**graph.info, "transcoders": {"name": name}})


def feature_names(graph, count):
    """Return the names of the first features, such as L0#1@2."""
    rows = graph.nodes.slice(0, count).to_pylist()
    return [f"L{row['layer']}#{row['feature']}@{row['position']}" for row in rows]


def test_features_of_other_transcoders_do_not_correspond():
    graph = random_graph(5)
    diff = graph.diff(with_transcoders(graph, "another"))
    assert diff.match == "label"
    kinds = by_name(diff.by("kind"), "both", "only_a", "only_b") if False else diff.by("kind").to_pylist()
    counts = {row["kind"]: (row["both"], row["only_a"], row["only_b"]) for row in kinds}
    assert counts["feature"] == (0, 20, 20)
    assert counts["error"] == (8, 0, 0)
    assert any("no label is in both graphs" in caution for caution in diff.cautions)
    by_number = graph.diff(with_transcoders(graph, "another"), match="feature")
    assert by_number.jaccard == 1
    assert any("equal numbers need not be the same" in caution for caution in by_number.cautions)


def test_equal_hashes_are_the_same_transcoders_and_all_neurons_are():
    graph = random_graph(5)

    def of(**transcoders):
        return Graph(graph.nodes, {**graph.info, "transcoders": transcoders})

    assert of(name="a", sha256="1").diff(of(name="b", sha256="1")).match == "feature"
    assert of(name="a", sha256="1").diff(of(name="a", sha256="2")).match == "label"
    assert of(name="neurons", kind="neurons").diff(of(name="neurons:5", kind="neurons")).match == "feature"


def test_labelled_features_correspond_across_transcoders():
    a, b = random_graph(5), with_transcoders(random_graph(5), "another")
    first, second = feature_names(a, 2)
    a.label(first, "not cold")
    b.label([first, second], "not cold")
    diff = a.diff(b)
    position = int(first.split("@")[1])
    same_place = second.endswith(f"@{position}")
    rows = [row for row in diff.nodes.to_pylist() if row["kind"] == "label"]
    assert {row["name"] for row in rows} == {f"'not cold'@{name.split('@')[1]}" for name in (first, second)}
    (both,) = [row for row in rows if row["count_a"]]
    assert (both["count_a"], both["count_b"], both["layer"]) == (1, 1 + same_place, None)
    assert both["influence_a"] == pytest.approx(a.diff(a).nodes["influence_a"][0].as_py())
    (summed,) = diff.by("label").to_pylist()
    assert summed["label"] == "not cold"
    assert summed["influence_b"] == pytest.approx(b.diff(b).nodes["influence_a"].to_numpy()[:2].sum())


def test_groups_of_the_same_name_correspond():
    a, b = random_graph(5), random_graph(6)
    a.group("cold", [0, 1, a.order.errors.start, a.order.tokens.start])
    b.group("cold", [0])
    diff = a.diff(b, match="group", target="all")
    (group,) = [row for row in diff.nodes.to_pylist() if row["kind"] == "group"]
    assert (group["name"], group["count_a"], group["count_b"]) == ("group 'cold'", 4, 1)
    members = [0, 1, a.order.errors.start, a.order.tokens.start]
    assert group["influence_a"] == pytest.approx(a.influence()[members].sum())
    (summed,) = diff.by("group").to_pylist()
    assert (summed["group"], summed["influence_b"]) == ("cold", pytest.approx(b.influence()[0]))
    (by_members,) = a.diff(b, target="all").by("group").to_pylist()
    assert by_members["influence_a"] >= group["influence_a"] - 1e-12


def test_sites_add_up_their_features():
    a, b = random_graph(5), with_transcoders(random_graph(6), "another")
    diff = a.diff(b, match="site", target="all")
    rows = [row for row in diff.nodes.to_pylist() if row["kind"] == "site"]
    for side, graph in (("a", a), ("b", b)):
        features = graph.order.features
        assert sum(row[f"count_{side}"] for row in rows) == graph.order.n_features
        layer, position = (graph.column(name)[features] for name in ("layer", "position"))
        for row in rows:
            here = (layer == row["layer"]) & (position == row[f"position_{side}"])
            assert row[f"influence_{side}"] == pytest.approx(graph.influence()[features][here].sum())
    assert diff.similarity["part"].to_pylist() == ["nodes", "features", "errors", "tokens", "edges"]


def test_a_replaced_token_is_in_one_graph_each():
    a = random_graph(5)
    info = {**a.info, "tokens": [*a.info["tokens"][:2], " other", a.info["tokens"][3]]}
    rows = [
        {**row, "text": " other"} if row["kind"] == "token" and row["position"] == 2 else row
        for row in a.nodes.to_pylist()
    ]
    b = with_rows(a, rows, info)
    diff = a.diff(b)
    alone = [row for row in diff.nodes.to_pylist() if row["status"] != "both"]
    assert sorted((row["kind"], row["status"]) for row in alone) == [("token", "only_a"), ("token", "only_b")]
    shown = {(row["token_a"], row["token_b"]) for row in diff.by("position").to_pylist()}
    assert (a.info["tokens"][2], " other") in shown


# --- targets and changes --------------------------------------------------------------------


@pytest.mark.parametrize("other", ["other.arrow", 3, None])
def test_a_graph_differs_from_graphs_only(other):
    with pytest.raises(ArgumentError, match="is not a graph"):
        random_graph(1).diff(other)


def test_targets_that_are_given_as_a_pair_correspond():
    graph = random_graph(5, n_logits=2)
    first, second = (target["label"] for target in graph.info["targets"])
    apart = graph.diff(graph, target="all")
    assert apart.common_target is not None
    pair = graph.diff(graph, target=(first, second))
    assert [each["label"] for each in pair.common_target] == [first, second]
    joined = [row for row in pair.nodes.to_pylist() if row["kind"] == "logit" and row["count_a"] and row["count_b"]]
    assert [row["name"] for row in joined] == ["'logit 0' | 'logit 1'"]
    assert GraphDiff(graph, graph, target=[first, first]).jaccard == 1
    with pytest.raises(ArgumentError, match="a pair of one of A and one of B"):
        graph.diff(graph, target=(first, second, first))
    with pytest.raises(ArgumentError, match="has no target 'nothing'"):
        graph.diff(graph, target="nothing")


def test_one_target_is_compared_only_where_it_dominates_in_both():
    def with_weights(*weights):
        graph = random_graph(5, n_logits=2)
        for target, weight in zip(graph.info["targets"], weights, strict=True):
            target["weight"] = weight
        return graph

    sure, unsure = with_weights(0.9, 0.1), with_weights(0.5, 0.5)
    assert [len(chosen) for chosen in sure.diff(sure).targets] == [1, 1]
    assert [len(chosen) for chosen in sure.diff(unsure).targets] == [2, 2]
    assert sure.diff(sure, target="all").nodes["influence_a"].to_pylist() == pytest.approx(sure.influence().tolist())


def test_expected_effects_are_those_of_the_common_target():
    graph = random_graph(5)
    diff = graph.diff(graph, target="all")
    rows = diff.nodes.slice(0, graph.order.n_features)
    expected = graph.effects_on(diff.common_target[0]["node"])[: graph.order.n_features]
    assert rows["expected_a"].to_pylist() == rows["expected_b"].to_pylist() == pytest.approx(expected.tolist())
    without = graph.diff(random_graph(5, effects=False))
    assert without.nodes["expected_a"].null_count == len(without.nodes)


def test_a_change_is_relative_and_a_sign_is_one():
    a = random_graph(5)
    rows = a.nodes.to_pylist()
    row = next(row for row in reversed(rows) if row["kind"] == "logit" and sum(map(bool, row["weights"])) > 1)
    edge = next(i for i, weight in enumerate(row["weights"]) if weight)
    source = row["sources"][edge]
    row["weights"][edge] *= -1
    b = with_rows(a, rows)
    diff = a.diff(b, target="all")
    assert set(diff.nodes["status"].to_pylist()) == {"both"}  # influence has no sign
    (changed,) = [each for each in diff.edges.to_pylist() if each["status"] == "changed"]
    assert changed["weight_a"] == -changed["weight_b"]
    assert diff.nodes["node_a"][changed["source"]].as_py() == source
    with pytest.raises(ArgumentError, match="min_change is 2"):
        a.diff(b, min_change=2)


def test_pruned_graphs_are_pointed_out():
    graph = random_graph(5, n_features=30)
    pruned = graph.prune(0.8)
    assert graph.diff(pruned).cautions == ["only B is pruned: what it lacks may have been pruned from it"]
    assert pruned.diff(pruned).cautions[0].startswith("both graphs are pruned")
    assert graph.prune(0.5).diff(pruned).cautions[0].startswith("the graphs are pruned to different")
    assert {*graph.diff(pruned).nodes["status"].to_pylist()} <= {"both", "changed", "only_a"}


def test_unknown_words_are_refused():
    graph = random_graph(1)
    with pytest.raises(ArgumentError, match="match='name' is not one of feature, label, group, site"):
        graph.diff(graph, match="name")
    for min_change in ("x", -0.1, float("nan")):
        with pytest.raises(ArgumentError, match="must lie between 0 and 1"):
            graph.diff(graph, min_change=min_change)
    with pytest.raises(ArgumentError, match="key='colour' is not one of"):
        graph.diff(graph).by("colour")
    assert repr(graph.diff(graph)).startswith("<GraphDiff by feature: 35 nodes in both (0 changed)")


# --- pictures -------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def shapes(svg):
    """Return the text inside each node of a picture, and whether it has a polygon, by the number of the node."""
    groups = [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("data-node")]
    return {int(group.get("data-node")): group for group in groups}


@pytest.mark.parametrize(
    ("match", "sizes", "max_nodes"),
    [("feature", (0, 3), 2), ("label", (30, 30), 12), ("site", (30, 5), 60), ("group", (30, 30), 12)],
)
def test_a_picture_is_valid_and_within_its_limits(match, sizes, max_nodes):
    a, b = (random_graph(seed, n_features=size) for seed, size in enumerate(sizes))
    a.group("first", range(a.order.n_features // 2))
    b.label(range(b.order.n_features), "not cold")
    diff = a.diff(b, match=match)
    assert shapes(diff._repr_html_()).keys() == shapes(a.diff(b, match=match)._repr_html_()).keys()
    scene = diff.scene(DrawingConfig(max_nodes, 5))
    nodes = {shape.name for shape in scene.shapes if shape.data}
    assert len(nodes) <= max_nodes
    assert {end for edge in scene.edges for end in (edge.source, edge.target)} <= nodes


def test_colour_and_form_tell_the_graphs_apart(tmp_path):
    a, b = random_graph(5), random_graph(6)
    diff = a.diff(b, target="all")
    found = shapes(diff.render(tmp_path / "diff.svg", max_nodes=1000).read_text())
    rows = diff.nodes.to_pylist()
    assert len(found) == len(rows)
    for row in rows:
        drawn = ElementTree.tostring(found[row["node"]]).decode()
        color = {"only_a": "#009e73", "only_b": "#aa4499"}.get(row["status"])
        if row["kind"] == "feature":
            assert ("polygon" in drawn) == (color is not None)
        assert color is None or color in drawn
        if row["status"] == "both":
            assert "#009e73" not in drawn
            assert "#aa4499" not in drawn
        if row["kind"] in ("token", "logit") and color:
            assert f">{row['status'][-1].upper()}: " in drawn
        assert {"both": "in both", "changed": "in both, changed", "only_a": "only in A", "only_b": "only in B"}[
            row["status"]
        ] in drawn
    for suffix in ("dot", "svg"):
        assert diff.render(tmp_path / f"again.{suffix}").stat().st_size > 1000
    with pytest.raises(ArgumentError, match=r"cannot draw 'diff\.gif'"):
        diff.render(tmp_path / "diff.gif")


def test_two_tokens_of_a_column_stand_side_by_side():
    a = random_graph(5)
    b = Graph(a.nodes, {**a.info, "tokens": [" one", " two", " three", " four"]})
    scene = a.diff(b, align="start").scene(DrawingConfig(1000, 10))
    boxes = sorted((shape.x, shape.width) for shape in scene.shapes if shape.data and "token" in shape.tooltip)
    assert len(boxes) == 8
    assert all(x + width / 2 < y - other / 2 for (x, width), (y, other) in itertools.pairwise(boxes))


# --- the command ----------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Return the files of two graphs, of which B has one more token and lacks some features."""
    a = random_graph(5, n_features=30)
    b = insert_token(a.prune(0.6), 2)
    return a.save(tmp_path / "a.arrow"), b.save(tmp_path / "b.arrow")


def test_the_command_prints_how_alike_two_graphs_are(command, files):
    status, output, errors = command("diff", *files)
    assert (status, errors) == (0, "")
    assert "4 correspond; only in B: ' very'" in output
    assert "only B is pruned" in output
    assert re.search(r"nodes +\d+ +\d+ +\d+ +1 +0\.\d{3}", output)
    assert "largest changes of influence" in output


def test_the_command_prints_json_and_csv(command, files):
    diff = cotrace.open(files[0]).diff(cotrace.open(files[1]))
    found = json.loads(command("diff", *files, "--json", "--top", "3")[1])
    assert found["similarity"] == json.loads(json.dumps(diff.similarity.to_pylist()))
    assert found["nodes"] == diff.top_nodes(3).to_pylist()
    assert found["alignment"] == [list(pair) for pair in diff.alignment.pairs]
    edges = json.loads(command("diff", *files, "--json", "--table", "edges", "--top", "2")[1])["edges"]
    names = diff.nodes["name"].to_pylist()
    assert [edge["source_name"] for edge in edges] == [names[edge["source"]] for edge in edges]
    for table, rows in (("nodes", diff.nodes), ("edges", diff.edges), ("layer", diff.by("layer"))):
        printed = list(csv.DictReader(io.StringIO(command("diff", *files, "--csv", "--table", table)[1])))
        assert len(printed) == len(rows)
        assert [row["status"] for row in printed if "status" in row] == (
            rows["status"].to_pylist() if "status" in rows.column_names else []
        )


@pytest.mark.parametrize("table", ["edges", "layer", "position", "kind", "label", "group"])
def test_the_command_prints_every_table(command, files, table):
    status, output, _ = command("diff", *files, "--table", table)
    assert status == 0
    assert ("influence A" in output) == (table not in ("label", "group"))


def test_the_command_draws(command, files, tmp_path):
    picture = tmp_path / "diff.svg"
    status, output, _ = command("diff", *files, "--out", picture, "--align", "start", "--max-nodes", "20")
    assert status == 0
    assert f"wrote {picture}" in output.replace("\n", "")
    assert "only in A" in picture.read_text()
    status, _, errors = command("diff", *files, "--out", picture)
    assert status == 2
    assert "--force" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a"], "give two graph files A and B, or --prompt"),
        ([], "give two graph files A and B, or --prompt"),
        (["a", "b", "--prompt", "x"], "omit them, or omit A and B"),
        (["a", "b", "--chat"], "omit them, or omit A and B"),
        (["a", "b", "--json", "--csv"], "give --json or --csv, not both"),
        (["a", "b", "--align", "4"], "--align 4: expected tokens, start, end, or positions"),
        (["a", "b", "--align", "0:2=0"], "names 2 positions of A and 1 of B"),
        (["a", "b", "--align", "99=0"], "position of A 99 is outside the prompt"),
        (["a", "b", "--target", "x", "--target", "y", "--target", "z"], "--target was given 3 times"),
        (["a", "b", "--min-change", "7"], "--min-change is 7.0"),
        (["a", "b", "--out", "picture.gif"], "cannot draw 'picture.gif'"),
        (["--prompt", "x", *3 * ["--transcoders", "neurons"], "--csv"], "give two --transcoders, not 3"),
        (["--prompt", "x", "--transcoders", "neurons"], "give at least two --transcoders"),
        (["--prompt", "x", "--transcoders", "neurons", "--transcoders", "neurons"], "the transcoders neurons are named twice"),
        (["--prompt", "x", "--transcoders", "neurons", "--transcoders", "no such"], "no such"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(command, files, options, message):
    paths = dict(zip("ab", files, strict=True))
    status, output, errors = command("diff", *(paths.get(option, option) for option in options))
    assert (status, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors


# --- several sets of transcoders ------------------------------------------------------------


@pytest.fixture(scope="module")
def sets(transcoder_spec):
    """Return three sets of transcoders of the tiny model."""
    return [transcoder_spec("clt"), transcoder_spec("per-layer"), "neurons:5"]


def test_one_prompt_is_traced_with_several_sets(model_folder, sets, load):
    prompt = [0, 5, 9, 3, 7]
    comparison = cotrace.compare_transcoders(
        prompt, sets, model=model_folder, dtype="float64", device="cpu", progress=False
    )
    assert list(comparison.graphs) == sets
    alone = load("clt").trace(prompt, progress=False)
    assert comparison.graphs[sets[0]].nodes.equals(alone.nodes)
    labels = [[target["label"] for target in graph.info["targets"]] for graph in comparison.graphs.values()]
    assert labels[0] == labels[1] == labels[2]
    for row, graph in zip(comparison.table.to_pylist(), comparison.graphs.values(), strict=True):
        assert (row["features"], row["edges"]) == (graph.order.n_features, graph.n_edges)
        assert row["per_site"] == graph.order.n_features / (3 * 4)
        assert row["replacement"] == pytest.approx(graph.scores().replacement, abs=1e-9)
    pairs = {(row["a"], row["b"]) for row in comparison.similarity.to_pylist()}
    assert pairs == set(itertools.combinations(sets, 2))
    diff = comparison.diff(*sets[:2], match="site", target="all")
    tokens = [row for row in diff.nodes.to_pylist() if row["kind"] == "token"]
    assert all(row["status"] in ("both", "changed") for row in tokens)
    assert "neurons:5" in repr(comparison)
    with pytest.raises(ArgumentError, match="was not compared"):
        comparison.diff(sets[0], "other")


def test_the_command_compares_sets(command, model_folder, sets, tmp_path):
    folder = write_tokenizer(shutil.copytree(model_folder, tmp_path / "model"))
    options = ["--model", folder, "--dtype", "float64", "--device", "cpu", "--quiet"]
    options += [part for one in sets for part in ("--transcoders", one)]
    graphs, picture = tmp_path / "graphs", tmp_path / "p.svg"
    status, output, errors = command("diff", "--prompt", " hot of", *options, "--graphs", graphs, "--out", picture)
    assert (status, errors) == (0, "")
    assert output.count("rank correlation") == 3
    assert len(list(graphs.glob("*.arrow.zst"))) == 3
    assert len(list(tmp_path.glob("p-*.svg"))) == 3
    found = json.loads(command("diff", "--prompt", " hot of", *options[:-2], "--json")[1])
    assert [len(found[name]) for name in ("transcoders", "diffs")] == [2, 1]

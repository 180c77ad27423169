"""Paths between any nodes, ancestors, descendants, flow and subgraphs, against enumeration and dense linear algebra."""

import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from helpers.dense_influence import normalised
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, open_graph, strongest_paths
from cotrace.graphs.effects import total_effects, weighted_effects
from cotrace.graphs.exchange.from_networkx import from_networkx
from cotrace.graphs.node_sets import find_set, weighted_ends

sys.path.append(str(Path(__file__).parent.parent))  # benchmarks are not installed

from benchmarks.synthetic_graphs import GraphSize, synthetic_graph

SMALL = graphs(n_features=8, n_errors=3)


def some_nodes(graph, data, last=None):
    """Draw one to three node numbers."""
    numbers = st.integers(0, (graph.order.n_nodes if last is None else last) - 1)
    return data.draw(st.lists(numbers, min_size=1, max_size=3, unique=True))


def chains(graph, sources, weights, min_length=1):
    """Return every path of positive strength from sources to ends with these weights: nodes -> (strength, sign)."""
    matrix = dense(graph)
    shares, found = normalised(matrix), {}

    def extend(nodes, strength, sign):
        if nodes[0] in sources and len(nodes) > min_length:
            found[nodes] = strength, sign
        for source in np.flatnonzero(matrix[nodes[0]]).tolist():
            extend((source, *nodes), strength * shares[nodes[0], source], sign * int(np.sign(matrix[nodes[0], source])))

    for node in np.flatnonzero(weights).tolist():
        extend((node,), weights[node], 1)
    return found


# --- sets of nodes --------------------------------------------------------------------------


def test_spans_are_all_features_errors_and_tokens_at_positions():
    graph = random_graph(1, n_positions=5)
    position = graph.column("position")[: graph.order.n_editable]
    expected = np.flatnonzero((position == 1) | (position == 2)).tolist()
    for span in ("@1:3", " @ 1,2 ", slice(1, 3), ["@1", "@-3"], [slice(1, 2), slice(-3, -2)]):
        assert find_set(graph, span).tolist() == expected
    graph.group("pair", [0, 3])
    assert find_set(graph, ["pair", 0, "token@4"]).tolist() == [0, 3, graph.order.tokens.start + 4]


@pytest.mark.parametrize("names", ["@9", "@2:2", "@x", slice(0, 99), [], "L1#99999", 1.5])
def test_sets_that_name_no_nodes_are_refused(names):
    graph = random_graph(1)
    for query in (graph.ancestors, graph.descendants, graph.paths):
        with pytest.raises(ArgumentError):
            query(names)


def test_ends_weigh_what_they_carry():
    graph = random_graph(2, feature_targets=1)
    first, second = np.flatnonzero(graph.influence()[graph.order.features])[:2]
    assert weighted_ends(graph, None)[1] is graph.target_weights
    assert weighted_ends(graph, int(first))[1][first] == 1
    carried = graph.influence() + graph.target_weights
    pair = weighted_ends(graph, [int(first), int(second)])[1]
    assert pair[first] / pair[second] == pytest.approx(carried[first] / carried[second])
    assert pair.sum() == pytest.approx(1)
    logits = range(graph.order.logits.start, graph.order.logits.stop)
    np.testing.assert_allclose(
        weighted_ends(graph, logits)[1][logits], graph.target_weights[logits] / graph.target_weights[logits].sum()
    )


# --- paths ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(0, 12), st.integers(1, 3), st.data())
def test_the_strongest_paths_between_any_nodes(graph, n, min_length, data):
    sources, targets = some_nodes(graph, data), some_nodes(graph, data)
    expected = chains(graph, sources, weighted_ends(graph, targets)[1], min_length)
    found = graph.paths(sources, targets, n, min_length=min_length)
    strongest = sorted((strength for strength, _ in expected.values()), reverse=True)[:n]
    assert [path.strength for path in found] == pytest.approx(strongest, rel=1e-9)
    assert len({path.nodes for path in found}) == len(found)
    for path in found:
        assert (path.strength, path.sign) == (pytest.approx(expected[path.nodes][0]), expected[path.nodes][1])


@settings(max_examples=30, deadline=None)
@given(SMALL, st.booleans(), st.integers(1, 3))
def test_without_names_paths_lead_from_tokens_to_the_targets(graph, through_errors, min_length):
    expected = strongest_paths(graph, None, 8, through_errors, min_length)
    assert graph.paths(n=8, min_length=min_length, through_errors=through_errors) == expected


@settings(max_examples=40, deadline=None)
@given(SMALL, st.data())
def test_paths_to_a_node_add_up_to_its_ancestors_shares(graph, data):
    (target,) = some_nodes(graph, data)[:1]
    table = graph.ancestors(target)
    for node, share in zip(table["node"].to_pylist(), table["share"].to_pylist(), strict=True):
        paths = graph.paths(node, target, 10**6)
        assert sum(path.strength for path in paths) == pytest.approx(share, rel=1e-9, abs=1e-15)


def test_paths_take_names_of_all_kinds():
    graph = random_graph(6, n_features=30, density=1)
    graph.group("early", [0, 1])
    target = graph.info["targets"][0]
    paths = graph.paths("early", target["label"], 3)
    assert {path.nodes[0] for path in paths} <= {0, 1}
    assert {path.nodes[-1] for path in paths} == {target["node"]}
    spans = graph.paths("@0", "@-1", 50)
    position = graph.column("position")
    assert spans
    assert all((position[path.nodes[0]], position[path.nodes[-1]]) == (0, 3) for path in spans)
    assert graph.paths(0, "token@1") == []  # nothing leads to a token


@pytest.mark.parametrize("options", [{"n": -1}, {"n": 2.5}, {"n": "x"}, {"min_length": 0}, {"min_length": 1.5}])
def test_impossible_paths_are_refused(options):
    with pytest.raises(ArgumentError, match=r"invalid|must be an integer"):
        random_graph(1).paths(**options)


def test_paths_have_at_most_an_edge_into_each_layer():
    """A table with a column for each edge of a path would take 80 GB here for 10,000 nodes."""
    graph = random_graph(1)
    lengths = [len(path.nodes) - 1 for path in graph.paths(n=10**6)]
    assert graph.paths(n=10**6, min_length=max(lengths))
    assert graph.paths(n=1, min_length=max(lengths) + 1) == []
    assert graph.paths(n=1, min_length=10**6) == []


# --- ancestors and descendants --------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(graphs(), st.data())
def test_reach_is_that_of_networkx(graph, data):
    nodes, other = some_nodes(graph, data), graph.to_networkx()
    assert set(graph.ancestors(nodes)["node"].to_pylist()) == set().union(*(nx.ancestors(other, n) for n in nodes))
    assert set(graph.descendants(nodes)["node"].to_pylist()) == set().union(*(nx.descendants(other, n) for n in nodes))


@settings(max_examples=25, deadline=None)
@given(graphs(), st.data())
def test_shares_and_effects_of_all_pairs(graph, data):
    (node,) = some_nodes(graph, data)[:1]
    size = graph.order.n_nodes
    paths_MM = np.linalg.inv(np.eye(size) - normalised(dense(graph)))  # row: descendant, column: ancestor
    effect_M = total_effects(graph, [node])[0]
    up, down = graph.ancestors(node), graph.descendants(node)
    np.testing.assert_allclose(up["share"], paths_MM[node, up["node"].to_numpy()], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(down["share"], paths_MM[down["node"].to_numpy(), node], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(up["effect"], effect_M[up["node"].to_numpy()], rtol=1e-12)
    for other, effect in zip(down["node"].to_pylist(), down["effect"].to_pylist(), strict=True):
        if other >= graph.order.logits.start or graph.column("activation")[other] != 0:
            assert effect == pytest.approx(total_effects(graph, [other])[0, node], rel=1e-6, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(SMALL, st.data())
def test_the_share_of_several_nodes_is_that_of_paths_that_visit_any(graph, data):
    nodes = some_nodes(graph, data)
    tokens_and_errors = range(graph.order.n_features, graph.order.n_editable)
    table = graph.descendants(nodes)
    for node, share in zip(table["node"].to_pylist(), table["share"].to_pylist(), strict=True):
        weights = np.zeros(graph.order.n_nodes)
        weights[node] = 1
        # every path back from the node, as far as it goes; those that end at a feature without input count as well
        ends = {*tokens_and_errors, *np.flatnonzero(graph.csr.row_totals() == 0).tolist()}
        every = chains(graph, ends, weights)
        visits = sum(strength for path, (strength, _) in every.items() if set(path[:-1]) & set(nodes))
        assert share == pytest.approx(visits, rel=1e-9, abs=1e-15)
        assert 0 <= share <= 1 + 1e-9


def test_small_shares_are_left_out_and_the_largest_come_first():
    graph = random_graph(6, n_features=40, n_layers=6)
    every = graph.ancestors(graph.order.logits.start)
    some = graph.ancestors(graph.order.logits.start, 0.1)
    assert 0 < len(some) < len(every)
    assert some.equals(every.slice(0, len(some)))
    assert (np.diff(every["share"].to_numpy()) <= 0).all()
    assert min(some["share"].to_pylist()) >= 0.1 > every["share"][len(some)].as_py()
    for share in (-0.1, 1.5, float("nan"), "1"):
        with pytest.raises(ArgumentError, match="must lie between 0 and 1"):
            graph.descendants(0, share)


# --- flow -----------------------------------------------------------------------------------


def partition(graph, data):
    """Draw spans that cover some of the positions."""
    number_P = data.draw(st.lists(st.integers(0, 2), min_size=graph.order.n_tokens, max_size=graph.order.n_tokens))
    spans = {name: [p for p, each in enumerate(number_P) if each == k] for k, name in enumerate("ab")}
    return {name: positions for name, positions in spans.items() if positions}


@settings(max_examples=25, deadline=None)
@given(graphs(dtype=np.float64), st.data())
def test_flow_is_conserved_and_adds_up_to_the_total(graph, data):
    targets = data.draw(st.sampled_from([None, graph.info["targets"][0]["node"]]))
    found = graph.flow(partition(graph, data), targets)
    n_spans, weights = len(found.spans), weighted_ends(graph, targets)[1]
    for between, starts in ((found.share_SC, found.share_start_SK), (found.effect_SC, found.effect_start_SK)):
        entering, leaving = between[:, :n_spans].sum(0) + starts.sum(1), between.sum(1)
        np.testing.assert_allclose(entering, leaving, rtol=1e-7, atol=1e-9 * max(1, np.abs(between).max(initial=0)))
    has_input = graph.csr.row_totals() > 0
    assert found.share_SC[:, n_spans:].sum() == pytest.approx(weights @ has_input)
    influence = graph.influence() if targets is None else None
    if influence is not None:
        assert found.share_start_SK[:, 0].sum() == pytest.approx(influence[graph.order.tokens].sum())
        assert found.share_start_SK[:, 1].sum() == pytest.approx(influence[graph.order.errors].sum())
    effect = weighted_effects(graph, weights)
    assert found.effect_start_SK[:, 0].sum() == pytest.approx(effect[graph.order.tokens].sum())
    assert found.effect_SC[:, n_spans:].sum() == pytest.approx(weights @ dense(graph).sum(1))


@settings(max_examples=30, deadline=None)
@given(graphs(dtype=np.float64), st.data())
def test_flow_of_joined_spans_is_the_sum(graph, data):
    positions = range(graph.order.n_tokens)
    fine = graph.flow({f"t{p}": [p] for p in positions})
    joined = graph.flow(partition(graph, data) or {"a": positions})
    member_SP = np.array([[p in where for p in positions] for where in joined.spans.values()], float)
    n_fine, n_joined = len(fine.spans), len(joined.spans)
    for name in ("share", "effect"):
        one, other = getattr(fine, f"{name}_SC"), getattr(joined, f"{name}_SC")
        scale = 1e-9 * max(1, np.abs(one).max(initial=0))
        np.testing.assert_allclose(other[:, :n_joined], member_SP @ one[:, :n_fine] @ member_SP.T, atol=scale)
        np.testing.assert_allclose(other[:, n_joined:], member_SP @ one[:, n_fine:], atol=scale)
        starts = [getattr(each, f"{name}_start_SK") for each in (fine, joined)]
        np.testing.assert_allclose(starts[1], member_SP @ starts[0], atol=scale)


@settings(max_examples=40, deadline=None)
@given(SMALL, st.integers(0, 4))
def test_flow_between_spans_in_a_row_is_the_share_of_paths_that_go_from_one_to_the_other(graph, border):
    n_tokens = graph.order.n_tokens
    border = min(border, n_tokens - 1)
    spans = {"a": (0, border), "b": (border, n_tokens)} if border else {"b": (0, n_tokens)}
    found = graph.flow(spans)
    starts = np.flatnonzero(graph.csr.row_totals() == 0)
    second = graph.column("position") >= border
    crossing, direct = 0.0, 0.0
    for nodes, (strength, _) in chains(graph, {*starts.tolist()}, graph.target_weights).items():
        inner = second[list(nodes[:-1])]
        crossing += strength * (inner[-1] and not inner[0])
        direct += strength * (not inner[-1])
    if border:
        assert found.share_SC[0, 1] == pytest.approx(crossing, rel=1e-9, abs=1e-15)
        assert found.share_SC[0, 2:].sum() == pytest.approx(direct, rel=1e-9, abs=1e-15)
        assert not found.share_SC[1, 0]  # no edge runs to an earlier position


def test_flow_has_names_and_tables():
    graph = random_graph(5, n_positions=6, n_features=40, feature_targets=1)
    found = graph.flow({"question": (1, 4), "step": [4]})
    assert found.spans == {"question": (1, 2, 3), "step": (4,), "other": (0, 5)}
    assert found.columns == (*found.spans, *found.targets)
    assert len(found.targets) == len(graph.info["targets"])
    table = found.table()
    assert table["share"].to_numpy().sum() == pytest.approx(found.share_SC.sum())
    assert set(table["source"].to_pylist()) <= set(found.spans)
    inside = np.array([not each for each in table["is_target"].to_pylist()])
    assert table["share"].to_numpy()[~inside].sum() == pytest.approx(1)
    assert found.starts()["span"].to_pylist() == list(found.spans)
    assert "question" in repr(found)
    whole = graph.flow({"all": (0, 6)})
    assert list(whole.spans) == ["all"]


@pytest.mark.parametrize(
    ("spans", "targets"),
    [({"a": (0, 9)}, None), ({"a": (0, 2), "b": (1, 3)}, None), ({"a": (0, 2)}, "token@1"), ({"a": (0, 2)}, "no such")],
)
def test_impossible_flows_are_refused(spans, targets):
    with pytest.raises(ArgumentError):
        random_graph(1).flow(spans, targets)


# --- subgraphs ------------------------------------------------------------------------------


def dense_scores(graph, kept):
    """Return both scores by dense linear algebra, with every node that is not kept as an error node."""
    shares, order, weights = normalised(dense(graph)), graph.order, graph.target_weights
    is_error = ~kept
    is_error[order.errors] = True
    shares[is_error] = 0
    influence = weights @ np.linalg.inv(np.eye(order.n_nodes) - shares) - weights
    token, error = influence[order.tokens].sum(), influence[is_error].sum()
    mass = influence + weights
    complete = 1 - shares[:, is_error].sum(1)
    replacement = token / (token + error) if token + error else 1
    return replacement, complete @ mass / mass.sum() if mass.sum() else 1


def with_all_ends(graph, nodes):
    kept = np.isin(np.arange(graph.order.n_nodes), nodes) | (graph.target_weights > 0)
    kept[graph.order.tokens] = kept[graph.order.logits] = True
    return kept


@settings(max_examples=60, deadline=None)
@given(graphs(), st.data())
def test_scores_of_a_subgraph_count_what_is_left_out_as_error(graph, data):
    nodes = data.draw(st.lists(st.integers(0, graph.order.n_nodes - 1), min_size=1, unique=True))
    expected = pytest.approx(dense_scores(graph, with_all_ends(graph, nodes)), rel=1e-9, abs=1e-12)
    assert graph.scores(nodes)[:2] == expected
    part = graph.subgraph(nodes)
    assert part.scores()[:2] == expected
    fewer = part.find([*range(0, part.order.n_nodes, 2)])
    kept = np.flatnonzero(with_all_ends(graph, nodes))[fewer]  # numbers in the whole graph
    twice = pytest.approx(dense_scores(graph, with_all_ends(graph, kept)), rel=1e-9, abs=1e-12)
    assert part.scores(fewer)[:2] == twice
    assert part.subgraph(fewer).scores()[:2] == twice


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_the_whole_graph_is_a_subgraph_with_the_same_scores(graph):
    every = range(graph.order.n_nodes)
    assert graph.scores(every) == graph.scores()
    whole = graph.subgraph(every)
    assert whole.scores() == graph.scores()
    assert whole.csr.weights.tolist() == graph.csr.weights.tolist()
    assert whole.info["targets"] == graph.info["targets"]


@settings(max_examples=40, deadline=None)
@given(graphs(), st.data())
def test_a_subgraph_has_the_edges_between_its_nodes(graph, data):
    nodes = data.draw(st.lists(st.integers(0, graph.order.n_nodes - 1), min_size=1, unique=True))
    kept, part = with_all_ends(graph, nodes), graph.subgraph(nodes)
    np.testing.assert_array_equal(dense(part), dense(graph)[np.ix_(kept, kept)])
    sums = [dense(each).sum(1) + each.column("dropped") for each in (graph, part)]
    np.testing.assert_allclose(sums[1], sums[0][kept], rtol=1e-4, atol=1e-4)
    left_out = np.abs(dense(graph))[np.ix_(kept, ~kept)].sum(1)
    np.testing.assert_allclose(part.column("left_out"), left_out, rtol=1e-9)


def test_subgraphs_are_kept_in_files(tmp_path):
    graph = random_graph(6, n_features=40)
    part = graph.subgraph([*range(0, 40, 2)], min_influence=0.01)
    again = open_graph(part.save(tmp_path / "part.arrow"))
    assert again.scores() == part.scores()
    assert again.scores().graph == "subgraph"
    assert again.info["subgraph"] == [
        {"nodes": graph.order.n_nodes, "edges": graph.n_edges, "named": 20, "min_influence": 0.01}
    ]
    assert repr(again).startswith("<Subgraph of")
    with pytest.raises(ArgumentError, match="has lost influence"):
        part.certainty()
    assert from_networkx(part.to_networkx()).scores() == part.scores()


def test_a_subgraph_can_be_pruned_and_a_pruned_graph_has_subgraphs():
    graph = random_graph(6, n_features=40, n_layers=6)
    part = graph.subgraph(min_influence=0.01)
    pruned = part.prune(0.6, 0.9)
    assert pruned.order.n_nodes < part.order.n_nodes
    assert pruned.info["subgraph"] == part.info["subgraph"]
    assert pruned.scores().graph == "subgraph"
    assert pruned.scores().completeness <= part.scores().completeness + 1e-9
    other = graph.prune(0.9, 0.99).subgraph(min_influence=0.05)
    assert other.info["pruning"]["node_threshold"] == 0.9
    assert other.scores().graph == "subgraph"


def test_subgraphs_by_influence_and_label():
    graph = random_graph(6, n_features=40)
    influence = graph.influence()
    part = graph.subgraph(min_influence=0.02)
    assert part.order.n_features == (influence[graph.order.features] >= 0.02).sum()
    graph.label([0, 7], "Not cold")
    graph.label([9, graph.order.errors.start], "cold (winter)")
    assert graph.subgraph(label="COLD").order.counts[:2] == (3, 1)
    assert graph.subgraph(label="^not cold$").order.counts[:2] == (2, 0)
    assert graph.subgraph(label=r"\(winter").order.counts[:2] == (1, 1)
    assert graph.subgraph("Not cold", label="winter|not").labels == graph.subgraph([0, 7]).labels
    assert graph.subgraph(["@1:3"], label="cold").order.n_features <= 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Give nodes, min_influence or label"),
        ({"min_influence": 2}, "min_influence is 2"),
        ({"min_influence": float("nan")}, "must lie between"),
        ({"label": "("}, "no regular expression"),
        ({"label": 3}, "no regular expression"),
        ({"label": "hot"}, "no label of this graph"),
        ({"nodes": []}, "no nodes are named"),
        ({"nodes": "L1#99999"}, "not in this graph"),
    ],
)
def test_impossible_subgraphs_are_refused(options, words):
    graph = random_graph(1)
    graph.label(0, "cold")
    with pytest.raises(ArgumentError, match=words):
        graph.subgraph(**options)


def test_damaged_sizes_of_what_is_left_out_are_refused(tmp_path):
    part = random_graph(6, n_features=40).subgraph(min_influence=0.01)
    index = part.nodes.schema.get_field_index("left_out")
    for value in (-1.0, float("inf"), float("nan")):
        column = pa.array(np.full(part.order.n_nodes, value))
        edited = Graph(part.nodes.set_column(index, part.nodes.schema.field(index), column), part.info)
        with pytest.raises(ArgumentError, match="cannot be saved"):
            edited.save(tmp_path / "edited.arrow")


# --- the synthetic graph of the benchmark ---------------------------------------------------


def test_the_synthetic_graph_has_its_sizes_and_can_be_opened(tmp_path):
    size = GraphSize(layers=4, positions=5, nodes=300, targets=3, edges=4_000)
    graph, other = synthetic_graph(size), synthetic_graph(size, changed=0.2)
    assert (graph.order.n_nodes, graph.n_edges) == (300, 4_000)
    assert open_graph(graph.save(tmp_path / "graph.arrow")).nodes.equals(graph.nodes)
    sites = [
        set(zip(*(g.column(name, -1).tolist() for name in ("layer", "position", "feature")), strict=True))
        for g in (graph, other)
    ]
    assert len(sites[0] - sites[1]) == round(0.2 * graph.order.n_features)
    assert synthetic_graph(size).nodes.equals(graph.nodes)
    heaviest = max(graph.info["targets"], key=lambda target: target["weight"])["node"]
    editable = slice(0, graph.order.n_editable)
    expected = total_effects(graph, [heaviest])[0]
    np.testing.assert_allclose(graph.effects_on(kind="total")[editable], expected[editable], rtol=1e-5)

"""The strongest paths against an enumeration of all paths; and the same graph in NetworkX."""

import networkx as nx
import numpy as np
import pytest
from helpers.dense_influence import normalised
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrace.graphs import Path, describe_path, node_label, strongest_paths

SMALL = graphs(n_features=8, n_errors=3)


def all_paths(graph, target=None, through_errors=False):
    """Return every path of positive strength from a token (or error) to a target: nodes -> (strength, sign)."""
    matrix, order = dense(graph), graph.order
    shares, starts = normalised(matrix), {*range(order.tokens.start, order.tokens.stop)}
    if through_errors:
        starts |= {*range(order.errors.start, order.errors.stop)}
    found = {}

    def extend(nodes, strength, sign):
        if nodes[0] in starts:
            found[nodes] = strength, sign
        for source in np.flatnonzero(matrix[nodes[0]]).tolist():
            extend((source, *nodes), strength * shares[nodes[0], source], sign * int(np.sign(matrix[nodes[0], source])))

    for node in {t["node"] for t in graph.info["targets"]} if target is None else {target}:
        extend((node,), graph.target_weights[node], 1)
    return found


@settings(max_examples=100, deadline=None)
@given(SMALL, st.booleans(), st.integers(0, 12), st.data())
def test_the_strongest_of_all_paths(graph, through_errors, count, data):
    target = data.draw(st.sampled_from([None, *(t["node"] for t in graph.info["targets"])]))
    expected = all_paths(graph, target, through_errors)
    found = strongest_paths(graph, target, count, through_errors)
    strongest = sorted((strength for strength, _ in expected.values()), reverse=True)[:count]
    assert [path.strength for path in found] == pytest.approx(strongest, rel=1e-9)
    assert len({path.nodes for path in found}) == len(found)
    for path in found:
        assert (path.strength, path.sign) == (pytest.approx(expected[path.nodes][0]), expected[path.nodes][1])


@settings(max_examples=50, deadline=None)
@given(SMALL, st.integers(1, 5), st.integers(1, 12), st.booleans())
def test_the_strongest_of_all_paths_of_some_length(graph, min_length, count, through_errors):
    expected = {
        nodes: strength
        for nodes, (strength, _) in all_paths(graph, through_errors=through_errors).items()
        if len(nodes) > min_length
    }
    found = strongest_paths(graph, None, count, through_errors, min_length)
    strongest = sorted(expected.values(), reverse=True)[:count]
    assert [path.strength for path in found] == pytest.approx(strongest, rel=1e-9)
    assert all(path.strength == pytest.approx(expected[path.nodes]) for path in found)


def test_a_path_without_an_edge_is_refused():
    with pytest.raises(ValueError, match="at least one edge"):
        strongest_paths(random_graph(1), min_length=0)


@settings(max_examples=50, deadline=None)
@given(SMALL)
def test_all_paths_together_are_the_influence(graph):
    total = np.zeros(graph.order.n_nodes)
    for path in strongest_paths(graph, count=10**6, through_errors=True):
        total[path.nodes[0]] += path.strength
    starts = slice(graph.order.errors.start, graph.order.tokens.stop)
    np.testing.assert_allclose(total[starts], graph.influence()[starts], rtol=1e-9, atol=1e-15)
    assert total.sum() == pytest.approx(total[starts].sum())


def test_errors_are_starts_only_if_asked_for():
    graph = random_graph(1, n_errors=12, density=1)
    errors = range(graph.order.errors.start, graph.order.errors.stop)
    assert not any(set(path.nodes) & set(errors) for path in strongest_paths(graph, count=1000))
    assert any(path.nodes[0] in errors for path in strongest_paths(graph, count=1000, through_errors=True))


def test_an_unknown_target_is_refused():
    graph = random_graph(1, feature_targets=1, n_logits=2)
    nodes = [target["node"] for target in graph.info["targets"]]
    for node in {*range(-1, graph.order.n_nodes + 1)} - {*nodes}:
        with pytest.raises(ValueError, match=rf"node {node} is not a target .* nodes \[{nodes[0]}, "):
            strongest_paths(graph, node)


def test_a_target_without_input_has_no_paths():
    graph = random_graph(1, density=0)
    assert strongest_paths(graph) == []
    assert strongest_paths(random_graph(1), count=0) == []


def test_paths_are_described_in_words():
    graph = random_graph(3, n_features=12, n_errors=4)
    texts = graph.nodes["text"].to_pylist()
    layer, position, feature = (graph.column(name, -1).tolist() for name in ("layer", "position", "feature"))
    error, token, logit = graph.order.errors.start, graph.order.tokens.start, graph.order.logits.start
    names = [
        f"L{layer[5]}#{feature[5]}@{position[5]}",
        f"L{layer[error]}#error@{position[error]}",
        f"{texts[token + 1]!r}@1",
        "'logit 0'",
    ]
    nodes = (5, error, token + 1, logit)
    assert [node_label(graph, node) for node in nodes] == names
    assert describe_path(graph, Path(nodes, 0.5, -1)) == " → ".join(names)


# --- NetworkX -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_networkx_has_the_same_nodes_and_edges(graph):
    converted = graph.to_networkx()
    assert list(converted) == list(range(graph.order.n_nodes))
    targets, sources = np.nonzero(graph.adjacency().toarray())
    edges = {(s, t): w for s, t, w in converted.edges(data="weight")}
    assert len(edges) == graph.n_edges
    assert all(edges[s, t] == dense(graph)[t, s] for s, t in zip(sources.tolist(), targets.tolist(), strict=True))
    assert nx.is_directed_acyclic_graph(converted)


def test_networkx_has_the_attributes():
    graph = random_graph(2, feature_targets=1)
    converted = graph.to_networkx()
    for row in graph.nodes.drop_columns(["sources", "weights"]).to_pylist():
        assert converted.nodes[row["node"]] == {name: value for name, value in row.items() if value is not None}
    assert converted.graph == graph.info
    logit = graph.order.logits.start
    assert converted.nodes[logit]["kind"] == "logit"
    assert converted.in_degree(logit) > 0
    assert converted.out_degree(logit) == 0


def test_networkx_takes_any_metadata():
    graph = random_graph(2)
    graph.info["incoming_graph_data"] = [(1, 2)]
    graph.info["backend"] = "none"
    assert graph.to_networkx().number_of_edges() == graph.n_edges

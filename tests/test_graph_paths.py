"""The strongest paths against an enumeration of all paths; and the same graph in NetworkX."""

import io
import json
import re

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
        with pytest.raises(ValueError, match=rf"^{node} is not a target .* nodes {nodes[0]} \("):
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
        expected = {name: value for name, value in row.items() if value is not None}
        expected["node_label"] = expected.pop("label")  # GML and GEXF take `label` for the node's name
        for name in ("effect", "expected_effect"):  # lists, which not every writer of NetworkX can write
            expected |= {f"{name}_{t}": value for t, value in enumerate(expected.pop(name, []))}
        assert converted.nodes[row["node"]] == expected
    assert json.loads(converted.graph["info"]) == graph.info
    assert converted.graph["prompt"] == graph.info["prompt"]
    logit = graph.order.logits.start
    assert converted.nodes[logit]["kind"] == "logit"
    assert converted.in_degree(logit) > 0
    assert converted.out_degree(logit) == 0


def test_networkx_takes_any_metadata():
    graph = random_graph(2)
    graph.info["incoming_graph_data"] = [(1, 2)]
    graph.info["backend"] = "none"
    assert graph.to_networkx().number_of_edges() == graph.n_edges


@pytest.fixture
def exported():
    """Return a graph with every kind of text, as NetworkX has it."""
    graph = random_graph(5, n_positions=8, n_features=30, n_errors=10, feature_targets=1)
    graph.label(0, "a \"b\" 'c' <d> &amp; \x02\r\n\t\u2028 é 🜁")
    graph.label(1, "\x00")
    graph.notes = "\x00"
    graph.group("both", [0, 1])
    return graph.to_networkx()


FORMATS = {
    "graphml": (nx.write_graphml, nx.read_graphml),
    "graphml_xml": (nx.write_graphml_xml, nx.read_graphml),
    "gexf": (nx.write_gexf, nx.read_gexf),
    "gml": (nx.write_gml, nx.read_gml),
    "adjlist": (nx.write_adjlist, lambda file: nx.read_adjlist(file, create_using=nx.DiGraph)),
    "multiline": (nx.write_multiline_adjlist, lambda f: nx.read_multiline_adjlist(f, create_using=nx.DiGraph)),
    "edgelist": (nx.write_edgelist, lambda file: nx.read_edgelist(file, create_using=nx.DiGraph)),
    "weighted": (nx.write_weighted_edgelist, lambda f: nx.read_weighted_edgelist(f, create_using=nx.DiGraph)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_networkx_writes_every_format_and_reads_it_back(exported, name):
    write, read = FORMATS[name]
    file = io.BytesIO()
    write(exported, file)
    file.seek(0)
    found = {(int(s), int(t)): data for s, t, data in read(file).edges(data=True)}
    assert found.keys() == set(exported.edges)
    if name not in ("adjlist",):
        for edge, data in found.items():
            assert float(data["weight"]) == exported.edges[edge]["weight"]


@pytest.mark.parametrize("name", ["graphml", "gexf", "gml"])
def test_formats_with_attributes_keep_all_of_them(exported, name):
    write, read = FORMATS[name]
    file = io.BytesIO()
    write(exported, file)
    file.seek(0)
    found = read(file)
    for node in exported:
        attributes = dict(found.nodes[str(node)])
        attributes.pop("label", None)
        assert attributes == exported.nodes[node]
    if name != "gexf":  # which has no attributes of graphs
        assert json.loads(found.graph["info"]) == json.loads(exported.graph["info"])


@pytest.mark.parametrize("convert", [nx.node_link_data, nx.adjacency_data, nx.cytoscape_data])
def test_networkx_writes_json(exported, convert):
    data = json.loads(json.dumps(convert(exported)))
    if convert is nx.node_link_data:
        assert nx.node_link_graph(data).adj == exported.adj
    assert exported.graph["prompt"] in json.dumps(data, ensure_ascii=False) or convert is nx.cytoscape_data


def test_networkx_writes_pajek_latex_and_text(exported):
    file = io.BytesIO()
    with pytest.warns(UserWarning, match="Non-string attribute"):  # Pajek has texts only
        nx.write_pajek(exported, file)
    lines = file.getvalue().decode().splitlines()
    assert f"*vertices {len(exported)}" in lines
    assert sum(bool(re.fullmatch(r"\d+ \d+ \S+", line)) for line in lines) == exported.number_of_edges()
    assert nx.to_latex(exported).count("\\draw") or nx.to_latex(exported).count("->")
    assert len(list(nx.generate_network_text(exported))) >= len(exported)
    for write in (nx.write_graph6, nx.write_sparse6):  # NetworkX has them for undirected graphs only
        write(exported.to_undirected(), file)

"""Sizes of edits in units of a feature's usual activation."""

import numpy as np
import pytest
from helpers.random_graphs import random_graph

from cotrace import ArgumentError, Feature, add, set_to
from cotrace.cli.edit_syntax import parse_edits
from cotrace.graphs import summarize
from cotrace.graphs.nodes import ErrorNode
from cotrace.graphs.usual import usual_activations


@pytest.fixture(scope="module")
def graph():
    return random_graph(6, n_features=40, n_layers=3)


def rows(graph):
    return graph.nodes.slice(0, graph.order.n_features).to_pylist()


def test_the_usual_activation_is_the_mean_over_active_positions(graph):
    expected = {}
    for row in rows(graph):
        expected.setdefault((row["layer"], row["feature"]), []).append(row["activation"])
    assert any(len(values) > 1 for values in expected.values())
    usual = usual_activations(graph)
    for row in rows(graph):
        mean = np.mean(expected[row["layer"], row["feature"]])
        assert usual[row["node"]] == pytest.approx(mean, rel=1e-6)
        assert graph.usual_activation(Feature(row["layer"], row["feature"])) == pytest.approx(mean, rel=1e-6)
        assert graph.usual_activation(f"L{row['layer']}#{row['feature']}@3") == pytest.approx(mean, rel=1e-6)
    for node in summarize(graph, n_nodes=50).nodes:
        assert node.usual == pytest.approx(usual[node.node])
    with pytest.raises(ArgumentError, match="not in the graph"):
        graph.usual_activation("L2#999")
    assert len(usual_activations(random_graph(1, n_features=0))) == 0


def test_sizes_on_the_command_line_are_multiples_of_the_usual_activation(graph):
    row = rows(graph)[0]
    feature = Feature(row["layer"], row["feature"], "generated")
    usual = graph.usual_activation(feature)
    assert parse_edits({"add": [f"{feature}=3x"]}, graph) == {feature: add(3 * usual)}
    assert parse_edits({"add": [f"{feature}=-1.5×"]}, graph) == {feature: add(-1.5 * usual)}
    assert parse_edits({"set": [f"{feature}=2x"]}, graph) == {feature: set_to(2 * usual)}
    assert parse_edits({"add": [f"{feature}=3"]}, graph) == {feature: add(3)}
    for text in (f"{feature}=3x", f"{ErrorNode(0, 1)}=3x"):
        with pytest.raises(ArgumentError, match="name it with --graph"):
            parse_edits({"add": [text]}, None if "error" not in text else graph)
    with pytest.raises(ArgumentError, match="not a number"):
        parse_edits({"multiply": [f"{feature}=3x"]}, graph)
    with pytest.raises(ArgumentError, match="not a number"):
        parse_edits({"add": [f"{feature}=1.2.3x"]}, graph)


def test_show_prints_the_usual_activation(graph, command, tmp_path):
    shown = command("show", graph.save(tmp_path / "graph.arrow"))[1]
    assert "usual" in shown
    assert f"{summarize(graph).nodes[0].usual:.3g}" in shown

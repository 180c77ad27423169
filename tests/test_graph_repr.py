"""Reprs of graphs and their parts: one informative line each, and a picture in notebooks."""

from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.random_graphs import random_graph

from cotrace.graphs import graph as graph_module
from cotrace.graphs import strongest_paths
from cotrace.graphs.drawing.render import svg_text
from cotrace.graphs.rows import RowWriter, rows_of_block


@pytest.fixture(scope="module")
def graph():
    return random_graph(5, n_features=30, n_errors=10)


def test_a_repr_has_the_size_and_whether_the_graph_is_pruned(graph):
    features, errors, tokens, logits = graph.order.counts
    assert repr(graph).endswith(
        f": {features} features, {errors} errors, {tokens} tokens, {logits} logits, {graph.n_edges} edges>"
    )
    assert repr(graph).startswith("<Graph of ")
    assert repr(graph.prune()).startswith("<Pruned graph of ")


def test_every_part_is_one_line(graph):
    block = np.ones((2, 3), np.float32), np.arange(3, dtype=np.int32)
    parts = [
        graph,
        graph.csr,
        graph.order,
        graph.scores(),
        graph.select(),
        graph.certainty(),
        strongest_paths(graph)[0],
        rows_of_block(np.arange(2), *block),
        RowWriter(np.float32, 5, 100),
    ]
    assert all(len(repr(part).splitlines()) == 1 for part in parts)
    assert repr(graph.csr) == f"CSR({graph.order.n_nodes} rows, {graph.n_edges} edges, float32)"
    selection = graph.select()
    assert repr(selection) == (
        f"GraphSelection({selection.nodes.sum()} of {graph.order.n_nodes} nodes, "
        f"{selection.edges.sum()} of {graph.n_edges} edges)"
    )
    counts = graph.certainty().counts()
    assert repr(graph.certainty()) == (
        f"PruningBounds({counts['inside']} inside, {counts['outside']} outside, {counts['undecided']} undecided)"
    )
    assert repr(parts[-2]) == "SparseRows(2 rows, 6 edges, float32)"
    assert repr(parts[-1]) == "<RowWriter: 0 edges of at most 100>"


def test_a_notebook_shows_the_picture(graph):
    shown = graph.prune()._repr_html_()
    assert ElementTree.fromstring(shown).tag.endswith("svg")
    assert shown == svg_text(graph.prune())


def test_a_large_graph_is_a_line_of_text_in_a_notebook(graph, monkeypatch):
    monkeypatch.setattr(graph_module, "HTML_MAX_NODES", graph.order.n_nodes - 1)
    shown = graph._repr_html_()
    assert "svg" not in shown
    assert "prune()" in "".join(ElementTree.fromstring(shown).itertext())
    assert repr(graph) in "".join(ElementTree.fromstring(shown).itertext())

"""The first picture of a large page: shown before all edges are read, and equal to the one that follows from them."""

import json

import numpy as np
import pyarrow as pa
import pytest
from helpers.random_graphs import random_graph
from test_viewer_prune import part_of, sampled_graphs, twenty_graphs, without_rows

from cotrace.graphs.annotations import node_names
from cotrace.viewer.page import first_picture
from cotrace.viewer.page.payload import PageFile, page_html, write_page

LARGE = {"n_layers": 8, "n_positions": 6, "n_features": 120, "n_errors": 40, "n_logits": 4}
# For each picture, what it is, and whether it came before the rest of the page was read.
WATCH = """globalThis.pictures = [];
new MutationObserver((changes) => {
    for (const { target } of changes) pictures.push({ name: target.dataset.picture, isEarly: document.getElementById("app").inert });
}).observe(document, { subtree: true, attributeFilter: ["data-picture"] })"""
# Whether the circuit would look the same if it were drawn again, from all edges and the result of the worker.
STAYS = """() => {
    const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
    const drawn = () => JSON.stringify([cotrace.circuit.model, cotrace.circuit.scene], plain);
    const [model, before] = [cotrace.circuit.model, drawn()];
    cotrace.circuit.refresh();
    return model !== cotrace.circuit.model && before === drawn();
}"""


@pytest.fixture(autouse=True)
def _every_page_has_a_first_picture(monkeypatch):
    monkeypatch.setattr(first_picture, "LEAST_EDGES", 0)
    monkeypatch.setattr(first_picture, "MOST_SHARE", 1)


def opened(open_page, graph, folder, state=None):
    """Return the page of a graph, with a saved state."""
    path = write_page([PageFile("a.arrow", graph)], folder / "a.html")
    if state:
        saved = f'<script type="application/json" id="state">{json.dumps({"files": [state]})}</script>'
        header = '<script type="application/json" id="page">'
        path.write_text(path.read_text().replace(header, saved + header))
    return open_page(path, before=WATCH)


GRAPHS = {
    "without rows": without_rows(random_graph(11, **LARGE), 0.3),
    "sampled": sampled_graphs()[0],
    "pruned": random_graph(3, **LARGE, effects=False, feature_targets=2).prune(0.9, 0.99),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_the_first_picture_comes_early_and_stays(tmp_path, open_page, graph):
    page = opened(open_page, graph, tmp_path)
    page.evaluate("cotrace.circuit.settled()")
    pictures = page.evaluate("pictures")
    assert pictures[0] == {"name": "draft", "isEarly": True}
    assert [each["name"] for each in pictures] == ["draft", "whole"]  # pruning found the same: nothing was drawn again
    assert page.evaluate(STAYS)
    assert not page.evaluate("document.getElementById('app').inert")


def test_the_first_picture_has_what_python_keeps():
    for graph in [*twenty_graphs(), *sampled_graphs(), part_of(random_graph(15, **LARGE))]:
        table = pa.ipc.open_file(first_picture.first_picture(graph)).read_all()
        selection = graph.select()
        assert table["kept"].to_numpy().tolist() == selection.nodes.tolist()
        for name, values in {"sources": graph.csr.indices, "weights": graph.csr.weights}.items():
            assert table[name].combine_chunks().flatten().to_numpy().tolist() == values[selection.edges].tolist()
        assert table["kind"].to_pylist() == graph.nodes["kind"].to_pylist()
        influence = np.where(selection.nodes, graph.column("influence"), 0)
        assert table["influence"].to_numpy().tolist() == influence.tolist()


def test_a_state_that_shows_other_edges_waits_for_them(tmp_path, open_page):
    graph = random_graph(1, **LARGE)
    hidden = np.flatnonzero(~graph.select().edges)[0]
    ends = node_names(graph, [graph.csr.indices[hidden], graph.csr.edge_targets()[hidden]])
    edge = " -> ".join(map(str, ends))
    page = opened(open_page, graph, tmp_path, {"nodeThreshold": 0.5, "pins": [edge]})
    assert not page.evaluate("pictures.some(({ isEarly }) => isEarly)")
    assert (
        page.evaluate("cotrace.results[0].nodes.reduce((sum, each) => sum + each, 0)") == graph.select(0.5).nodes.sum()
    )
    assert page.evaluate("cotrace.store.file(0).pins") == [edge]


def test_a_state_that_shows_the_same_edges_does_not_wait(tmp_path, open_page):
    graph = random_graph(1, **LARGE)
    state = {"pins": [str(node_names(graph, [0])[0])], "collapsed": [[1, 2]], "view": {"x": 9, "y": 9, "scale": 2}}
    page = opened(open_page, graph, tmp_path, state)
    assert page.evaluate("pictures[0].isEarly")
    assert page.evaluate("(({ pins, collapsed, view }) => ({ pins, collapsed, view }))(cotrace.store.file(0))") == state
    assert page.evaluate(STAYS)


def test_a_page_whose_rest_is_damaged_says_so(tmp_path, browser):
    path = write_page([PageFile("a.arrow", random_graph(3))], tmp_path / "a.html")
    path.write_text(path.read_text().replace('id="part-graph-0">H4', 'id="part-graph-0">X4'))
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#fallback.failed")
    assert "its part graph-0 is damaged" in page.locator("#fallback p").inner_text()
    assert not page.locator("#app").is_visible()
    page.close()


def test_small_pages_and_pages_of_two_graphs_have_none(monkeypatch):
    graph = random_graph(1, **LARGE)
    files = [PageFile("a.arrow", graph), PageFile("b.arrow", graph)]
    assert "part-first" in page_html(files[:1])
    assert "part-first" not in page_html(files)
    monkeypatch.setattr(first_picture, "MOST_SHARE", graph.select().edges.mean() * 0.99)
    assert "part-first" not in page_html(files[:1])
    monkeypatch.setattr(first_picture, "MOST_SHARE", 1)
    monkeypatch.setattr(first_picture, "LEAST_EDGES", graph.n_edges + 1)
    assert "part-first" not in page_html(files[:1])

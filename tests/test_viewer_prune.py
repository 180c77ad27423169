"""Pruning and scores in the page: the same nodes, edges and scores as in Python, and the controls."""

import copy

import numpy as np
import pytest
from helpers.random_graphs import random_graph

from cotrace.graphs import CSR, Graph, NodeKind, schema
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.influence import node_influence
from cotrace.graphs.schema import build_table
from cotrace.viewer.page.payload import PageFile, write_page

THRESHOLDS = [(0.8, 0.98), (0.5, 0.9), (0.95, 1), (0.3, 0.6), (1, 1), (0, 0)]


def replaced(graph, csr, columns=None, traced=None):
    """Return a graph with other edges, the influence along these, and other columns."""
    info = copy.deepcopy(graph.info)
    info["traced"] |= traced or {}
    kept = [name for name in graph.nodes.column_names if name not in ("node", "kind", "sources", "weights")]
    values = {name: graph.nodes[name].chunk(0) for name in kept}
    values["influence"] = node_influence(csr, graph.target_weights)
    return Graph(build_table(graph.order, values | (columns or {}), csr, info), info)


def with_small_numbers(graph):
    """Return a graph whose weights are 0, 1 or 2, so that many influences and cumulative shares tie."""
    return replaced(graph, graph.csr._replace(weights=np.abs(graph.csr.weights).round().clip(max=2)))


def without_rows(graph, share):
    """Return a graph that lacks the rows of some features, with a bound for every node."""
    rng, order = np.random.default_rng(0), graph.order
    lacks = order.has_kind(NodeKind.FEATURE) & (rng.random(order.n_nodes) < share)
    kept = ~lacks[graph.csr.edge_targets()]
    lengths = np.where(lacks, 0, graph.csr.row_lengths())
    csr = CSR(indptr_of(lengths), graph.csr.indices[kept], graph.csr.weights[kept])
    bound = rng.random(order.n_nodes) * 0.02
    return replaced(graph, csr, {"computed": graph.computed & ~lacks, "influence_bound": bound}, {"bound": 0.02})


def part_of(graph, seed=0):
    """Return a subgraph of about two thirds of the nodes."""
    chosen = np.flatnonzero(np.random.default_rng(seed).random(graph.order.n_nodes) < 0.7)
    return graph.subgraph(chosen.tolist())


def twenty_graphs():
    large = {"n_layers": 8, "n_positions": 6, "n_features": 120, "n_errors": 40, "n_logits": 4}
    wide = random_graph(1, **large)
    return [
        *(random_graph(seed) for seed in range(4)),
        wide,
        random_graph(2, **large, density=0.2),
        random_graph(3, **large, dtype=np.float64, feature_targets=2),
        random_graph(4, feature_targets=3, effects=False),
        random_graph(5, n_features=0),
        random_graph(6, n_features=0, n_errors=0, density=0),
        random_graph(7, n_errors=0),
        random_graph(8, density=0),
        *(with_small_numbers(random_graph(seed, **large)) for seed in (9, 10)),
        without_rows(random_graph(11, **large), 0.3),
        without_rows(random_graph(12, **large, feature_targets=1), 0.9),
        wide.prune(0.9, 0.95),
        wide.prune(0.95, 0.99, keep_errors=True).prune(0.8, 0.9, keep_errors=True),
        part_of(random_graph(13, **large)),
        part_of(without_rows(random_graph(14, **large), 0.3)).prune(0.9, 0.97),
    ]


def options_of(graph):
    """Return thresholds and whether to keep errors, as far as the graph was not pruned of them."""
    held = graph.info["pruning"] or {"node_threshold": 1, "edge_threshold": 1, "keep_errors": True}
    return [
        (min(node, held["node_threshold"]), min(edge, held["edge_threshold"]), held["keep_errors"] and bool(number % 2))
        for number, (node, edge) in enumerate(THRESHOLDS)
    ]


def in_page(page, number, options, mask):
    """Return what the pruner of a file answers for each option, and the scores of a mask."""
    script = """async ([number, options, mask]) => {
        const { pruner } = cotrace.files[number];
        const results = [];
        for (const [nodeThreshold, edgeThreshold, keepErrors] of options) {
            const result = await pruner.prune({ nodeThreshold, edgeThreshold, keepErrors });
            results.push({ ...result, nodes: [...result.nodes], edges: [...result.edges] });
        }
        return { results, scores: await pruner.scores(Uint8Array.from(mask)) };
    }"""
    return page.evaluate(script, [number, options, mask.astype(int).tolist()])


def assert_same_pruning(graph, options, found):
    selection, pruned = graph.select(*options), graph.prune(*options)
    assert found["nodes"] == selection.nodes.astype(int).tolist()
    assert found["edges"] == np.flatnonzero(selection.edges).tolist()
    assert_same_scores(pruned.scores(), found["scores"])
    assert found["hidden"]["nodes"] == (~selection.nodes).sum()
    if (certainty := pruned.info["pruning"].get("certainty")) and not graph.info["pruning"]:
        assert found["certainty"] == certainty
    else:
        assert found["certainty"] is None


def assert_same_scores(scores, found):
    assert found == pytest.approx({"replacement": scores.replacement, "completeness": scores.completeness}, abs=1e-12)


def test_the_page_prunes_as_python_does(tmp_path, open_page):
    graphs = twenty_graphs()
    files = [PageFile(f"{number}.arrow", graph) for number, graph in enumerate(graphs)]
    page = open_page(write_page(files, tmp_path / "twenty.html"))
    for number, graph in enumerate(graphs):
        options = options_of(graph)
        mask = np.random.default_rng(number).random(graph.order.n_nodes) < 0.5
        found = in_page(page, number, options, mask)
        for one, result in zip(options, found["results"], strict=True):
            assert_same_pruning(graph, one, result)
        assert_same_scores(graph.scores(np.flatnonzero(mask).tolist()), found["scores"])


def test_offsets_of_64_bits(tmp_path, open_page, monkeypatch):
    monkeypatch.setattr(schema, "LARGE_LIST_EDGES", 0)
    graph = random_graph(0)
    page = open_page(write_page([PageFile("wide.arrow", graph)], tmp_path / "wide.html"))
    found = in_page(page, 0, [(0.8, 0.98, False)], np.ones(graph.order.n_nodes))
    assert_same_pruning(graph, (0.8, 0.98, False), found["results"][0])

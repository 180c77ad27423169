"""Pruning and scores in the page: the same nodes, edges and scores as in Python, and the controls."""

import copy

import numpy as np
import pytest
from helpers.random_graphs import random_graph
from helpers.sampled_graphs import sampled_graph

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


LARGE = {"n_layers": 8, "n_positions": 6, "n_features": 120, "n_errors": 40, "n_logits": 4}


def sampled_graphs():
    """Return sampled graphs of few and many draws, and what was cut from one."""
    wide, _ = sampled_graph(1, share=2.0, **LARGE, dtype=np.float32)
    return [
        wide,
        sampled_graph(2, n_replicates=2, **LARGE, feature_targets=2)[0],
        sampled_graph(3, n_replicates=9, share=0.0, added=20, **LARGE)[0],
        sampled_graph(4, n_features=1)[0],
        wide.prune(0.9, 0.95),
        part_of(wide),
    ]


def twenty_graphs():
    large = LARGE
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
    record = {} if graph.info["pruning"] else pruned.info["pruning"]
    assert found["certainty"] == record.get("certainty")
    chance = record.get("sampling")
    assert found["sampling"] == (chance and {name: chance[name] for name in ("ranked", "uncertain")})


def assert_same_scores(scores, found):
    assert found.keys() == scores.entries().keys()
    for name, value in scores.entries().items():
        assert found[name] == pytest.approx(value, abs=1e-12)


def test_the_page_prunes_as_python_does(tmp_path, open_page):
    graphs = twenty_graphs() + sampled_graphs()
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


def test_an_overtaken_request_gets_the_newest_answer(tmp_path, open_page):
    page = open_page(write_page([PageFile("a.arrow", random_graph(1))], tmp_path / "a.html"))
    script = """async () => {
        const { pruner } = cotrace.files[0];
        const ask = (nodeThreshold) => pruner.prune({ nodeThreshold, edgeThreshold: 1, keepErrors: false });
        const [first, overtaken, newest] = await Promise.all([ask(0.1), ask(1), ask(0.4)]);
        return [first === newest, overtaken === newest];
    }"""
    assert page.evaluate(script) == [False, True]


# --- controls -------------------------------------------------------------------------------


@pytest.fixture
def graph():
    return random_graph(1, n_layers=8, n_positions=6, n_features=120, n_errors=40, n_logits=4)


@pytest.fixture
def page_of(tmp_path, open_page):
    """Return a function that opens the page of some graphs."""

    def opened(*graphs):
        files = [PageFile(f"{number}.arrow", graph) for number, graph in enumerate(graphs)]
        return open_page(write_page(files, tmp_path / "controls.html"))

    return opened


def control(page, name):
    return page.locator(".controls").get_by_label(name, exact=True)


def expect_pruned(page, graph, *options, file=0):
    """Wait until the page shows what Python keeps."""
    kept = int(graph.select(*options).nodes.sum())
    counted = "(file) => cotrace.results[file]?.nodes.reduce((sum, each) => sum + each, 0)"
    page.wait_for_function(f"([file, kept]) => ({counted})(file) === kept", arg=[file, kept])


def test_sliders_numbers_and_keys_prune_live(graph, page_of):
    page = page_of(graph)
    expect_pruned(page, graph)
    nodes, edges = control(page, "Nodes: share of influence"), control(page, "Edges: share of influence")
    nodes.fill("0.5")
    expect_pruned(page, graph, 0.5)
    nodes.press("ArrowLeft")
    expect_pruned(page, graph, 0.495)
    edges.fill("0.7")
    expect_pruned(page, graph, 0.495, 0.7)
    number = control(page, "Nodes: share of influence, as a number")
    number.fill("0.6125")
    expect_pruned(page, graph, 0.6125, 0.7)
    assert nodes.get_attribute("aria-valuetext") == "0.6125 of the influence"
    number.fill("7")
    number.blur()
    assert number.input_value() == "0.6125", "a number that is no share changes nothing"
    control(page, "All error nodes").check()
    expect_pruned(page, graph, 0.6125, 0.7, True)
    page.keyboard.press(",")
    expect_pruned(page, graph, 0.593, 0.7, True)
    page.keyboard.press("k")
    expect_pruned(page, graph, 0.593, 0.7)
    page.evaluate("cotrace.commands.run('prune.reset')")
    expect_pruned(page, graph)


def test_the_summary_counts_what_is_hidden_and_scores_what_is_shown(graph, page_of):
    page = page_of(graph)
    summary = page.locator(".pruning-summary")
    kept, scores = graph.select().nodes, graph.prune().scores()
    share = graph.influence()[~kept].sum() / graph.influence().sum()
    assert f"{(~kept).sum()} of {len(kept)} nodes hidden, holding {share:.0%} of the influence" in summary.inner_text()
    traced = graph.info["traced"]["scores"]
    words = " ".join(summary.locator(".scores").inner_text().split())
    assert words == (
        f"Replacement {scores.replacement:.2f} traced {traced['replacement']:.2f} "
        f"Completeness {scores.completeness:.2f} traced {traced['completeness']:.2f}"
    )
    names = page.evaluate("[1, 5, 9].map((node) => cotrace.files[0].graph.nameOf(node))")
    page.evaluate("(selected) => cotrace.store.update(0, { selected })", names)
    part = graph.scores([1, 5, 9])
    summary.get_by_text(f"selection {part.replacement:.2f}").wait_for()
    assert summary.get_by_text(f"selection {part.completeness:.2f}").count()


def test_a_pruned_graph_offers_what_it_holds(graph, page_of):
    pruned = graph.prune(0.9, 0.95)
    page = page_of(pruned)
    assert control(page, "Nodes: share of influence").get_attribute("max") == "0.9"
    assert control(page, "Edges: share of influence").get_attribute("max") == "0.95"
    assert control(page, "All error nodes").is_disabled()
    expect_pruned(page, pruned)
    for _ in range(6):
        page.keyboard.press(".")
    expect_pruned(page, pruned, 0.9)
    note = page.get_by_text("of a pruned graph")
    assert "The trace had 170 nodes" in note.get_attribute("title")
    assert "thresholds 0.9 and 0.95" in note.get_attribute("title")


def test_undecided_nodes_are_counted(graph, page_of):
    graph = without_rows(graph, 0.3)
    undecided = graph.certainty(0.8).counts()["undecided"]
    assert page_of(graph).get_by_text(f"{undecided} undecided").is_visible()


def test_a_sampled_graph_says_what_chance_decides_and_how_certain_scores_are(page_of):
    graph, pruned = sampled_graphs()[0], sampled_graphs()[0].prune(0.7)
    page = page_of(graph, pruned)
    chance, scores = graph.prune().info["pruning"]["sampling"], graph.info["traced"]["scores"]
    assert chance["uncertain"] > 0
    note = page.get_by_text(f"{chance['uncertain']} uncertain")
    assert note.get_attribute("title").startswith(f"{chance['ranked']} nodes pass the node threshold")
    low, high = scores["replacement_interval"]
    assert page.get_by_text(f"traced {scores['replacement']:.2f} ({low:.2f}–{high:.2f})").is_visible()
    page.evaluate("cotrace.store.update(0, { selected: [cotrace.files[0].graph.nameOf(1)] })")
    part = graph.scores([1])
    low, high = part.completeness_interval
    selection = page.get_by_text(f"selection {part.completeness:.2f}")
    assert selection.last.get_attribute("title") == f"An estimate; 95% interval: {low:.4f} to {high:.4f}"
    page.evaluate("cotrace.store.updatePage({ file: 1 })")
    uncertain = pruned.info["pruning"]["sampling"]["uncertain"]
    note = page.get_by_text(f"{uncertain} uncertain")
    assert "to which this graph was pruned" in note.get_attribute("title")


def test_limits_of_a_threshold_are_said_and_scores_need_features(graph, page_of):
    page = page_of(graph)
    field = page.get_by_label("Nodes: share of influence, as a number")
    field.fill("1.5")
    field.press("Enter")
    page.get_by_text("Nodes: type a number from 0 to 1").wait_for()
    assert field.input_value() == "0.8"
    field.fill("0")
    field.press("Enter")
    page.get_by_text("no features are shown").first.wait_for()
    assert page.get_by_text("type a number from").count() == 0


def test_graphs_are_pruned_alike_or_each_by_itself(graph, page_of):
    other = graph.prune(0.7, 0.9)
    page = page_of(graph, other)
    control(page, "Nodes: share of influence").fill("0.8")
    control(page, "Nodes: share of influence").fill("0.75")
    expect_pruned(page, graph, 0.75)
    expect_pruned(page, other, 0.7, file=1)
    control(page, "All graphs alike").uncheck()
    control(page, "Nodes: share of influence").fill("0.5")
    expect_pruned(page, graph, 0.5)
    expect_pruned(page, other, 0.7, file=1)

"""Pictures: every format, what they say, what they leave out, and text that would break them."""

import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from cotrace.graphs.drawing.layout import (
    edges_among,
    positions,
    shorten,
    spread,
    strongest_edges,
    strongest_nodes,
    text_width,
    visible,
    wrap,
)
from cotrace.graphs.drawing.render import percent, render, to_dot
from cotrace.graphs.graph import Graph
from cotrace.graphs.influence import node_influence
from cotrace.graphs.order import NodeOrder
from cotrace.graphs.schema import build_table

needs_graphviz = pytest.mark.skipif(
    shutil.which("dot") is None, reason="NOT TESTED: Graphviz is missing (apt install graphviz)"
)

TOKENS = ["<bos>", "The", " opposite", " of", " hot", " is"]
ANSWERS = [(" cold", 0.452), (" not", 0.121), (" warm", 0.061), (" freezing", 0.034), (" the", 0.0004)]


def make_graph(tokens=TOKENS, n_features=45, n_errors=8, n_layers=18, answers=ANSWERS, prompt=None, seed=0, **info):
    """A random graph with the shape of a pruned trace: late positions and few strong edges dominate."""
    rng = np.random.default_rng(seed)
    length = len(tokens)
    late = np.linspace(0.3, 1.0, length) ** 2
    late[0] = late[0] if length == 1 else 0.02
    spots = [
        np.sort(rng.choice(n_layers * length, n, p=np.tile(late / late.sum() / n_layers, n_layers)))
        for n in (n_features, n_errors)
    ]
    order = NodeOrder(n_features, n_errors, length, len(answers))
    layer = np.concatenate([*(spot // length for spot in spots), np.full(length, -1), np.full(len(answers), n_layers)])
    position = np.concatenate(
        [*(spot % length for spot in spots), np.arange(length), np.full(len(answers), length - 1)]
    )
    feature = np.arange(order.n_nodes) * 379 % 16384
    rows = [_incoming(rng, order, row, layer, position) for row in range(order.n_nodes)]
    indptr = np.concatenate([[0], np.cumsum([len(sources) for sources, _ in rows])])
    indices = np.concatenate([sources for sources, _ in rows]).astype(np.int32)
    weights = np.concatenate([weights for _, weights in rows]).astype(np.float32)
    total = sum(probability for _, probability in answers)
    targets = [
        {"node": order.logits.start + i, "kind": "token", "label": text, "weight": p / total, "probability": p}
        for i, (text, p) in enumerate(answers)
    ]
    target_weights = np.zeros(order.n_nodes)
    target_weights[order.logits] = [target["weight"] for target in targets]
    influence = node_influence(indptr, indices, weights, target_weights)
    metadata = {
        "model": {"name": "google/gemma-3-270m", "revision": None, "sha256": None, "n_layers": n_layers},
        "transcoders": {"name": "gemma-scope-2-270m-pt/clt/width_262k_l0_medium_affine", "kind": "clt"},
        "prompt": "".join(tokens) if prompt is None else prompt,
        "token_ids": list(range(length)), "tokens": list(tokens), "position": length - 1, "masked_positions": [0],
        "targets": targets, "settings": {}, "coverage": 1.0, "bound": 0.0,
        "scores": {"replacement": 0.6234, "completeness": 0.871},
        "traced": {"nodes": 3412, "edges": 1204511, "rows": 3000},
        "pruning": {"node_threshold": 0.8, "edge_threshold": 0.98, "keep_errors": False}, "versions": {}, **info,
    }  # fmt: skip
    codes = order.kind_codes()
    missing = np.ma.masked_all(order.n_nodes, np.float32)
    columns = {
        "layer": np.ma.masked_array(layer, codes > 1), "position": position,
        "feature": np.ma.masked_array(feature, codes > 0),
        "token": np.ma.masked_array(np.arange(order.n_nodes), codes < 2),
        "text": [""] * (n_features + n_errors) + list(tokens) + [text for text, _ in answers],
        "activation": missing, "pre_activation": missing, "bias": missing, "probability": missing,
        "influence": influence, "influence_bound": np.zeros(order.n_nodes), "dropped": np.zeros(order.n_nodes),
        "computed": codes % 3 == 0,
    }  # fmt: skip
    return Graph(build_table(order, columns, indptr, indices, weights, metadata), metadata)


def _incoming(rng, order, row, layer, position):
    if order.errors.start <= row < order.tokens.stop:
        return np.zeros(0, int), np.zeros(0)
    below = np.flatnonzero((layer < layer[row]) & (position <= position[row]))
    below = below[below < order.logits.start]
    chance = np.exp(-0.35 * (position[row] - position[below])) * np.where(below >= order.tokens.start, 0.7, 0.3)
    sources = below[rng.random(len(below)) < chance]
    weights = rng.lognormal(0, 1.3, len(sources)) * np.where(rng.random(len(sources)) < 0.75, 1, -1)
    return sources, weights


def large_graph():
    tokens = ["<bos>", *(f" word{index}" for index in range(1, 64))]
    return make_graph(tokens, n_features=500, n_errors=31, n_layers=26, seed=1)


def texts(path):
    """All visible texts of an SVG file."""
    return [element.text or "" for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def boxes(graph, **options):
    """Places of all nodes in a picture's DOT, as name -> (x, y, width, height) in points."""
    found = {}
    for line in to_dot(graph, **options).source.splitlines():
        if match := re.match(r'\t"?([^"\[]+?)"? \[.*height=(\S+) pos="(\S+),(\S+?)".* width=([0-9.]+)', line):
            name, height, x, y, width = match.groups()
            found[name] = (float(x), float(y), 72 * float(width), 72 * float(height))
    return found


# --- files ----------------------------------------------------------------------------------

MAGIC = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"// draw with"}


@needs_graphviz
@pytest.mark.parametrize("ending", MAGIC)
def test_every_format_is_written_and_the_same_twice(tmp_path, ending):
    graph = make_graph()
    first = graph.render(tmp_path / "new" / f"first.{ending}")
    second = graph.render(str(tmp_path / f"second.{ending.upper()}"))
    assert first.read_bytes().startswith(MAGIC[ending])
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_dot_needs_no_graphviz(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = render(make_graph(), tmp_path / "graph.dot")
    assert path.read_text().rstrip().endswith("}")


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_missing_graphviz_names_the_cure_and_leaves_nothing(tmp_path, monkeypatch, ending):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"apt install graphviz, brew install graphviz or conda install .*\.dot"):
        render(make_graph(n_features=5), tmp_path / f"graph.{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "message"), [("cat >/dev/null;", "no such plugin"), ("exec 0<&-;", "cannot draw .png")]
)
def test_failing_graphviz_leaves_the_old_picture(tmp_path, monkeypatch, first, message):
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{first} echo half; echo no such plugin >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    path = tmp_path / "graph.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        render(make_graph(n_features=5), path)
    assert path.read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bin", "graph.png"]


@pytest.mark.parametrize("name", ["graph.jpg", "graph", "svg", "graph.svg.gz"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.pdf or \.dot"):
        render(make_graph(n_features=5), tmp_path / name)


@pytest.mark.parametrize("limits", [{"max_nodes": 1}, {"max_edges": 0}])
def test_limits_too_small_are_refused(tmp_path, limits):
    with pytest.raises(ValueError, match="at least"):
        render(make_graph(n_features=5), tmp_path / "graph.dot", **limits)


# --- what is said ---------------------------------------------------------------------------


@needs_graphviz
def test_everything_is_said(tmp_path):
    graph = make_graph(n_features=40)
    assert graph.order.n_nodes < 60
    shown = texts(graph.render(tmp_path / "graph.svg"))
    for feature in graph.nodes["feature"].drop_null().to_pylist():
        assert str(feature) in shown
    for text in ["<bos>", "The", "␣hot", "␣cold", "45.2%", "0.04%", "L0", "<bos>The opposite of hot is"]:
        assert text in shown
    caption = " ".join(shown)
    for text in ["model google/gemma-3-270m", "transcoders gemma-scope-2-270m-pt/clt", "59 nodes", "80% of node",
                 "98% of edge", "traced 3,412 nodes, 1,204,511 edges", "replacement score 0.62",
                 "completeness score 0.87", "reconstruction error", "positive", "negative edge"]:  # fmt: skip
        assert text in caption
    assert "showing the strongest" not in caption


def test_errors_signs_and_sizes_are_visibly_different():
    lines = to_dot(make_graph(n_features=40)).source.splitlines()
    edges = [line for line in lines if "->" in line]
    assert {match[1] for line in edges if (match := re.search(r'color="(#\w{6})', line))} == {"#0072b2", "#d55e00"}
    assert sum("shape=diamond" in line for line in lines) == 8 + 1  # and one in the legend
    assert (
        len({match[1] for line in lines if "shape=circle" in line and (match := re.search(r"width=(\S+)", line))}) > 9
    )


@needs_graphviz
def test_targets_without_probability_and_target_features(tmp_path):
    graph = make_graph()
    graph.info["targets"] = [
        {**graph.info["targets"][0], "kind": "difference", "label": "cold − hot", "probability": None},
        {"node": 44, "kind": "feature", "label": "L9 P5 F44", "weight": 0.5, "probability": None},
    ]
    graph.info["pruning"] = None
    shown = texts(graph.render(tmp_path / "graph.svg"))
    assert {"cold − hot", "difference", "target feature"} <= set(shown)
    assert "not pruned" in " ".join(shown)


@needs_graphviz
@pytest.mark.parametrize("n_features", [0, 1])
def test_a_single_token(tmp_path, n_features):
    graph = make_graph(["<bos>"], n_features, 0, answers=ANSWERS[:1])
    shown = texts(graph.render(tmp_path / "graph.svg"))
    assert {"<bos>", "␣cold", "45.2%"} <= set(shown)


def test_a_graph_without_edges():
    graph = make_graph(n_features=4, n_errors=0)
    for name in ("sources", "weights"):
        field = graph.nodes.schema.field(name)
        empty = pa.array([[]] * graph.order.n_nodes, type=field.type)
        graph.nodes = graph.nodes.set_column(graph.nodes.schema.get_field_index(name), field, empty)
    assert "0 edges" in to_dot(graph).source


HOSTILE = ['"quo\\te"', "\\", "\\N\\l", "<b>x</b>", "&lt;&#65;&amp;", "\x00\x07\x1b", "\n\t ", "]; }", "", " ",
           "\u202eabc", "你好 🙂", "a" * 500, "<", "-->", "]]>", "%s{}", "\ufffe"]  # fmt: skip


@needs_graphviz
def test_hostile_text_neither_breaks_nor_changes(tmp_path):
    answers = [(text, 1 / len(HOSTILE)) for text in HOSTILE]
    graph = make_graph(["<bos>", *HOSTILE], 20, 4, answers=answers, prompt="\udcff" + "".join(HOSTILE) * 50)
    graph.info["model"]["name"] = graph.info["transcoders"]["name"] = '</svg>"\\\n'
    path = graph.render(tmp_path / "graph.svg", max_nodes=100)
    shown = texts(path)
    for text in [
        '"quo\\te"',
        "\\",
        "\\N\\l",
        "<b>x</b>",
        "&lt;&#65;&amp;",
        "���",
        "⏎⇥␣",
        "]; }",
        "␣",
        "�abc",
        "你好 🙂",
    ]:
        assert shown.count(text) == 2, text
    assert any('</svg>"\\⏎' in text for text in shown)
    for ending in ("png", "pdf", "dot"):
        graph.render(tmp_path / f"graph.{ending}", max_nodes=100)


# --- which part -----------------------------------------------------------------------------


@needs_graphviz
def test_a_large_graph_shows_its_strongest_part_and_says_so(tmp_path):
    graph = large_graph()
    shown = texts(graph.render(tmp_path / "graph.svg", max_nodes=50, max_edges=60))
    rows = strongest_nodes(graph, 50)
    assert f"showing the strongest {len(rows)} of 600 nodes" in shown
    assert any(re.search(r"the strongest \d+ of \d+ edges", text) for text in shown)
    assert "⋯" in shown


@pytest.mark.parametrize("max_nodes", [2, 3, 10, 60, 300, 600, 10_000])
def test_limits_hold_and_every_column_has_its_token(max_nodes):
    graph = large_graph()
    rows = strongest_nodes(graph, max_nodes)
    assert max(2, min(max_nodes, 600) * 0.8) <= len(rows) <= max_nodes
    assert np.array_equal(rows, np.unique(rows))
    assert graph.order.logits.start in rows
    assert set(positions(graph)[rows]) == set(positions(graph)[rows[(rows >= 531) & (rows < 595)]])


def test_no_shown_node_of_a_cut_picture_hangs_in_the_air():
    graph = large_graph()
    rows = strongest_nodes(graph, 60)
    among = edges_among(graph, rows)
    edges = strongest_edges(among, 40)
    assert set(rows[rows < graph.order.tokens.start]) <= set(edges.source)
    assert 40 <= len(edges) < len(among)
    assert (np.diff(edges.carried) >= 0).all()


def test_the_most_influential_features_are_shown():
    graph = large_graph()
    influence = graph.column("influence")
    rows = strongest_nodes(graph, 60)
    features = np.arange(graph.order.n_features)
    best = features[np.argsort(-influence[features])][:15]
    assert set(best) <= set(rows)


# --- where ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_graph, large_graph, lambda: make_graph(n_layers=1, n_errors=0)])
def test_nothing_overlaps_or_leaves_the_page(make):
    places = boxes(make())
    page = places.pop("far_corner")[:2]
    nodes = np.array([place for name, place in places.items() if name.startswith("node")])
    x, y, width, height = nodes.T
    assert (x - width / 2 > 0).all() and (x + width / 2 < page[0]).all()  # noqa: PT018
    assert (y - height / 2 > 0).all() and (y + height / 2 < page[1]).all()  # noqa: PT018
    apart = (np.abs(x[:, None] - x) > (width[:, None] + width) / 2 - 2) | (
        np.abs(y[:, None] - y) > (height[:, None] + height) / 2 - 2
    )
    assert (apart | np.eye(len(nodes), dtype=bool)).all()
    assert page[0] / page[1] == pytest.approx(16 / 9, rel=1e-3)


def test_layers_rise_and_positions_run_to_the_right():
    graph = make_graph(n_features=40)
    places = boxes(graph)
    layer, position = graph.column("layer", missing=-1), positions(graph)
    rows = range(graph.order.tokens.stop)
    for a in rows:
        for b in rows:
            assert layer[a] >= layer[b] or places[f"node {a}"][1] < places[f"node {b}"][1]
            assert position[a] >= position[b] or places[f"node {a}"][0] < places[f"node {b}"][0]
    assert min(places[f"node {row}"][1] for row in range(graph.order.logits.start, graph.order.n_nodes)) > max(
        places[f"node {row}"][1] for row in rows
    )


def test_a_page_of_sixty_nodes_is_legible_on_a_slide():
    width, height = boxes(make_graph(n_features=41))["far_corner"][:2]
    assert 9 * 960 / width >= 8.5
    assert 9 * 540 / height >= 8.5


def test_small_helpers():
    assert visible("  a b\n") == "␣␣a b⏎"
    assert visible("   ") == "␣␣␣"
    assert shorten("abc", 100) == "abc"
    assert text_width(shorten("abc" * 100, 60)) <= 60
    assert shorten("abc" * 100, 60, keep_end=0.5).endswith("c")
    assert wrap(["aa", "bb", "cc"], 40) == ["aa  ·  bb", "cc"]
    assert spread([5, 5, 5], [2, 2, 2], 0, 10) == [3, 5, 7]
    assert spread([9, 9], [2, 4], 0, 10) == [5, 8]
    assert spread([1, 9], [2, 2], 0, 10) == [1, 9]
    assert [percent(share) for share in (0.452, 0.0004, 1e-7, 1.0, 0.0, 0.99996)] == [
        "45.2%", "0.04%", "<0.01%", "100%", "0%", "100%",
    ]  # fmt: skip

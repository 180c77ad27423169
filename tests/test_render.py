"""Pictures: every format, contents, limits, and hostile text."""

import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrace.common.errors import ArgumentError, DependencyError
from cotrace.common.visible_text import visible
from cotrace.graphs.csr import CSR
from cotrace.graphs.drawing.caption import picture_text
from cotrace.graphs.drawing.config import DrawingConfig
from cotrace.graphs.drawing.dot import scene_to_dot
from cotrace.graphs.drawing.layout import compute_layout, pack_boxes
from cotrace.graphs.drawing.picture_nodes import picture_nodes
from cotrace.graphs.drawing.primitives import Scene, SceneText
from cotrace.graphs.drawing.render import render, svg_text
from cotrace.graphs.drawing.scene import build_scene
from cotrace.graphs.drawing.select import edges_among, node_positions, picture_subject, strongest_edges, strongest_nodes
from cotrace.graphs.drawing.svg import scene_to_svg
from cotrace.graphs.drawing.text import format_percent, shorten, text_width, wrap
from cotrace.graphs.effects import total_effects
from cotrace.graphs.graph import Graph
from cotrace.graphs.influence import node_influence
from cotrace.graphs.nodes import Feature
from cotrace.graphs.order import NodeOrder
from cotrace.graphs.schema import build_table

needs_graphviz = pytest.mark.skipif(
    shutil.which("dot") is None, reason="NOT TESTED: Graphviz is missing (apt install graphviz)"
)

SVG = "{http://www.w3.org/2000/svg}"
TOKENS = ["<bos>", "The", " opposite", " of", " hot", " is"]
ANSWERS = [(" cold", 0.452), (" not", 0.121), (" warm", 0.061), (" freezing", 0.034), (" the", 0.0004)]


def make_graph(tokens=TOKENS, n_features=45, n_errors=8, n_layers=18, answers=ANSWERS, prompt=None, seed=0, **info):
    """Return a random graph with the shape of a pruned trace: late positions and few strong edges dominate."""
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
    csr = CSR(indptr, indices, weights)
    influence = node_influence(csr, target_weights)
    metadata = {
        "model": {"name": "google/gemma-3-270m", "revision": None, "sha256": None, "n_layers": n_layers},
        "transcoders": {"name": "gemma-scope-2-270m-pt/clt/width_262k_l0_medium_affine", "kind": "clt"},
        "prompt": "".join(tokens) if prompt is None else prompt,
        "token_ids": list(range(length)), "tokens": list(tokens), "position": length - 1, "masked_positions": [0],
        "targets": targets, "settings": {},
        "traced": {
            "nodes": 3412, "edges": 1204511, "rows": 3000, "coverage": 1.0, "bound": 0.0,
            "scores": {"replacement": 0.6234, "completeness": 0.871},
        },
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
    return Graph(build_table(order, columns, csr, metadata), metadata)


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
    """Return all visible texts of an SVG file."""
    return [element.text or "" for element in ElementTree.parse(path).iter(f"{SVG}text")]


def dot_of(graph, **limits):
    """Return the picture as DOT."""
    return scene_to_dot(build_scene(graph, DrawingConfig(**{"target": "all", **limits})))


def dot_boxes(graph, **limits):
    """Return the boxes of shapes and labels of all nodes in DOT, name -> (x, y, width, height) in points, and the page."""
    found = {}
    for line in dot_of(graph, **limits).source.splitlines():
        if match := re.match(r'\t"?([^"\[]+?)"? \[.*height=(\S+) pos="(\S+),(\S+?)".* width=([0-9.]+)', line):
            name, height, x, y, width = match.groups()
            found[name] = (float(x), float(y), 72 * float(width), 72 * float(height))
    page = found.pop("far_corner")[:2]
    return {name: box for name, box in found.items() if name.startswith("node")}, page


def svg_boxes(graph, **limits):
    """Return the same from SVG, with y upwards as in DOT."""
    root = ElementTree.fromstring(svg_text(graph, **{"target": "all", **limits}))
    page = tuple(float(root.get(side).removesuffix("pt")) for side in ("width", "height"))
    found = {}
    for group in root.iter(f"{SVG}g"):
        if row := group.get("data-node"):
            outlines = [child for child in group if child.tag not in (f"{SVG}title", f"{SVG}text")]
            for name, outline in zip((f"node {row}", f"node {row} label"), outlines, strict=False):
                x, y, width, height = _svg_box(outline)
                found[name] = (x, page[1] - y, width, height)
    return found, page


def _svg_box(outline):
    """Return centre and size of a circle, a diamond or a rectangle."""
    if outline.tag == f"{SVG}circle":
        x, y, radius = (float(outline.get(name)) for name in ("cx", "cy", "r"))
        return x, y, 2 * radius, 2 * radius
    if outline.tag == f"{SVG}polygon":
        corners = np.array([corner.split(",") for corner in outline.get("points").split()], float)
        return *corners.mean(axis=0), *np.ptp(corners, axis=0)
    x, y, width, height = (float(outline.get(name)) for name in ("x", "y", "width", "height"))
    return x + width / 2, y + height / 2, width, height


both_writers = pytest.mark.parametrize("boxes", [svg_boxes, dot_boxes])


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


@pytest.mark.parametrize(("ending", "last"), [("svg", "</svg>"), ("dot", "}")])
def test_svg_and_dot_need_no_graphviz(tmp_path, monkeypatch, ending, last):
    with_graphviz = render(make_graph(), tmp_path / f"with.{ending}").read_text()
    monkeypatch.setenv("PATH", str(tmp_path))
    path = render(make_graph(), tmp_path / f"graph.{ending}")
    assert path.read_text().rstrip().endswith(last)
    assert path.read_text() == with_graphviz


def test_svg_needs_no_package_either():
    code = (
        "import sys; sys.modules['graphviz'] = None\n"
        "from cotrace.graphs.drawing.render import svg_text; import cotrace.graphs.graph\n"
        "print(sorted(set(sys.modules) & {'graphviz', 'torch', 'matplotlib'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "['graphviz']"


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_missing_graphviz_names_the_cure_and_leaves_nothing(tmp_path, monkeypatch, ending):
    monkeypatch.setenv("PATH", str(tmp_path))
    cure = r"apt install graphviz, brew install graphviz or conda install graphviz; \.svg and \.dot need no Graphviz"
    with pytest.raises(DependencyError, match=cure):
        render(make_graph(n_features=5), tmp_path / f"graph.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_the_text_for_notebooks_is_the_file_without_its_declaration(tmp_path):
    path = render(make_graph(), tmp_path / "graph.svg", max_nodes=40)
    text = svg_text(make_graph(), max_nodes=40)
    declaration, rest = path.read_text().split("\n", 1)
    assert (declaration, rest) == ('<?xml version="1.0" encoding="UTF-8"?>', text)
    assert text.startswith("<svg ")
    assert not re.search(r"<style|<script|\bid=|href=", text)  # these could change an HTML page or load other files


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
    with pytest.raises(DependencyError, match=message):
        render(make_graph(n_features=5), path)
    assert path.read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bin", "graph.png"]


@pytest.mark.parametrize("name", ["graph.jpg", "graph", "svg", "graph.svg.gz"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"\.svg, \.png, \.pdf or \.dot"):
        render(make_graph(n_features=5), tmp_path / name)


@pytest.mark.parametrize("limits", [{"max_nodes": 1}, {"max_edges": 0}])
def test_limits_too_small_are_refused(tmp_path, limits):
    with pytest.raises(ArgumentError, match="at least"):
        render(make_graph(n_features=5), tmp_path / "graph.dot", **limits)


# --- contents -------------------------------------------------------------------------------


def test_the_picture_has_title_caption_and_legend(tmp_path):
    graph = make_graph(n_features=40)
    assert graph.order.n_nodes < 60
    shown = texts(graph.render(tmp_path / "graph.svg", target="all"))
    for feature in graph.nodes["feature"].drop_null().to_pylist():
        assert str(feature) in shown
    for text in ["<bos>", "The", "␣hot", "␣cold", "45.2%", "0.04%", "L0", "<bos>The opposite of hot is"]:
        assert text in shown
    caption = " ".join(shown)
    for text in ["model google/gemma-3-270m", "transcoders gemma-scope-2-270m-pt/clt", "59 nodes", "80% (nodes)",
                 "98% (edges)", "traced 3,412 nodes, 1,204,511 edges", "replacement score 0.62",
                 "completeness score 0.87", "reconstruction error", "positive", "negative edge"]:  # fmt: skip
        assert text in caption
    assert "showing the strongest" not in caption


def test_errors_signs_and_sizes_are_visibly_different():
    lines = dot_of(make_graph(n_features=40)).source.splitlines()
    edges = [line for line in lines if "->" in line]
    assert {match[1] for line in edges if (match := re.search(r'color="(#\w{6})', line))} == {"#0072b2", "#d55e00"}
    assert sum("shape=diamond" in line for line in lines) == 8 + 1  # and one in the legend
    widths = (re.search(r"width=(\S+)", line) for line in lines if "shape=circle" in line)
    assert len({match[1] for match in widths if match}) > 9


def test_errors_signs_and_sizes_are_visibly_different_in_svg():
    root = ElementTree.fromstring(svg_text(make_graph(n_features=40), target="all"))
    edges = [path for path in root.iter(f"{SVG}path") if path.get("data-edge")]
    assert {edge.get("stroke") for edge in edges} == {"#0072b2", "#d55e00"}
    assert len({edge.get("stroke-width") for edge in edges}) > 9
    assert len({edge.get("stroke-opacity") for edge in edges}) > 9
    assert len(list(root.iter(f"{SVG}polygon"))) == 8 + 1  # and one in the legend
    assert len({circle.get("r") for circle in root.iter(f"{SVG}circle")}) > 9


def tooltips_of(graph, **options):
    """Return the tooltips of the nodes, number -> text, and of the edges, (source, target) -> text."""
    root = ElementTree.fromstring(svg_text(graph, **options))
    nodes = {
        int(group.get("data-node")): group.findtext(f"{SVG}title")
        for group in root.iter(f"{SVG}g")
        if group.get("data-node")
    }
    edges = [path for path in root.iter(f"{SVG}path") if path.get("data-edge")]
    return nodes, {tuple(map(int, path.get("data-edge").split())): path.findtext(f"{SVG}title") for path in edges}


def test_tooltips_have_each_fact_once():
    graph = make_graph(n_features=40)
    nodes, edges = tooltips_of(graph, target="all")
    row, (effects,) = graph.nodes.slice(3, 1).to_pylist()[0], total_effects(graph, [graph.order.logits.start])
    feature = Feature(row["layer"], row["feature"], row["position"])
    effect = f", effect on ␣cold {effects[3]:+.4g}" if effects[3] else ""
    assert nodes[3] == f"feature {feature}, influence {row['influence']:.4g}{effect}"
    assert nodes[graph.order.errors.start].startswith("error node L")
    assert nodes[graph.order.logits.start] == "target ␣cold@5, probability 45.2%"
    token = r"token \S+@\d, influence [\d.e-]+(, effect on ␣cold [+-][\d.e-]+)?$"
    tokens = [nodes[graph.order.tokens.start + position] for position in range(6)]
    assert all(re.match(token, text) for text in tokens)
    assert any("effect on" in text for text in tokens)
    assert len(edges) > 100
    end = r"(feature L\d+#\d+@\d|error node L\d+#error@\d|token \S+@\d|target ␣\w+@5)"
    assert all(re.match(rf"{end} → {end}: effect [+-][\d.e-]+, \S+% of its input$", text) for text in edges.values())


def test_tooltips_name_the_labels_of_features_at_both_ends():
    graph = make_graph(n_features=40)
    node = int(np.argmax(graph.column("influence")[graph.order.features]))
    graph.label(node, "not cold")
    nodes, edges = tooltips_of(graph, target="all")
    assert nodes[node].count("not cold") == 1
    touching = [text for ends, text in edges.items() if node in ends]
    assert touching
    assert all(text.count("not cold") == 1 for text in touching)


def test_the_picture_is_about_the_target_that_dominates():
    graph = make_graph()
    logits = graph.order.logits.start
    nodes, _ = tooltips_of(graph)
    assert [node for node in nodes if node >= logits] == [logits]
    alone = np.eye(graph.order.n_nodes)[logits]
    influence = node_influence(graph.csr, alone)
    assert all(influence[node] > 0 for node in nodes if node < graph.order.tokens.start)
    assert "influence on ␣cold only, 4 other targets left out" in svg_text(graph)
    other, _ = tooltips_of(graph, target=" warm")
    assert [node for node in other if node >= logits] == [logits + 2]
    with pytest.raises(ArgumentError, match="its targets are"):
        svg_text(graph, target="x")
    even = make_graph(answers=[(text, 0.2) for text, _ in ANSWERS])
    assert len([node for node in tooltips_of(even)[0] if node >= logits]) == 5


def test_a_cut_picture_of_a_long_prompt_shows_features_first_and_tokens_that_feed_them():
    graph = large_graph()
    subject = picture_subject(graph)
    rows = strongest_nodes(subject, 60)
    kinds = np.bincount(graph.order.kind_codes()[rows], minlength=4)
    assert kinds[0] >= 25
    assert kinds[3] == 1
    columns = set(node_positions(graph)[rows[rows < graph.order.errors.stop]])
    fed = np.unique(edges_among(subject, rows).source)
    tokens = rows[(rows >= graph.order.tokens.start) & (rows < graph.order.logits.start)]
    for token in tokens:  # each heads a column or feeds a node
        assert token in fed or int(node_positions(graph)[token]) in columns


def test_targets_without_probability_and_target_features(tmp_path):
    graph = make_graph()
    graph.info["targets"] = [
        {**graph.info["targets"][0], "kind": "difference", "label": "cold − hot", "probability": None},
        {"node": 44, "kind": "feature", "label": "L9#44@5", "weight": 0.5, "probability": None},
    ]
    graph.info["pruning"] = None
    shown = texts(graph.render(tmp_path / "graph.svg", target="all"))
    assert {"cold − hot", "difference", "target feature"} <= set(shown)
    assert "not pruned" in " ".join(shown)


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
        graph = Graph(graph.nodes.set_column(graph.nodes.schema.get_field_index(name), field, empty), graph.info)
    assert "0 edges" in dot_of(graph).source


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


# Every character of a Python string, and those with a meaning in XML and HTML.
ANY_TEXT = st.text(st.characters() | st.sampled_from("<>&\"'\\]\x00\ufffe\u200f\u202e\ud800"), max_size=30)


@given(ANY_TEXT, st.booleans())
def test_any_text_gives_valid_xml(text, raw):
    """Labels go through `visible`; the writer must give valid XML for texts that do not, too."""
    shown = text if raw else visible(text)
    scene = Scene(100, 100, shown, texts=[SceneText("title", 0, 0, shown)])
    root = ElementTree.fromstring(scene_to_svg(scene).encode())
    (element,) = root.iter(f"{SVG}text")
    assert len(root) == 3  # page, edges, texts
    if not raw:
        assert (element.text or "").replace("\u00a0", " ") == shown.replace("\u00a0", " ")
        assert root.get("aria-label") == shown


@settings(max_examples=25, deadline=None)
@given(st.lists(ANY_TEXT, min_size=4, max_size=4))
def test_any_text_of_a_graph_gives_valid_xml(words):
    stored = [word.encode(errors="replace").decode() for word in words]  # Arrow holds no half of a surrogate pair
    graph = make_graph(stored[:2], 3, 1, answers=[(stored[2], 0.5)], prompt=words[3])
    graph.info["model"]["name"] = words[0]
    graph.info["targets"][0] |= {"kind": words[1], "probability": None}
    root = ElementTree.fromstring(svg_text(graph).encode())
    nodes = [group for group in root.iter(f"{SVG}g") if group.get("data-node")]
    assert len(nodes) == graph.order.n_nodes


# --- selection ------------------------------------------------------------------------------


def test_the_picture_of_a_large_graph_is_cut_and_says_so(tmp_path):
    graph = large_graph()
    shown = texts(graph.render(tmp_path / "graph.svg", max_nodes=50, max_edges=60, target="all"))
    rows = strongest_nodes(picture_subject(graph, "all"), 50)
    assert f"showing the strongest {len(rows)} of 600 nodes" in shown
    assert any(re.search(r"the strongest \d+ of \d+ edges", text) for text in shown)
    assert "⋯" in shown


@pytest.mark.parametrize("max_nodes", [2, 3, 10, 60, 300, 600, 10_000])
def test_limits_hold_and_every_column_has_its_token(max_nodes):
    graph = large_graph()
    rows = strongest_nodes(picture_subject(graph, "all"), max_nodes)
    assert max(2, min(max_nodes, 600) * 0.8) <= len(rows) <= max_nodes
    assert np.array_equal(rows, np.unique(rows))
    assert graph.order.logits.start in rows
    assert set(node_positions(graph)[rows]) == set(node_positions(graph)[rows[(rows >= 531) & (rows < 595)]])


def test_every_node_of_a_cut_picture_has_an_edge():
    graph = large_graph()
    rows = strongest_nodes(picture_subject(graph, "all"), 60)
    among = edges_among(picture_subject(graph, "all"), rows)
    edges = strongest_edges(among, 40)
    assert set(rows[rows < graph.order.tokens.start]) <= set(edges.source)
    assert 40 <= len(edges) < len(among)
    assert (np.diff(edges.influence) >= 0).all()


def test_the_most_influential_features_are_shown():
    graph = large_graph()
    influence = graph.column("influence")
    rows = strongest_nodes(picture_subject(graph, "all"), 60)
    features = np.arange(graph.order.n_features)
    best = features[np.argsort(-influence[features])][:15]
    assert set(best) <= set(rows)


# --- layout ---------------------------------------------------------------------------------


def test_the_picture_shows_the_positions_of_the_layout():
    graph = make_graph(n_features=40)
    rows = strongest_nodes(picture_subject(graph, "all"), 60)
    among = edges_among(picture_subject(graph, "all"), rows)
    edges = strongest_edges(among, 150)
    nodes = picture_nodes(picture_subject(graph, "all"), rows)
    layout = compute_layout(
        nodes, edges, picture_text(picture_subject(graph, "all"), nodes, len(edges), len(among)).footer
    )
    in_svg, page = svg_boxes(graph)
    in_dot, _ = dot_boxes(graph)
    assert page == pytest.approx((layout.width, layout.height), abs=0.01)
    assert sum("label" not in name for name in in_svg) == len(nodes) == 59
    for node in nodes:
        x, y, half = node.shape(layout.label_beside)
        assert in_svg[f"node {node.row}"][:2] == pytest.approx((x, y), abs=0.02)
        assert in_svg[f"node {node.row}"][3] == pytest.approx(2 * half, abs=0.02)
        assert in_dot[f"node {node.row}"] == pytest.approx(in_svg[f"node {node.row}"], abs=0.03)


def test_edges_end_at_their_nodes():
    root = ElementTree.fromstring(svg_text(make_graph(n_features=40), target="all"))
    places, page = svg_boxes(make_graph(n_features=40))
    edges = [path for path in root.iter(f"{SVG}path") if path.get("data-edge")]
    assert len(edges) > 100
    for edge in edges:
        source, target = (places[f"node {row}"] for row in edge.get("data-edge").split())
        numbers = [float(number) for number in re.findall(r"[\d.]+", edge.get("d"))]
        assert numbers[:2] == pytest.approx([source[0], page[1] - source[1] - source[3] / 2], abs=0.03)
        assert numbers[-2:] == pytest.approx([target[0], page[1] - target[1] + target[3] / 2], abs=0.03)


@both_writers
@pytest.mark.parametrize("make", [make_graph, large_graph, lambda: make_graph(n_layers=1, n_errors=0)])
def test_nothing_overlaps_or_leaves_the_page(make, boxes):
    places, page = boxes(make())
    nodes = np.array(list(places.values()))
    x, y, width, height = nodes.T
    assert (x - width / 2 > 0).all() and (x + width / 2 < page[0]).all()  # noqa: PT018
    assert (y - height / 2 > 0).all() and (y + height / 2 < page[1]).all()  # noqa: PT018
    apart = (np.abs(x[:, None] - x) > (width[:, None] + width) / 2 - 2) | (
        np.abs(y[:, None] - y) > (height[:, None] + height) / 2 - 2
    )
    assert (apart | np.eye(len(nodes), dtype=bool)).all()
    assert page[0] / page[1] == pytest.approx(16 / 9, rel=1e-3)


@both_writers
def test_layers_rise_and_positions_run_to_the_right(boxes):
    graph = make_graph(n_features=40)
    places, _ = boxes(graph)
    layer, position = graph.column("layer", missing=-1), node_positions(graph)
    rows = range(graph.order.tokens.stop)
    for a in rows:
        for b in rows:
            assert layer[a] >= layer[b] or places[f"node {a}"][1] < places[f"node {b}"][1]
            assert position[a] >= position[b] or places[f"node {a}"][0] < places[f"node {b}"][0]
    assert min(places[f"node {row}"][1] for row in range(graph.order.logits.start, graph.order.n_nodes)) > max(
        places[f"node {row}"][1] for row in rows
    )


def test_a_page_of_sixty_nodes_is_legible_on_a_slide():
    _, (width, height) = svg_boxes(make_graph(n_features=41))
    assert 9 * 960 / width >= 8.5
    assert 9 * 540 / height >= 8.5


def test_small_helpers():
    assert visible("  a b\n") == "␣␣a b⏎"
    assert visible("   ") == "␣␣␣"
    assert shorten("abc", 100) == "abc"
    assert text_width(shorten("abc" * 100, 60)) <= 60
    assert shorten("abc" * 100, 60, keep_end=0.5).endswith("c")
    assert wrap(["aa", "bb", "cc"], 40) == ["aa  ·  bb", "cc"]
    assert pack_boxes([5, 5, 5], [2, 2, 2], 0, 10) == [3, 5, 7]
    assert pack_boxes([9, 9], [2, 4], 0, 10) == [5, 8]
    assert pack_boxes([1, 9], [2, 2], 0, 10) == [1, 9]
    assert [format_percent(share) for share in (0.452, 0.0004, 1e-7, 1.0, 0.0, 0.99996)] == [
        "45.2%", "0.04%", "<0.01%", "100%", "0%", "100%",
    ]  # fmt: skip

"""Sharing the page: links, saved pages, and exports, which Python reads."""

import copy
import json
import random

import numpy as np
import pytest
import xxhash
from helpers.browser import Opener
from helpers.neuronpedia_files import VARIANTS, sketch
from helpers.random_graphs import random_graph
from helpers.sampled_graphs import sampled_graph

import cotrace
from cotrace.graphs import Graph
from cotrace.graphs.annotations import node_names
from cotrace.viewer.page.html import ROOM
from cotrace.viewer.page.link import link
from cotrace.viewer.page.payload import PageFile, write_page

HOSTILE = "</script><img src=x onerror=alert(1)><!-- \u2028 \u202e é🜁 ' \" \\"


def imported(variant, folder):
    """Return a graph of another tool, which has attention, its own metadata and influence."""
    path = folder / f"{variant}.json"
    path.write_text(json.dumps(VARIANTS[variant](sketch(1, attention=variant == "half layers"))))
    return cotrace.import_graph(path)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Return graphs of every kind that a page can hold: other types, effects, rows, heads, labels, groups, draws."""
    plain = random_graph(1, n_features=30)
    sampled, _ = sampled_graph(9, dtype=np.float32, feature_targets=1)
    heads = random_graph(6)
    heads = heads.with_head_loadings(np.random.default_rng(0).normal(size=(heads.n_edges, 4, 2)).astype(np.float32))
    pruned = random_graph(2, n_features=40).prune(0.7, 0.9)
    annotated = random_graph(7, effects=False)
    annotated.label(1, '"L1#2"')
    annotated.info["groups"] = [{"name": "cold", "nodes": [str(node_names(annotated, [1])[0]), "L3#999@0"]}]
    annotated.info["notes"], annotated.info["settings"] = HOSTILE, {"seed": 2**60 + 1, "share": 1.0}
    folder = tmp_path_factory.mktemp("imported")
    return [
        plain,
        random_graph(3, dtype=np.float64, feature_targets=2),
        pruned,
        random_graph(4).subgraph([0, 1, 2, 5]),
        heads,
        annotated,
        *(imported(variant, folder) for variant in ("half layers", "circuit-tracer")),
        random_graph(8, n_features=0, n_errors=0),
        sampled,
        sampled.prune(0.9, 0.95),
    ]


def write(graphs, path):
    picture = "<svg width='9' height='9'></svg>"
    return write_page(
        [PageFile(f"{number}.arrow", graph, picture=picture) for number, graph in enumerate(graphs)], path
    )


@pytest.fixture(scope="module")
def path(graphs, tmp_path_factory):
    """Return the path of a page of two graphs."""
    return write(graphs[:2], tmp_path_factory.mktemp("page") / "two.html")


@pytest.fixture(scope="module")
def page(browser, graphs, tmp_path_factory):
    """Return the page of all graphs, which tests change."""
    opener = Opener(browser)
    yield opener(write(graphs, tmp_path_factory.mktemp("page") / "all.html"))
    opener.close()


def edits_of(graph):
    """Return changes of everything that a page can hold of a graph."""
    names = [str(node) for node in node_names(graph, range(min(3, graph.order.n_editable)))]
    labelled = names[0].split("@")[0]
    return {
        "nodeThreshold": 0.5, "edgeThreshold": 0.75, "keepErrors": True, "target": 1, "sizeBy": "effect", "pins": names[1:],
        "selected": names[:1], "groups": [{"name": HOSTILE, "nodes": names}, {"name": "7s", "nodes": names[:1]}],
        "labels": {} if labelled == "token" else {labelled: HOSTILE},
        "dismissed": ["x"], "moved": {names[0]: [1.5, -2]}, "collapsed": [[0, 1]], "view": {"x": 1, "y": 2, "scale": 3},
    }  # fmt: skip


def edited(graph):
    """Return a copy of a graph with the same labels and groups, made in Python."""
    result, values = Graph(graph.nodes, copy.deepcopy(graph.info)), edits_of(graph)
    for node, text in values["labels"].items():
        result.label(node, text)
    result.info["groups"] = values["groups"]
    return result


def update(page, graph, number=0):
    page.evaluate("([number, values]) => cotrace.store.update(number, values, 'change')", [number, edits_of(graph)])


def state_of(page):
    return page.evaluate("() => cotrace.store.state")


def exported(page, command, folder):
    """Run a command, and return the path of the file that it lets the browser save."""
    with page.expect_download() as download:
        page.evaluate("id => cotrace.commands.run(id)", command)
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


# --- links and saved pages --------------------------------------------------------------------


def test_a_link_and_a_saved_page_restore_all(open_page, graphs, path, tmp_path):
    page = open_page(path)
    first = state_of(page)
    for number, graph in enumerate(graphs[:2]):
        update(page, graph, number)
    page.evaluate("() => cotrace.store.updatePage({ file: 1, tab: 'groups', theme: 'dark' })")
    state = state_of(page)
    assert state["files"][0]["nodeThreshold"] == 0.5
    page.wait_for_url(lambda url: "#s=" in url)
    link = page.evaluate("() => location.href")
    state["page"]["theme"] = "auto"  # is the reader's own, and so is the selection
    for file in state["files"]:
        file["selected"] = []
    reader = open_page(path)
    reader.evaluate("link => (location.hash = link.split('#')[1])", link)  # a link that is opened in the same page
    reader.get_by_role("tabpanel", name="Groups").wait_for()
    assert state_of(reader) == state
    reader.reload()
    reader.wait_for_selector("html[data-ready=true]")
    assert state_of(reader) == state
    reader.evaluate("() => (location.hash = '')")
    reader.get_by_role("tabpanel", name="Groups").wait_for(state="hidden")
    assert state_of(reader) == first

    saved = exported(page, "save", tmp_path)
    assert saved.name == "1.html"
    again = open_page(saved)
    assert state_of(again) == state
    (tmp_path / "second").mkdir()
    assert exported(again, "save", tmp_path / "second").read_bytes() == saved.read_bytes()
    old = open_page(saved, wait=False, java_script_enabled=False)
    assert old.locator("#fallback img").is_visible()
    assert old.locator("#fallback p").is_visible()


def test_a_saved_page_has_no_token(page, tmp_path):
    policy = "document.querySelector('meta[http-equiv]').content = document.querySelector('meta[http-equiv]').content"
    page.evaluate("() => (cotrace.header.server = { token: 'TOKEN-7f3a' })")
    page.evaluate(f"{policy}.replace(\"connect-src 'none'\", \"connect-src 'self'\")")  # as a page that is served
    saved = exported(page, "save", tmp_path).read_text()
    page.evaluate("() => (cotrace.header.server = null)")
    page.evaluate(f"{policy}.replace(\"connect-src 'self'\", \"connect-src 'none'\")")
    assert "TOKEN-7f3a" not in saved
    assert "connect-src 'none'" in saved
    assert "connect-src 'self'" not in saved.partition("<style>")[0]
    assert '"server":null' in saved


def test_damaged_links_change_nothing(open_page, path):
    page = open_page(path.resolve().as_uri() + "#s=garbage")
    first = state_of(page)
    for text in ("", "%", "AAAA", "q1YqSExPVbKqrtVRSsvMSS1WsoquVsrLT0kNyShKLc7Iz0lRsjLQM9VR", "=" * 1000):
        toast = page.locator(".toast", has_text="The link is damaged")
        toast.get_by_role("button", name="Close").click()
        page.evaluate("text => (location.hash = `s=${text}`)", text)
        toast.wait_for()
        assert state_of(page) == first


def test_a_link_that_is_entered_can_be_undone(page):
    page.evaluate("cotrace.restore({})")
    page.evaluate("cotrace.store.update(0, { labels: { 'L0#1': 'mine' }, moved: { 'L0#1@0': [1, 2] } }, 'label')")
    before = state_of(page)
    page.evaluate("cotrace.restore({ files: [{}] })")
    assert state_of(page)["files"][0]["labels"] == {}
    assert page.evaluate("cotrace.store.undo()") == "open the link"
    assert state_of(page)["files"] == before["files"]
    assert page.evaluate("cotrace.store.redo()") == "open the link"
    assert state_of(page)["files"][0]["labels"] == {}


def garbage(rng, depth=3):
    """Return a random value of JSON."""
    kind = rng.randrange(8 if depth else 6)
    if kind >= 6:
        items = [garbage(rng, depth - 1) for _ in range(rng.randrange(4))]
        return items if kind == 6 else dict(zip(["name", "nodes", "x", "__proto__"], items, strict=False))
    return [
        None,
        True,
        rng.randrange(-5, 5),
        1e308 * rng.random(),
        rng.choice(["", "L0#1@0", "token@1", HOSTILE]),
        -1.5,
    ][kind]


def test_no_state_is_trusted(page, graphs):
    """What a link or a saved page says is read as far as it is valid; the result has the types of a state."""
    keys, rng = [*edits_of(graphs[0]), "opened"], random.Random(0)
    wrong = [{"files": [{key: garbage(rng) for key in keys}], "page": garbage(rng)} for _ in range(30)]
    states = page.evaluate("all => all.map((each) => (cotrace.restore(each), cotrace.store.state))", wrong)
    known = {str(node) for node in node_names(graphs[0], range(graphs[0].order.n_editable))}
    for state in states:
        file = state["files"][0]
        assert 0 <= file["nodeThreshold"] <= 1
        assert 0 <= file["edgeThreshold"] <= 1
        assert isinstance(file["keepErrors"], bool)
        assert set(file["selected"]) | set(file["moved"]) <= known
        assert all(group["nodes"] and set(group["nodes"]) <= known for group in file["groups"])
        assert all(isinstance(text, str) for text in file["labels"].values())
        assert file["view"] is None or abs(file["view"]["x"]) <= 1e6
        assert state["page"]["file"] in range(len(graphs))
        assert state["page"]["layout"] in ("one", "side", "overlay")


def test_undo_shows_the_file_that_it_changes(page, graphs):
    page.evaluate("() => cotrace.restore({})")
    update(page, graphs[1], 1)
    page.keyboard.press("Control+z")
    state = state_of(page)
    assert state["page"]["file"] == 1
    assert state["files"][1]["groups"] == []
    assert state["files"][1]["nodeThreshold"] == 0.5  # is seen on its slider, and not undone
    page.keyboard.press("Control+y")
    assert len(state_of(page)["files"][1]["groups"]) == 2


# --- exports ----------------------------------------------------------------------------------


def test_the_graph_file_opens_with_all_checksums(page, graphs, tmp_path):
    """It has the user's labels and groups; every other byte of its columns and metadata is that of the original."""
    for number, graph in enumerate(graphs):
        update(page, graph, number)
        page.evaluate("number => cotrace.store.updatePage({ file: number })", number)
        found, expected = cotrace.open(exported(page, "export-arrow", tmp_path)), edited(graph)
        assert found.nodes.equals(expected.nodes), number
        assert found.info.pop("page")["nodeThreshold"] == min(
            0.5, (graph.info["pruning"] or {}).get("node_threshold", 1)
        )
        assert json.dumps(found.info, sort_keys=True) == json.dumps(expected.info, sort_keys=True)  # 1.0 is not 1
        assert found.scores() == expected.scores()


def test_a_page_of_an_exported_file_begins_as_the_other_was_left(page, open_page, graphs, tmp_path):
    update(page, graphs[0])
    page.evaluate("() => cotrace.store.updatePage({ file: 0 })")
    state = state_of(page)["files"][0]
    exported_graph = cotrace.open(exported(page, "export-arrow", tmp_path))
    again = state_of(open_page(write([exported_graph], tmp_path / "again.html")))["files"][0]
    assert again.pop("labels") == {}  # they are in the column of labels
    assert {**again, "labels": state["labels"]} == {**state, "selected": []}  # a selection is of the moment


def test_json_for_neuronpedia_is_that_of_python(page, graphs, tmp_path):
    for number, graph in enumerate(graphs):
        update(page, graph, number)
        page.evaluate("number => cotrace.store.updatePage({ file: number })", number)
        found = json.loads(exported(page, "export-json", tmp_path).read_text())
        edited(graph).export(tmp_path / "python.json")
        expected = json.loads((tmp_path / "python.json").read_text())
        for ours, theirs in zip(found["nodes"], expected["nodes"], strict=True):
            shares = ours.pop("influence"), theirs.pop("influence")
            assert shares == (None, None) or shares[0] == pytest.approx(shares[1], rel=1e-12)
        found["metadata"]["cotrace"]["settings"].pop("seed", None)  # no number of JavaScript is as large
        expected["metadata"]["cotrace"]["settings"].pop("seed", None)
        assert found == expected
        assert [*found["nodes"][0]] == [*expected["nodes"][0]]


def test_pictures_are_of_what_is_seen(page, tmp_path):
    page.evaluate("() => cotrace.store.updatePage({ file: 0, tab: null })")
    svg = exported(page, "export-svg", tmp_path).read_text()
    assert svg.startswith("<svg")
    assert "</script>" not in svg
    png = exported(page, "export-png", tmp_path).read_bytes()
    assert png.startswith(b"\x89PNG")
    width = page.locator(".circuit-view").evaluate("element => element.clientWidth")
    assert int.from_bytes(png[16:20], "big") == 2 * width


def test_checksums_are_those_of_xxhash(open_page, path):
    """XXH3 has another rule for every range of lengths."""
    entry = 'import { xxh3 } from "./share/xxh3.js";\nglobalThis.xxh3 = xxh3;'
    script = link("entry.js", lambda name: entry if name == "entry.js" else (ROOM / "js" / name).read_text())
    page = open_page("about:blank", wait=False)
    page.add_script_tag(content=script)
    rng = random.Random(0)
    texts = [rng.randbytes(length) for length in [*range(260), 511, 512, 513, 1023, 1024, 1025, 1088, 1089, 2048, 5000]]
    hashes = "texts => texts.map((hex) => xxh3(Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16))))"
    found = page.evaluate(hashes, [text.hex() for text in texts])
    assert found == [xxhash.xxh3_128_hexdigest(text) for text in texts]

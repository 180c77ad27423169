"""Pages: one HTML file that opens offline, with everything that its reader looks at."""

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
import unicodedata
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from helpers.random_graphs import random_graph
from helpers.reports import REPORTS, mixed
from helpers.stores import write_store

import cotrace
from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import printable, visible
from cotrace.features.store.shipped import shipped_feature_store
from cotrace.graphs.annotations import node_names
from cotrace.graphs.drawing.render import svg_text
from cotrace.graphs.labels import short_label
from cotrace.graphs.schema import build_table
from cotrace.viewer.page import cards, fit, pages
from cotrace.viewer.page.link import link
from cotrace.viewer.page.payload import PageFile, write_page

ROOM = Path(__file__).parent.parent / "viewer"
JS, VENDORED = ROOM / "js", ROOM / "vendor" / "apache-arrow"
HOSTILE = [
    "<script>globalThis.hacked = 1</script>",
    "</script><img src=x onerror=globalThis.hacked=1>",
    "</title></style></iframe><svg onload=globalThis.hacked=1>",
    "<!--<script>",
    "]]> --> &lt;&#60;",
    "'\"`${globalThis.hacked=1}\\",
    "\u202eabc\u2066\u200f\u061c\u200b",
    "\u2028\u2029\x00\x07\x1b\x85\r\n\t",
    "__proto__",
    "javascript:globalThis.hacked=1",
]
TEXT = " ".join(HOSTILE)
ALL_OF_GRAPH = """() => {
    const { graph } = cotrace.files[0];
    const numbers = ["kind", "layer", "position", "feature", "token", "activation", "pre_activation", "bias", "probability",
        "influence", "influence_bound", "dropped", "computed", "indptr", "sources", "weights"];
    const names = Array.from({ length: graph.size }, (_, node) => graph.nameOf(node));
    return {
        info: graph.info, names, found: names.map((name) => graph.nodeOf(name)), size: graph.size, edges: graph.edges,
        ...Object.fromEntries(numbers.map((name) => [name, Array.from(graph[name], Number)])),
        ...Object.fromEntries(["text", "label", "label_source"].map((name) => [name, graph.texts(name)])),
        effect: names.map((_, node) => graph.effects("effect", node)?.map(Number) ?? null),
        expected_effect: names.map((_, node) => graph.effects("expected_effect", node)?.map(Number) ?? null),
    };
}"""


def part(path, name):
    """Return the content of a part of a page."""
    text = re.search(f'<script type="text/plain" id="part-{name}">([^<]*)</script>', path.read_text(encoding="utf-8"))[
        1
    ]
    return gzip.decompress(base64.b64decode(text))


def extras(path, number=0):
    return json.loads(part(path, f"extras-{number}"))


# --- the page reads what Python wrote -------------------------------------------------------

GRAPHS = {
    "float32": random_graph(3),
    "float64, without effects": random_graph(4, dtype=np.float64, effects=False, feature_targets=2),
    "no features": random_graph(5, n_features=0, n_errors=0),
    "pruned": random_graph(6, n_features=40).prune(),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_the_page_reads_every_column_of_the_graph_and_names_its_nodes_as_python(tmp_path, open_page, graph):
    found = open_page(write_page([PageFile("a.arrow", graph)], tmp_path / "a.html")).evaluate(ALL_OF_GRAPH)
    assert found["info"] == graph.info
    assert found["kind"] == graph.order.kind_codes().tolist()
    missing = dict.fromkeys(("layer", "position", "feature", "token"), -1)
    for name in (
        *missing,
        "activation",
        "pre_activation",
        "bias",
        "probability",
        "influence",
        "influence_bound",
        "dropped",
    ):
        values = np.array([np.nan if value is None else value for value in found[name]], float)
        np.testing.assert_array_equal(values, graph.column(name, missing.get(name)))
    assert found["computed"] == graph.computed.tolist()
    for name, values in zip(
        ("indptr", "sources", "weights"), (graph.csr.indptr, graph.csr.indices, graph.csr.weights), strict=True
    ):
        assert found[name] == values.tolist()
    for name in ("text", "label", "label_source"):
        assert found[name] == graph.nodes[name].to_pylist()
    for name in ("effect", "expected_effect"):
        wanted = graph.nodes[name].to_pylist() if graph.has_effects else [None] * graph.order.n_nodes
        assert found[name] == wanted
    others = graph.order.logits.start
    assert found["names"][:others] == [str(each) for each in node_names(graph, range(others))]
    assert found["names"][others:] == [f"logit:{number}" for number in range(graph.order.n_logits)]
    assert found["found"] == list(range(graph.order.n_nodes))


@pytest.fixture
def exported(browser):
    """Return a function that calls an export of a module of the page for each of some texts."""
    page = browser.new_page()

    def call(module, name, texts):
        entry = f'import {{ {name} }} from "./{module}";\nglobalThis.called = {name};\n'
        script = link("entry.js", lambda each: entry if each == "entry.js" else (JS / each).read_text(encoding="utf-8"))
        page.evaluate(f"() => {{ {script} }}")
        return page.evaluate("(texts) => texts.map((text) => called(text))", texts)

    yield call
    page.close()


@pytest.mark.parametrize("function", [visible, printable])
def test_the_page_shows_characters_as_python_does(exported, function):
    codes = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF and _known_to_both(chr(code))]
    texts = [f"a{chr(code)} " for code in [*codes[:0x3400], *codes[0x3400::61]]] + HOSTILE
    assert exported("data/visible.js", function.__name__, texts) == [function(text) for text in texts]


def test_a_mark_at_the_begin_of_a_text_joins_nothing(exported):
    texts = ["\u0301a", " \u0301a", "\u093ea", "\u20dd", "\u0345", "a\u0301"]
    assert exported("data/visible.js", "visible", texts) == [visible(text) for text in texts]


LABELS = [
    "", " ", "days", "references to the days of the week", "words related to the sea, of ships; and boats", 'says "Tuesday", "Wed"',
    'says "a b c" and "d e f", in "g h i"', "the of and to the of and to", "numbers / digits / and more of them", "ein sehr langes Wort",
    "Donaudampfschifffahrtsgesellschaft", "🜁" * 17, "🜁 " * 12, "one\u2003two\u3000three\x1cfour five six", *HOSTILE,
]  # fmt: skip


def test_short_labels_are_those_of_pictures(exported):
    assert exported("data/short_label.js", "shortLabel", LABELS) == [short_label(text) for text in LABELS]


def _known_to_both(character):
    """Return whether this Python assigns a character, or nobody ever will: browsers know newer ones."""
    return unicodedata.category(character) != "Cn" or ord(character) & 0xFFFE == 0xFFFE


# --- text is data ---------------------------------------------------------------------------


def hostile_graph(seed=3):
    """Return a graph that has hostile text in every place that takes any."""
    graph = random_graph(seed, n_positions=len(HOSTILE))
    info = json.loads(json.dumps(graph.info))
    info |= {"prompt": TEXT, "tokens": HOSTILE, "settings": {TEXT: TEXT}, "versions": {TEXT: TEXT}, "notes": TEXT}
    info["model"]["name"] = info["transcoders"]["name"] = TEXT
    info["targets"] = [{**target, "label": TEXT, "kind": TEXT} for target in info["targets"]]
    columns = {
        name: graph.nodes[name].chunk(0)
        for name in graph.nodes.column_names
        if name not in ("node", "kind", "sources", "weights")
    }
    order = graph.order
    columns["text"] = [""] * order.errors.stop + HOSTILE + [TEXT] * order.n_logits
    columns["label"] = [TEXT] * order.errors.stop + [""] * (order.n_nodes - order.errors.stop)
    columns["label_source"] = ["file"] * order.errors.stop + [""] * (order.n_nodes - order.errors.stop)
    hostile = cotrace.Graph(build_table(order, columns, graph.csr, info), info)
    names = [str(each) for each in node_names(hostile, range(4))]
    info["groups"] = [
        {"name": f"{TEXT} {number}", "nodes": [names[number]], "source": "suggested", "reason": TEXT, "label": TEXT}
        for number in range(2)
    ]
    info["page"] = {
        "nodeThreshold": TEXT,
        "pins": [TEXT],
        "labels": {TEXT: TEXT},
        "groups": TEXT,
        "__proto__": {"hacked": 1},
    }
    return hostile


def hostile_extras(graph):
    names = [str(each) for each in node_names(graph, range(4))]
    card = {
        "feature": TEXT,
        "dictionary": TEXT,
        "label": {"text": TEXT, "source": TEXT, "score": 1, "null": 0},
        "out_of_format": TEXT,
    }
    card |= dict.fromkeys(("count", "density", "markup_count", "markup_density", "mean", "max"), 1)
    card |= {
        "histogram": [1] * 64,
        "fires_on": [{"token": TEXT, "times": 1, "share": 1, "of_token": 1}],
        "near_decoder": [],
    }
    card["outputs"] = [
        {"layer": -1, "norm": 1, "top": [{"token": TEXT, "logit": 1}], "bottom": [{"token": TEXT, "logit": -1}]}
    ]
    card["near_encoder"] = [{"feature": TEXT, "cosine": 1, "label": TEXT}]
    card["examples"] = [{"kind": "top", "activation": 1, "tokens": HOSTILE, "mark": 0}]
    suggested = [{"name": TEXT, "nodes": names, "reason": TEXT, "label": TEXT}]
    return {
        "cards": {name.partition("@")[0]: card for name in names},
        "suggested": suggested,
        "truncated": [TEXT],
        "state": {TEXT: TEXT},
    }


def test_hostile_text_is_data_everywhere(tmp_path, open_page):
    graph = hostile_graph()
    path = write_page([PageFile(TEXT, graph, hostile_extras(graph), svg_text(graph))], tmp_path / "a.html")
    page = open_page(path)
    feature = str(node_names(graph, [0])[0])
    page.evaluate("(name) => cotrace.store.update(0, { pins: [name], selected: [name] })", feature)
    for tab in page.locator("[role=tab]").all():
        if tab.is_visible():
            tab.click()
    page.keyboard.press("/")
    page.keyboard.type("script")
    page.locator(".search-results [role=option]").first.wait_for()
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.evaluate("({}).hacked ?? null") is None
    assert (
        page.evaluate(
            "[...document.querySelectorAll('iframe, object, embed, img, a[href^=javascript], [onerror], [onload]')].length"
        )
        == 0
    )
    held = page.evaluate(
        "JSON.stringify(cotrace.files.map(({ graph, extras, name }) => [graph.info, extras, name])[0])"
    )
    assert json.loads(held) == [graph.info, hostile_extras(graph), TEXT]
    assert not set(page.locator("body").inner_text()) & set("\u202e\u2066\u200f\u061c\u200b\x07\x1b")
    assert page.title() == f"{' '.join(printable(TEXT).split())} · cotrace"


def test_hostile_text_of_a_report_is_data(tmp_path, open_page):
    report = mixed()
    for entry in ("reason",):
        object.__setattr__(report, entry, TEXT)
    report.settings[TEXT] = TEXT
    report.graph.info |= {"tokens": [TEXT] * len(report.graph.info["tokens"]), "prompt": TEXT}
    page = open_page(report.render(tmp_path / "a.html"))
    assert page.evaluate("typeof hacked") == "undefined"
    assert not set(page.locator("body").inner_text()) & set("\u202e\u2066\u200f\u061c\u200b\x07\x1b")


def test_half_characters_are_refused(tmp_path):
    graph = random_graph(3)
    graph.info["notes"] = "\ud800"
    with pytest.raises(ArgumentError, match="cannot be saved"):
        graph.render(tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


# --- the policy -----------------------------------------------------------------------------

ATTACKS = """async () => {
    const found = [];
    addEventListener("securitypolicyviolation", (event) => found.push(event.effectiveDirective));
    const attempt = async (act) => { try { await act(); } catch {} };
    const add = (tag, values) => document.body.append(Object.assign(document.createElement(tag), values));
    await attempt(() => fetch("http://127.0.0.1:9/"));
    await attempt(() => add("img", { src: "http://127.0.0.1:9/" }));
    await attempt(() => add("iframe", { src: "http://127.0.0.1:9/" }));
    await attempt(() => add("script", { src: "http://127.0.0.1:9/" }));
    await attempt(() => add("script", { textContent: "globalThis.hacked = 1" }));
    await attempt(() => (document.body.innerHTML = "<b>"));
    await new Promise((resolve) => setTimeout(() => attempt(() => eval("globalThis.hacked = 1")).then(resolve))); // debuggers may
    await attempt(() => new Worker("data:text/javascript,"));
    await attempt(() => document.body.setAttribute("style", "color: red"));
    await attempt(() => trustedTypes.createPolicy("mine", {}));
    await new Promise((resolve) => setTimeout(resolve, 200));
    return [...new Set(found)].sort();
}"""


def test_the_policy_forbids_everything_but_the_page(tmp_path, browser):
    page = browser.new_page()
    page.goto(write_page([PageFile("a.arrow", random_graph(3))], tmp_path / "a.html").as_uri())
    page.wait_for_selector("html[data-ready=true]")
    found = page.evaluate(ATTACKS)
    assert page.evaluate("typeof hacked") == "undefined"
    wanted = {"connect-src", "img-src", "frame-src", "require-trusted-types-for", "style-src-attr", "trusted-types"}
    assert wanted <= set(found)
    page.close()


def test_the_policy_has_the_hashes_of_all_that_runs(tmp_path):
    text = write_page([PageFile("a.arrow", random_graph(3))], tmp_path / "a.html").read_text(encoding="utf-8")
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none'; script-src ")
    for rule in (
        "worker-src blob:",
        "img-src data: blob:",
        "connect-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ):
        assert rule in policy.split("; ")
    contents = re.findall(r"<script>(.*?)</script>", text, re.DOTALL) + re.findall(
        r"<style>(.*?)</style>", text, re.DOTALL
    )
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in contents]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert not re.search(r'\s(style|on[a-z]+)="', re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL))


# --- browsers that do not run it ------------------------------------------------------------


def test_without_javascript_there_are_a_message_and_a_picture(tmp_path, open_page):
    page = open_page(random_graph(3).render(tmp_path / "a.html"), wait=False, java_script_enabled=False)
    assert "JavaScript is off" in page.locator("#fallback p").inner_text()
    assert page.locator("#fallback img").bounding_box()["width"] > 400


def test_a_damaged_page_says_so_and_shows_the_picture(tmp_path, browser):
    path = random_graph(3).render(tmp_path / "a.html")
    path.write_text(path.read_text().replace('id="part-graph-0">H4', 'id="part-graph-0">X4'))
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#fallback.failed")
    assert "cannot be shown" in page.locator("#fallback p").inner_text()
    assert page.locator("#fallback img").is_visible()
    assert not page.locator("#app").is_visible()
    page.close()


# --- cards, groups, sizes -------------------------------------------------------------------


def graph_of_words(**sizes):
    """Return a graph whose features are those of the hand-made store."""
    graph = random_graph(7, n_layers=2, n_positions=4, n_features=24, **sizes)
    graph.info["transcoders"] = {"name": "words-clt", "kind": "clt"}
    return graph


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return cotrace.FeatureStore.open(write_store(tmp_path_factory.mktemp("store")))


def test_cards_are_those_of_the_store_and_shorter(tmp_path, store):
    graph = graph_of_words()
    found = extras(pages.write(graph, tmp_path / "a.html", features=store.path))["cards"]
    layer, feature, influence = (
        graph.column(name, 0)[graph.order.features] for name in ("layer", "feature", "influence")
    )
    totals = {}
    for key, value in zip(zip(layer, feature, strict=True), influence, strict=True):
        totals[f"L{key[0]}#{key[1]}"] = totals.get(f"L{key[0]}#{key[1]}", 0) + value
    assert list(found) == sorted(totals, key=lambda name: -totals[name])
    for name, card in found.items():
        whole = store[name].to_dict()
        assert set(card) == set(whole)
        assert card["label"] == whole["label"] or card["label"]["text"] == whole["label"]["text"]
        assert card["max"] == pytest.approx(whole["max"], rel=1e-3)
        assert card["histogram"] == whole["histogram"]
        assert [each["layer"] for each in card["outputs"]] == [-1]
        assert 0 < len(card["examples"]) <= sum(cards.EXAMPLES.values())
        for example in card["examples"]:
            tokens = next(e["tokens"] for e in whole["examples"] if "".join(example["tokens"]) in "".join(e["tokens"]))
            assert example["tokens"][example["mark"]] in tokens


def test_cards_that_do_not_fit_are_left_out_and_said(tmp_path, store, monkeypatch):
    graph = graph_of_words()
    everything = cards.choose_cards(graph, store)
    monkeypatch.setattr(cards, "MAX_BYTES", 1200)
    found = extras(pages.write(graph, tmp_path / "a.html", features=store))
    assert list(found["cards"]) == list(everything.cards)[: len(found["cards"])]
    assert 0 < len(found["cards"]) < everything.n_features
    assert f"the {len(found['cards'])} most influential of {everything.n_features} features" in found["truncated"][0]


def test_what_was_left_out_is_said_in_the_panel(tmp_path, open_page):
    page = open_page(
        write_page([PageFile("a.arrow", random_graph(3), {"truncated": ["One.", "Two."]})], tmp_path / "a.html")
    )
    assert page.locator("[data-section='Left out of this page'] p").all_inner_texts() == ["One.", "Two."]


def test_a_store_of_other_transcoders_is_refused(tmp_path, store, command):
    graph = random_graph(3)
    file = graph.save(tmp_path / "a.arrow")
    with pytest.raises(ArgumentError, match="the graph was traced with random"):
        pages.write(graph, tmp_path / "a.html", features=store)
    status, _, problem = command("render", file, "--to", "html", "--features", store.path)
    assert (status, "give the store of these transcoders" in problem) == (2, True)
    assert "--features is for HTML" in command("render", file, "--features", store.path)[2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]


def test_groups_are_suggested_unless_the_graph_has_suggestions(tmp_path, monkeypatch):
    graph = random_graph(8, n_features=30, density=1)
    suggested = graph.suggest_groups()
    assert extras(graph.render(tmp_path / "a.html"))["suggested"] == suggested.entries()
    suggested.apply()
    if len(suggested):
        assert "suggested" not in extras(graph.render(tmp_path / "b.html"))
    graph.remove_suggested_groups()
    monkeypatch.setattr(pages, "MAX_GROUPED_EDGES", graph.n_edges - 1)
    found = extras(graph.render(tmp_path / "c.html"))
    assert "suggested" not in found
    assert "Groups are not suggested" in found["truncated"][0]


def test_a_graph_that_is_too_large_is_pruned_and_said(tmp_path, monkeypatch):
    graph = random_graph(9, n_layers=6, n_positions=5, n_features=60, n_errors=20, density=1)
    monkeypatch.setattr(fit, "MAX_EDGES", graph.n_edges // 2)
    fitted = fit.fitted(graph)
    assert fitted.graph.n_edges <= graph.n_edges // 2
    thresholds = fitted.graph.info["pruning"]
    assert f"{thresholds['node_threshold']:g} and {thresholds['edge_threshold']:g}" in fitted.note
    at = fit.THRESHOLDS.index((thresholds["node_threshold"], thresholds["edge_threshold"]))
    assert at == 0 or graph.prune(*fit.THRESHOLDS[at - 1]).n_edges > graph.n_edges // 2
    assert extras(graph.render(tmp_path / "a.html"))["truncated"] == [fitted.note]
    again = fit.fitted(graph.prune(0.6, 0.9))
    assert again.graph.n_edges <= graph.n_edges // 2
    monkeypatch.setattr(fit, "MAX_NODES", 1)
    with pytest.raises(ArgumentError, match="too large for a page"):
        graph.render(tmp_path / "b.html")


@pytest.mark.skipif(
    shipped_feature_store("gemma-3-270m-clt") is None, reason="the shipped feature store is not installed"
)
def test_the_page_of_a_circuit_of_200_nodes_is_smaller_than_a_megabyte(tmp_path):
    graph = random_graph(1, n_layers=18, n_positions=6, n_features=150, n_errors=40, n_logits=10)
    graph.info["transcoders"] = {"name": "gemma-3-270m-clt"}
    path = graph.render(tmp_path / "a.html")
    assert len(extras(path)["cards"]) > 40
    assert path.stat().st_size < 1_000_000


# --- files, notebooks, commands -------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_of_a_report_keeps_the_report(tmp_path, name):
    report = REPORTS[name]()
    path = report.render(tmp_path / "a.html")
    (tmp_path / "b.arrow").write_bytes(part(path, "graph-0"))
    assert cotrace.open(tmp_path / "b.arrow").to_dict() == report.to_dict()
    assert extras(path)["report"]["verdict"] == report.verdict
    assert report.render(tmp_path / "new" / "a.HTML").read_bytes() == path.read_bytes()


def test_the_page_of_two_graphs_has_both(tmp_path, command, open_page):
    a, b = (random_graph(seed).save(tmp_path / f"{seed}.arrow.zst") for seed in (3, 4))
    status, out, _ = command("diff", a, b, "--out", tmp_path / "d.html")
    assert (status, f"wrote {tmp_path / 'd.html'}" in out) == (0, True)
    page = open_page(tmp_path / "d.html")
    assert page.evaluate("cotrace.files.map(({ name }) => name)") == ["3.arrow", "4.arrow"]
    assert page.evaluate("cotrace.files.map(({ graph }) => graph.edges)") == [
        cotrace.open(each).n_edges for each in (a, b)
    ]


def test_a_notebook_shows_the_page_in_a_frame_that_cannot_reach_out(tmp_path, open_page):
    shown = random_graph(3).view(height=500)._repr_html_()
    (tmp_path / "notebook.html").write_text(
        f"<!DOCTYPE html><html data-ready=true><body>{shown}</body></html>", encoding="utf-8"
    )
    notebook = open_page(tmp_path / "notebook.html")
    notebook.frame_locator("iframe").locator("html[data-ready=true]").wait_for()
    assert notebook.locator("iframe").bounding_box()["height"] == 500
    frame = notebook.frames[1]
    assert (
        frame.evaluate("(() => { try { return parent.document.title; } catch (error) { return error.name; } })()")
        == "SecurityError"
    )
    assert frame.evaluate("cotrace.files[0].graph.size") == random_graph(3).order.n_nodes


@pytest.mark.parametrize("subject", [mixed(), random_graph(3).diff(random_graph(4))], ids=["report", "difference"])
def test_reports_and_differences_have_a_page_for_notebooks(subject):
    shown = subject.view()
    assert shown._repr_html_().startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert "part-graph-0" in shown.html


def test_a_graph_file_that_the_page_saved_keeps_its_state(tmp_path):
    graph = random_graph(3)
    graph.info["page"] = {"pins": ["token@1"]}
    assert extras(graph.render(tmp_path / "a.html"))["state"] == {"pins": ["token@1"]}


def test_the_same_graph_gives_the_same_page(tmp_path):
    first, second = (random_graph(3).render(tmp_path / folder / "a.html").read_bytes() for folder in "ab")
    assert first == second


def test_importing_cotrace_does_not_load_the_page():
    code = "import sys, cotrace; print(sorted(name for name in sys.modules if 'viewer' in name))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_vendored_library_is_the_published_one():
    readme, library = ((VENDORED / name).read_text(encoding="utf-8") for name in ("README.md", "Arrow.esnext.min.js"))
    assert hashlib.sha256(library.encode()).hexdigest() in readme
    assert "Licensed to the Apache Software Foundation" in library
    assert "sourceMappingURL" not in library
    assert "Apache License" in (VENDORED / "LICENSE.txt").read_text()
    assert "Apache Software Foundation" in (VENDORED / "NOTICE.txt").read_text()

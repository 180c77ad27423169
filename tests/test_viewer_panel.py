"""The side panel of the page: its numbers are those of Python, and its texts are data."""

import csv
import io

import numpy as np
import pytest
import tiny
from helpers.browser import Opener
from helpers.random_graphs import random_graph
from helpers.sampled_graphs import sampled_graph

from cotrace.common.visible_text import printable, visible
from cotrace.graphs.annotations import node_names
from cotrace.graphs.sampling import estimate
from cotrace.graphs.saved_effects import saved_effects
from cotrace.graphs.usual import usual_activations
from cotrace.viewer.page.html import ROOM
from cotrace.viewer.page.link import link
from cotrace.viewer.page.payload import PageFile, write_page

pytestmark = pytest.mark.usefixtures("one_thread")
HOSTILE = "</script><b>'\"‮x\u2028&amp;"


@pytest.fixture(scope="module")
def model(model_of):
    return model_of("clt-affine")


@pytest.fixture(scope="module")
def graph(model):
    """Return a pruned graph with effects, head loadings and a validation of its own nodes."""
    pruned = model.trace(tiny.prompt(), progress=False).prune(0.9, 0.95)
    few = {"nodes": 6, "sample": 6, "controls": 2, "paths": 0, "progress": False}
    validated = model.validate(model.add_heads(pruned, progress=False), **few)
    validated.label(0, HOSTILE)
    return validated


class Panel:
    """The panel of an open page."""

    def __init__(self, page, graph):
        self.page, self.graph = page, graph

    def state(self, **values):
        self.page.evaluate("values => cotrace.store.update(0, values)", values)
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def prune(self, **values):
        self.page.evaluate(
            "values => new Promise((done) => { cotrace.on('pruned', () => requestAnimationFrame(() => requestAnimationFrame(done)));"
            " cotrace.store.update(0, values); })",
            values,
        )

    def name(self, node):
        order = self.graph.order
        return (
            str(node_names(self.graph, [node])[0]) if node < order.n_editable else f"logit:{node - order.logits.start}"
        )

    def pin(self, *nodes):
        self.state(pins=[node if isinstance(node, str) else self.name(node) for node in nodes])

    def value(self, selector):
        """Return the exact values of the numbers that a selector finds, in the order of the page."""
        return [
            float(each)
            for each in self.page.eval_on_selector_all(
                f".panel {selector} data", "all => all.map((each) => each.value)"
            )
        ]

    def keyed(self, selector, key):
        """Return the exact values in elements, by an entry of their data set."""
        return self.page.eval_on_selector_all(
            f".panel {selector}",
            f"all => Object.fromEntries(all.map((each) => [each.dataset.{key}, Number(each.querySelector('data').value)]))",
        )

    def text(self, selector=""):
        return self.page.locator(f".panel {selector}").first.inner_text()

    def rows(self, title):
        """Return the lines of a list of edges as {name of the edge: weight}, all of them."""
        section = self.page.locator(f".panel [data-section={title}]")
        for key in ("all", "more"):
            while section.locator(f"[data-key={key}]:has-text('with'), [data-key={key}]:has-text('more')").count():
                section.locator(f"[data-key={key}]").first.click()
        return self.keyed(f"[data-section={title}] [data-edge]", "edge")


@pytest.fixture(scope="module")
def pages(browser, graph, tmp_path_factory):
    """Return the panel of the page of `graph`, which the tests of this file share."""
    opener = Opener(browser)
    yield open_panel(
        opener, graph, tmp_path_factory.mktemp("page"), {"cards": {feature_of(graph, 0): card_of(feature_of(graph, 0))}}
    )
    opener.close()


@pytest.fixture
def panel(pages):
    """Return the panel with everything shown and nothing pinned."""
    pages.state(pins=[], labels={}, target=None)
    pages.prune(nodeThreshold=0.9, edgeThreshold=0.95, keepErrors=False)
    return pages


@pytest.fixture
def opened(open_page, tmp_path):
    """Return a function that opens the page of another graph, with everything shown, and returns its panel."""
    return lambda graph: open_panel(open_page, graph, tmp_path)


def open_panel(opener, graph, folder, extras=None):
    panel = Panel(opener(write_page([PageFile("a.arrow", graph, extras or {})], folder / "a.html")), graph)
    panel.page.evaluate("() => document.querySelector('.tour')?.remove()")
    if graph.info["pruning"] is None:
        panel.prune(nodeThreshold=1, edgeThreshold=1, keepErrors=True)
    return panel


def feature_of(graph, node):
    return str(node_names(graph, [node])[0]).split("@")[0]


# --- numbers ----------------------------------------------------------------------------------


def test_inputs_outputs_and_their_sum_are_those_of_the_row(panel, graph):
    panel.prune(nodeThreshold=0.5, edgeThreshold=0.6, keepErrors=False)
    kept = np.zeros(graph.n_edges, bool)
    kept[panel.page.evaluate("Array.from(cotrace.results[0].edges)")] = True
    assert 0 < kept.sum() < graph.n_edges
    targets = graph.csr.edge_targets()
    columns = {name: graph.column(name) for name in ("dropped", "bias", "pre_activation")}
    strongest = np.argsort(-graph.influence()[: graph.order.n_features])[:2].tolist()
    for node in [*strongest, graph.order.logits.start]:
        panel.pin(node)
        into, out = np.flatnonzero(targets == node), np.flatnonzero(graph.csr.indices == node)
        parts = panel.keyed("[data-section='Sum of the inputs'] [data-part]", "part")
        for part, edges in (("inputs shown", into[kept[into]]), ("inputs hidden", into[~kept[into]])):
            assert parts.get(part, 0) == pytest.approx(graph.csr.weights[edges].sum(), abs=1e-12)
        assert parts["bias"] == pytest.approx(columns["bias"][node], rel=1e-6)
        assert parts.get("dropped before", 0) == pytest.approx(columns["dropped"][node], rel=1e-6)
        value = parts["centred logit" if node >= graph.order.logits.start else "pre-activation"]
        assert value == pytest.approx(columns["pre_activation"][node], rel=1e-6)
        assert "✓ adds up" in panel.text("[data-section='Sum of the inputs']")
        inputs = panel.rows("Inputs")
        assert inputs == {
            f"{panel.name(int(graph.csr.indices[edge]))} -> {panel.name(node)}": float(graph.csr.weights[edge])
            for edge in into
        }
        sizes = np.abs(list(inputs.values()))
        assert (sizes[:-1] >= sizes[1:]).all()
        if node < graph.order.n_features:
            assert panel.rows("Outputs") == {
                f"{panel.name(node)} -> {panel.name(int(targets[edge]))}": float(graph.csr.weights[edge])
                for edge in out
            }


def test_effects_are_those_of_the_file_and_of_the_validation(panel, graph):
    targets, record = graph.info["targets"], graph.info["validation"]["nodes"]
    weights = np.array([target["weight"] for target in targets])
    measured = {row["node"]: row for row in record}
    for node in [record[0]["node"], record[-1]["node"], graph.order.tokens.start + 2]:
        panel.pin(node)
        both = [saved_effects(graph, targets, kind)[:, node] for kind in ("total", "expected")]
        rows = panel.page.eval_on_selector_all(
            ".panel .effect-table [data-target]",
            "all => Object.fromEntries(all.map((row) => [row.dataset.target, [...row.querySelectorAll('td data')].map((each) => Number(each.value))]))",
        )
        for number in range(len(targets)):
            assert rows[str(number)] == pytest.approx([effect[number] for effect in both], rel=1e-6)
        assert rows["mean"] == pytest.approx([weights @ effect for effect in both], rel=1e-6)
        parts = panel.keyed(".measured [data-part]", "part")
        if node in measured:
            row = measured[node]
            assert parts["measured"] == pytest.approx(row["measured"])
            assert parts["expected"] == pytest.approx(row["first_order_none"])
            assert parts.get("random features") == (
                None if row["control_size"] is None else pytest.approx(row["control_size"])
            )
            ratio = row["measured"] / row["first_order_none"]
            word = "opposite" if ratio < 0 else "agrees within a factor of two" if 0.5 <= ratio <= 2 else "same sign"
            assert word in panel.text("[data-section='Effects on the targets'] summary")
        else:
            assert not parts


def test_one_rule_says_how_changes_agree(open_page):
    entry = 'import { agreementOf } from "./data/agreement.js";\nObject.assign(globalThis, { agreementOf });'
    page = open_page("about:blank", wait=False)
    page.add_script_tag(
        content=link("entry.js", lambda name: entry if name == "entry.js" else (ROOM / "js" / name).read_text())
    )
    cases = [(1, 2), (-1, -0.5), (1, 2.1), (-3, -1), (1, -1), (1, 0), (0, 0), (None, 1), (1, 1e-9)]
    found = page.evaluate(
        "all => all.map(([expected, measured]) => agreementOf(expected, measured)?.text ?? null)", cases
    )
    assert found == [*["agrees within a factor of two"] * 2, *["same sign"] * 2, "opposite", None, None, None, None]


def test_the_usual_activation_is_that_of_python(panel, graph):
    for node in (0, graph.order.n_features // 2):
        panel.pin(node)
        assert f"usually {usual_activations(graph)[node]:.3g}"[:11] in panel.text("[data-figure=Activation]")


def test_a_target_is_copied_as_queries_read_it(panel, graph):
    panel.page.evaluate("navigator.clipboard.writeText = async (text) => { globalThis.copied = text }")
    for target in graph.info["targets"]:
        panel.pin(target["node"])
        panel.page.locator(".panel [data-key=copy]").click()
        assert graph.find(panel.page.evaluate("copied")) == [target["node"]]


def test_an_edge_has_its_weight_share_and_heads(panel, graph):
    for edge in range(0, graph.n_edges, graph.n_edges // 4):
        source, target = int(graph.csr.indices[edge]), int(graph.csr.edge_targets()[edge])
        panel.pin(f"{panel.name(source)} -> {panel.name(target)}")
        weights = graph.csr.row(target)[1]
        assert panel.value("[data-figure=Weight]") == [graph.csr.weights[edge]]
        assert panel.value("[data-figure^=Share]") == pytest.approx(
            [abs(graph.csr.weights[edge]) / np.abs(weights).sum()]
        )
        loadings, heads = (
            graph.heads(source, target),
            panel.keyed("[data-section='Attention heads'] tbody [data-part]", "part"),
        )
        assert heads.pop("no attention", 0.0) == pytest.approx(loadings.direct, abs=1e-12)
        rest = sum(heads.pop(name) for name in list(heads) if "others" in name)
        for name, value in heads.items():
            layer, head = map(int, name[1:].split("H"))
            assert value == pytest.approx(loadings.last[layer, head], abs=1e-12)
        assert sum(heads.values()) + rest + loadings.direct == pytest.approx(loadings.edge, abs=1e-12)


def test_influence_has_its_bound_where_rows_are_missing(opened, model):
    graph = model.trace(tiny.prompt(), coverage=0.3, progress=False)
    bound, influence = graph.column("influence_bound"), graph.column("influence")
    missing = np.flatnonzero(~graph.computed[: graph.order.n_features])
    node = int(missing[np.argmax(bound[missing])])
    assert bound[node] > 0
    panel = opened(graph)
    panel.pin(node)
    assert panel.value("[data-figure=Influence]") == pytest.approx(
        [influence[node], influence[node] + bound[node]], rel=1e-6
    )
    assert "was not computed" in panel.text("[data-section=Inputs]")
    assert panel.page.locator(".panel [data-section='Sum of the inputs']").count() == 0


def test_a_row_that_does_not_add_up_is_said_to_and_tokens_are_visible(opened):
    graph = random_graph(4, n_positions=6)
    panel = opened(graph)
    node = int(np.flatnonzero(np.diff(graph.csr.indptr)[: graph.order.n_features])[0])
    panel.pin(node)
    assert "does not add up" in panel.text("[data-section='Sum of the inputs']")
    sum_of_row = (
        graph.csr.row(node)[1].sum(dtype=np.float64) + graph.column("dropped")[node] + graph.column("bias")[node]
    )
    total = panel.keyed("[data-section='Sum of the inputs'] [data-part]", "part")["pre-activation"]
    assert total == pytest.approx(float(sum_of_row), rel=1e-6)
    for position, token in enumerate(graph.info["tokens"]):
        panel.pin(f"token@{position}")
        assert panel.page.locator(".panel h2").text_content() == visible(token)


# --- texts and changes ------------------------------------------------------------------------


def card_of(name):
    """Return a card as `FeatureCard.to_dict` gives it, with hostile texts."""
    token = {"token": HOSTILE, "times": 3, "share": 0.5, "of_token": 0.25}
    outputs = [
        {
            "layer": layer,
            "norm": 1.0,
            "top": [{"token": " hot", "logit": 1.5}],
            "bottom": [{"token": HOSTILE, "logit": -2.25}],
        }
        for layer in (-1, 0, 1)
    ]
    near = [{"feature": name, "cosine": 0.5, "label": HOSTILE}, {"feature": "L9#9", "cosine": 0.25, "label": ""}]
    example = {"activation": 1.25, "tokens": ["one", " two", HOSTILE, "\n"], "mark": 1, "sequence": 0, "position": 1}
    return {
        "feature": name, "dictionary": HOSTILE, "label": {"text": "warm", "source": "examples", "score": 0.75, "null": 0.6},
        "count": 40, "density": 0.004, "markup_count": 50, "markup_density": 0.5, "mean": 0.75, "max": 2.0,
        "histogram": [0] * 20 + [10, 20, 10] + [0] * 41, "fires_on": [token], "outputs": outputs, "near_encoder": near, "near_decoder": [],
        "examples": [{**example, "kind": "top", "rank": 0}, {**example, "kind": "quantile", "rank": 0, "activation": 0.5}],
        "out_of_format": "mostly chat markup",
    }  # fmt: skip


def test_a_card_shows_what_is_known_of_a_feature(panel):
    panel.pin(0)
    text = panel.text()
    for wanted in (
        "0.40%",
        "40 tokens",
        "50%",
        "0.75",
        "2.00",
        "mostly chat markup",
        "−2.25",
        "0.50",
        visible(HOSTILE),
        printable(HOSTILE),
        "L9#9",
        "your label",
    ):
        assert wanted in text, wanted
    assert panel.page.locator(".panel mark").all_inner_texts() == ["two", "two"]
    assert panel.page.locator(".panel .histogram rect").count() >= 3
    assert panel.page.locator(".panel b").count() == 0
    assert panel.text("h2") == visible(HOSTILE)
    assert panel.page.locator(".panel .near button").count() == 1
    panel.pin(1)
    assert "no card of the feature" in panel.text()


def test_a_label_is_edited_in_place_and_can_be_undone(panel, graph):
    panel.pin(0)
    key = feature_of(graph, 0)
    field = panel.page.locator(".panel .label-field")
    before = panel.text("h2")

    def edit(text, press="Enter"):
        panel.page.locator(".panel [data-key=label]").click()
        field.fill(text)
        field.press(press)

    edit("  not cold ")
    assert panel.text("h2") == "not cold"
    assert "your label" in panel.text(".subject-name")
    assert panel.page.evaluate("cotrace.store.file(0).labels") == {key: "not cold"}
    assert panel.page.evaluate("document.activeElement.dataset.key") == "label"
    edit("thrown away", "Escape")
    assert panel.text("h2") == "not cold"
    assert panel.page.evaluate("document.activeElement.dataset.key") == "label"
    for wrong in ("L1#2@3", "12", "@5"):
        edit(wrong)
        assert "read as a" in panel.text(".problem")
        field.press("Escape")
    assert panel.page.evaluate("cotrace.store.undo()") == f"label {key}"
    assert panel.text("h2") == before
    panel.page.evaluate("cotrace.store.redo()")
    assert panel.text("h2") == "not cold"
    edit("")
    assert panel.page.evaluate("cotrace.store.file(0).labels") == {key: ""}


# --- pins, keyboard, small windows ------------------------------------------------------------


def test_pins_are_tabs_and_names_open_what_they_name(panel, graph):
    page = panel.page
    assert "Next token" in panel.text()
    features = np.argsort(-graph.influence()[: graph.order.n_features])[:2].tolist()
    panel.pin(*features, graph.order.logits.start)
    tabs = page.locator(".panel .pin-tab")
    assert tabs.count() == 4  # and one that compares
    page.locator(".panel [data-section=Inputs] .node-button").first.click()
    assert page.locator(".panel .pin-tab.preview.current").count() == 1
    page.keyboard.press("p")
    assert page.locator(".panel .pin-tab.preview").count() == 0
    assert len(page.evaluate("cotrace.store.file(0).pins")) == 4
    page.locator(".panel .edge-button").first.click()
    assert " -> " in page.evaluate("document.querySelector('.panel .pin-tab.current .tab-name').title")
    page.keyboard.press("Backspace")
    assert page.locator(".panel .pin-tab.preview").count() == 0
    page.keyboard.press("Shift+P")
    assert page.locator(".panel .pin-table tbody tr").count() == 4
    edges = graph.adjacency()
    between = page.locator(".panel .pair-row").count()
    pinned = [*features, graph.order.logits.start]
    assert between >= sum(edges[target, source] != 0 for target in pinned for source in pinned)
    page.locator(".panel .tab-close").first.click()
    assert panel.name(features[0]) not in page.evaluate("cotrace.store.file(0).pins")


def test_what_is_shown_can_be_left_and_come_back_to(panel, graph):
    page = panel.page
    panel.pin(0)
    page.locator(".panel-body").focus()
    page.keyboard.press("Escape")  # clears the pins
    assert "Next token" in panel.text()
    assert page.locator(".panel .pin-tab").count() == 0
    page.keyboard.press("Backspace")
    assert page.locator(".panel .pin-tab.preview").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".panel .pin-tab").count() == 0


def test_lists_of_edges_show_features_only_if_asked(panel, graph):
    node = graph.order.logits.start
    panel.pin(node)
    panel.page.locator(".panel [data-section=Inputs] [data-key=features]").click()
    sources = graph.csr.row(node)[0]
    assert len(panel.rows("Inputs")) == (sources < graph.order.n_features).sum() < len(sources)


def test_the_card_beside_a_node_has_its_strongest_edges(panel, graph):
    node = graph.order.logits.start
    panel.page.locator(".circuit button").first.focus()
    panel.page.evaluate("node => cotrace.emit('hover', node)", node)
    card = panel.page.locator(".hover-card")
    shown = card.locator("table").first.locator("td:last-child data")
    weights = graph.csr.row(node)[1]
    assert [float(each.get_attribute("value")) for each in shown.all()] == weights[
        np.argsort(-abs(weights))[:3]
    ].tolist()
    panel.page.evaluate("cotrace.emit('hover', null)")
    assert card.is_hidden()


def test_the_expected_change_is_that_of_the_chosen_target(panel, graph):
    panel.pin(0)
    expected = saved_effects(graph, graph.info["targets"])[:, 0]
    panel.state(target=1)
    assert panel.value("[data-figure='If ablated']") == pytest.approx([expected[1]], rel=1e-6)
    panel.state(target=None)
    weights = [target["weight"] for target in graph.info["targets"]]
    assert panel.value("[data-figure='If ablated']") == pytest.approx([weights @ expected], rel=1e-6)


def test_pruning_changes_the_lists_and_keeps_place_and_focus(panel, graph):
    panel.pin(graph.order.logits.start)
    before = panel.text("[data-section=Inputs] .section-note")
    button = panel.page.locator(".panel [data-section=Inputs] .node-button").first
    button.focus()
    key = button.get_attribute("data-key")
    panel.page.evaluate("document.querySelector('.panel').scrollTop = 40")
    panel.prune(nodeThreshold=0.6, edgeThreshold=0.6, keepErrors=False)
    assert panel.text("[data-section=Inputs] .section-note") != before
    assert panel.page.evaluate("document.activeElement.dataset.key") == key
    assert panel.page.evaluate("document.querySelector('.panel').scrollTop") == 40


@pytest.mark.parametrize("width", [390, 1000, 1400])
def test_nothing_of_the_panel_is_wider_than_it(panel, graph, width):
    panel.page.set_viewport_size({"width": width, "height": 844})
    for names in ([panel.name(0)], [panel.name(0), panel.name(graph.order.logits.start)], []):
        panel.pin(*names)
        assert panel.page.evaluate(
            "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.querySelector('.panel'))"
        )


def test_the_panel_follows_the_graph_that_is_looked_at(open_page, tmp_path):
    graphs = [random_graph(seed) for seed in (5, 6)]
    files = [PageFile(name, graph) for name, graph in zip(("a.arrow", "b.arrow"), graphs, strict=True)]
    panel = Panel(open_page(write_page(files, tmp_path / "both.html")), graphs[0])
    panel.pin(0)
    panel.page.evaluate("cotrace.store.updatePage({ file: 1 })")
    assert "Next token" in panel.text()
    name = str(node_names(graphs[1], [3])[0])
    panel.page.evaluate("name => cotrace.store.update(1, { pins: [name] })", name)
    assert panel.text(".subject-name .code") == name
    panel.page.evaluate("cotrace.store.updatePage({ file: 0 })")
    assert panel.text(".subject-name .code") == panel.name(0)


@pytest.fixture(scope="module")
def sampled_page(browser, tmp_path_factory):
    """Return a sampled graph, its part after pruning, and the page of both, which tests change."""
    graph, _ = sampled_graph(1, share=2.0, added=6, n_layers=8, n_positions=6, n_features=120, n_errors=40, n_logits=4)
    opener, folder = Opener(browser), tmp_path_factory.mktemp("page")
    files = [PageFile("a.arrow", graph), PageFile("b.arrow", graph.prune(0.9))]
    yield graph, opener(write_page(files, folder / "sampled.html"))
    opener.close()


def percent(share):
    """Return a share as the page writes it."""
    value = 100 * share
    digits = 0 if value >= 9.95 else 1 if value >= 0.995 else 2
    return "0%" if value == 0 else "<0.01%" if value < 0.01 else f"{value:.{digits}f}%"


def shown_figures(page, node, file=0):
    """Return the figures of a node in the panel, as text by name."""
    page.evaluate(
        "([file, node]) => { cotrace.store.updatePage({ file });"
        " cotrace.store.update(file, { pins: [cotrace.files[file].graph.nameOf(node)] }); }",
        [file, node],
    )
    page.locator(".panel .figures").wait_for()
    return page.eval_on_selector_all(
        ".panel .figures > div", "all => Object.fromEntries(all.map((each) => [each.dataset.figure, each.innerText]))"
    )


def test_an_estimate_has_its_error_its_kind_and_the_draw_of_its_row(sampled_page):
    graph, page = sampled_page
    assert page.get_by_text("Influence is estimated from").inner_text() == (
        f"Influence is estimated from {len(graph.draws.row_D)} of 120 rows, 6 replicates; ± is the standard error."
    )
    kind, error = graph.influence_kind(), graph.column("standard_error")
    low, high = graph.influence_interval()
    bound, certified = graph.column("influence_bound"), graph.column("certified")
    drawn = np.isin(np.arange(graph.order.n_nodes), graph.draws.row_D)
    is_feature = np.arange(graph.order.n_nodes) < graph.order.n_features
    assert {"exact", "certified", "estimate"} == set(kind[: graph.order.logits.start])
    of_each = [np.flatnonzero((kind == each) & (np.arange(len(kind)) % 3 == 0))[:4] for each in set(kind)]
    no_rows_are_missing = np.flatnonzero((kind == "certified") & (bound == 0))[:2]
    for node in np.concatenate([*of_each, no_rows_are_missing]).tolist():
        if node >= graph.order.logits.start:
            continue
        each = kind[node]
        shown = shown_figures(page, node)["Influence"]
        assert ("±" in shown) == (error[node] > 0)
        ends = [percent(certified[node]), percent(min(1, certified[node] + bound[node]))]
        certain = " to ".join(ends) if bound[node] else ends[0]
        assert f"\n{each}: {certain}, rank" in shown if each == "certified" else f"\n{each}, rank" in shown
        title = page.locator(".panel [data-figure=Influence] [title]").first.get_attribute("title")
        intervals = f"95% interval: {percent(low[node])} to {percent(high[node])}. Certified: {certain}"
        assert title.endswith("are in the file" if each == "exact" else intervals)
    rows = {
        "drawn by": is_feature & drawn,
        "computed for the circuit": is_feature & ~drawn & graph.computed,
        "not computed": is_feature & ~graph.computed,
    }
    for words, mask in rows.items():
        assert words in shown_figures(page, int(np.flatnonzero(mask)[0]))["Probability of its row"]
    assert "in each of 6 replicates" in shown_figures(page, 0, file=1)["Probability of its row"]
    node = int(np.flatnonzero(is_feature & drawn & (kind == "estimate"))[0])
    page.evaluate("cotrace.store.updatePage({ file: 0 })")
    page.locator(".circuit button").first.focus()
    page.evaluate("node => cotrace.emit('hover', node)", node)
    words = f"estimate · row drawn with probability {percent(graph.column('inclusion')[node])}"
    assert words in page.locator(".hover-card").inner_text()


def test_a_group_has_the_error_of_its_sum(sampled_page):
    graph, page = sampled_page
    nodes = np.argsort(-graph.column("standard_error")[: graph.order.n_features])[:3].tolist()
    together = estimate(graph.influence_replicates()[:, nodes].sum(axis=1))
    page.evaluate("cotrace.store.updatePage({ file: 0 })")
    page.evaluate(
        "nodes => cotrace.store.update(0, { target: null, groups: [{ name: 'three', nodes: nodes.map((node) => cotrace.files[0].graph.nameOf(node)) }] })",
        nodes,
    )
    page.evaluate("cotrace.store.updatePage({ tab: 'groups' })")
    page.locator(".group-title").get_by_role("button", name="three").click()
    low, high = graph.scores(nodes).replacement_interval
    title = page.locator(".group-scores span[title]").first.get_attribute("title")
    assert title == f"An estimate; 95% interval: {low:.4f} to {high:.4f}"
    shown = page.locator(".panel [data-figure=Influence] dd").first.inner_text().replace("\u00a0", " ")
    digits = min(2, max(0, -int(np.floor(np.log10(100 * together.standard_error)))))
    assert shown == f"{100 * together.value:.{digits}f}% ± {100 * together.standard_error:.{digits}f}%"


def test_influence_on_one_target_follows_from_the_draws(sampled_page):
    graph, page = sampled_page
    weights = np.zeros(graph.order.n_nodes)
    weights[graph.info["targets"][1]["node"]] = 1
    expected = estimate(graph.influence_replicates(weights))
    page.evaluate("cotrace.store.updatePage({ file: 0 })")
    page.evaluate("cotrace.store.update(0, { target: 1 })")
    page.evaluate("cotrace.commands.run('table')")
    page.get_by_role("columnheader", name="Standard error").get_by_role("button").click()
    first = page.locator(".grid-row [data-column=node]").first.inner_text()
    strongest = int(np.argmax(expected.standard_error))
    assert first == page.evaluate("node => cotrace.files[0].graph.nameOf(node)", strongest)
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.evaluate("cotrace.commands.run('copy-table')")
    page.wait_for_function("window.copied")
    rows = {row["node"]: row for row in csv.DictReader(io.StringIO(page.evaluate("copied")))}
    names = page.evaluate(
        "Array.from(cotrace.files[0].graph.kind.keys(), (node) => cotrace.files[0].graph.nameOf(node))"
    )
    influence = next(name for name in rows[first] if name.startswith("influence on"))
    assert [float(rows[name][influence]) for name in names] == expected.value.tolist()
    found = [float(rows[name]["standard_error"]) for name in names]
    assert found == pytest.approx(expected.standard_error, rel=1e-12, abs=1e-18)

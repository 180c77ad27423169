"""The table of the page: the same nodes and numbers as the graph, filtered, sorted, and few elements for many rows."""

import csv
import io

import numpy as np
import pytest
from helpers.random_graphs import random_graph

from cotrace.common.visible_text import visible
from cotrace.graphs.influence import node_influence
from cotrace.viewer.page.payload import PageFile, write_page

CLIPBOARD = "navigator.clipboard.writeText = async (text) => { window.copied = text; document.documentElement.dataset.copied = true }"
COLUMNS = {"kind", "node", "label", "layer", "position", "activation", "influence"}


@pytest.fixture(scope="module")
def graph():
    graph = random_graph(5)
    first = graph.nodes.slice(0, 1).to_pylist()[0]
    graph.label(f"L{first['layer']}#{first['feature']}@{first['position']}", "=2+2, days of the week")
    return graph


@pytest.fixture(scope="module")
def path(graph, tmp_path_factory):
    return write_page([PageFile("a.arrow", graph)], tmp_path_factory.mktemp("page") / "a.html")


@pytest.fixture
def page(path, open_page):
    page = open_page(path)
    page.keyboard.press("n")
    return page


def shown_names(page):
    return page.locator(".grid-row [data-column=node]").all_inner_texts()


def assert_rows(page, nodes):
    """Check the number of rows, and the names of those that have elements."""
    shown = shown_names(page)
    assert page.get_by_role("grid").get_attribute("aria-rowcount") == str(len(nodes) + 1)
    assert bool(shown) == bool(nodes)
    assert shown == names_in_page(page, nodes)[: len(shown)]


def nodes_by_influence(graph, keep=lambda row: True):
    rows = graph.nodes.select(["node", "kind", "layer", "position", "influence", "label"]).to_pylist()
    return [row["node"] for row in sorted(filter(keep, rows), key=lambda row: -row["influence"])]


def names_in_page(page, nodes):
    return page.evaluate("nodes => nodes.map((node) => cotrace.files[0].graph.nameOf(node))", nodes)


def test_the_table_has_all_nodes_with_the_most_influential_first(page, graph):
    assert_rows(page, nodes_by_influence(graph))


def test_filters_keep_what_python_keeps(page, graph):
    assert page.evaluate("document.activeElement.classList.contains('filter-query')")
    page.get_by_role("button", name="Errors").click()
    page.get_by_label("First layer").select_option("1")
    kept = nodes_by_influence(graph, lambda row: row["kind"] == "error" and row["layer"] >= 1)
    assert_rows(page, kept)
    position = graph.nodes["position"][kept[0]].as_py()
    page.get_by_label("Position", exact=True).select_option(str(position))
    kept = [node for node in kept if graph.nodes["position"][node].as_py() == position]
    assert_rows(page, kept)
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_label("Label", exact=True).select_option("with")
    assert page.get_by_role("grid").get_attribute("aria-rowcount") == "2"
    page.get_by_label("Label", exact=True).select_option("")
    page.get_by_label("Least influence").select_option("0.05")
    kept = nodes_by_influence(graph, lambda row: row["influence"] >= 0.05)
    assert_rows(page, kept)


def test_only_shown_nodes_follow_the_thresholds(page, graph):
    page.get_by_label("Shown", exact=True).check()
    for threshold in (0.8, 0.3):
        page.evaluate("threshold => cotrace.store.update(0, { nodeThreshold: threshold })", threshold)
        kept = graph.prune(threshold, 0.98).order.n_nodes
        page.wait_for_selector(f"[role=grid][aria-rowcount='{kept + 1}']")
    page.get_by_label("Shown", exact=True).uncheck()
    assert page.locator(".grid-row.dim").count() > 0


def test_a_search_finds_labels_and_names(page, graph):
    page.keyboard.type("WEEK days")
    assert len(shown_names(page)) == 1
    page.locator(".filter-query").fill("token@2")
    assert shown_names(page) == ["token@2"]


def test_a_click_sorts_and_a_second_one_turns_the_order(page, graph):
    header = page.get_by_role("columnheader", name="Layer")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    layers = [text for text in page.locator(".grid-row [data-column=layer]").all_inner_texts() if text]
    assert layers == sorted(layers)
    assert page.get_by_role("columnheader", name="Influence").get_attribute("aria-sort") == "none"


def test_rows_pin_and_select_by_mouse_and_keyboard(page, graph):
    first, second, third = names_in_page(page, nodes_by_influence(graph)[:3])
    page.locator(".grid-row").nth(1).click()
    page.locator(".grid-row").nth(2).click(modifiers=["Shift"])
    state = page.evaluate("cotrace.store.file(0)")
    assert (state["pins"], state["selected"]) == ([second], [third])
    page.get_by_role("grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.keyboard.press(" ")
    state = page.evaluate("cotrace.store.file(0)")
    assert (state["pins"], state["selected"]) == ([second, first], [third, first])
    row = page.locator(f"[id='{page.get_by_role('grid').get_attribute('aria-activedescendant')}']")
    assert row.get_attribute("aria-selected") == "true"


def test_the_csv_has_the_numbers_of_the_graph(path, graph, open_page):
    page = open_page(path)
    page.evaluate(CLIPBOARD)
    page.evaluate("cotrace.commands.run('copy-table')")
    page.wait_for_selector("html[data-copied]")
    rows = list(csv.DictReader(io.StringIO(page.evaluate("copied"))))
    by_name = dict(zip(names_in_page(page, list(range(graph.order.n_nodes))), graph.nodes.to_pylist(), strict=True))
    assert set(rows[0]) >= COLUMNS
    assert len(rows) == len(by_name)
    for row in rows:
        node = by_name[row["node"]]
        assert float(row["influence"]) == node["influence"]
        assert row["kind"] == node["kind"]
        assert row["layer"] == ("" if node["layer"] is None else str(node["layer"]))
        assert row["label"] == (
            ("'" + node["label"]) if node["label"] else node["text"]
        )  # no formula for a spreadsheet
        if node["effect"]:
            contributes, if_ablated = (row[name] for name in row if name.startswith(("contributes", "if ablated")))
            assert (float(contributes), float(if_ablated)) == (node["effect"][0], node["expected_effect"][0])


def test_influence_is_that_on_the_chosen_target(page, graph):
    targets = graph.info["targets"]
    weights = np.zeros(graph.order.n_nodes)
    weights[targets[1]["node"]] = 1
    expected = node_influence(graph.csr, weights)
    page.evaluate("cotrace.store.update(0, { target: 1 })")
    assert_rows(page, sorted(range(graph.order.n_nodes), key=lambda node: (-expected[node], node)))
    label = visible(targets[1]["label"].strip() or targets[1]["label"])
    assert f"Influence on {label}" in page.locator(".grid-head").inner_text()
    assert page.locator(".answer[aria-current]").count() == 1
    assert f"on {label}" in page.locator(".panel [data-section='Most influential features'] summary").inner_text()
    shown = page.eval_on_selector_all(
        ".panel [data-section='Most influential features'] data", "all => all.map((each) => Number(each.value))"
    )
    kept = np.flatnonzero(page.evaluate("Array.from(cotrace.results[0].nodes)")[: graph.order.n_features])
    assert shown == pytest.approx(sorted(expected[kept])[::-1][: len(shown)])


def test_many_rows_have_few_elements(tmp_path, open_page):
    graph = random_graph(1, n_layers=30, n_positions=40, n_features=3000, n_errors=1000, density=0.001)
    page = open_page(write_page([PageFile("many.arrow", graph)], tmp_path / "many.html"))
    page.keyboard.press("n")
    page.get_by_role("grid").focus()
    page.keyboard.press("End")
    last = page.locator("[role=row].active")
    assert last.get_attribute("aria-rowindex") == str(graph.order.n_nodes + 1)
    assert last.is_visible()
    assert page.locator(".grid-row").count() < 60

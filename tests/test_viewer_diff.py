"""Two graphs on a page: units, statuses and changes are those of the difference."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.random_graphs import random_graph

from cotrace.graphs.diff.matching import UNIT_KINDS
from cotrace.viewer.page import pages
from cotrace.viewer.page.diff_payload import MAX_EDGES, diff_entries

TITLES = {"both": "in both", "changed": "in both, changed", "only_a": "only in A", "only_b": "only in B"}


@pytest.fixture(scope="module")
def diff():
    return random_graph(1, n_features=30).diff(random_graph(2, n_features=30))


@pytest.fixture
def open_diff(diff, tmp_path, open_page):
    return lambda **options: open_page(pages.write(diff, tmp_path / "diff.html"), **options)


@pytest.mark.parametrize("match", ["feature", "label", "group", "site"])
def test_the_payload_says_what_the_difference_says(match):
    found = random_graph(1).diff(random_graph(2), match=match)
    entries = json.loads(json.dumps(diff_entries(found), allow_nan=False))
    nodes, edges = found.nodes.to_pylist(), found.edges.to_pylist()
    units = entries["units"]
    for row in nodes:
        unit = row["node"]
        assert UNIT_KINDS[units["kind"][unit]] == row["kind"]
        assert units["name"][unit] == row["name"]
        assert entries["statuses"][units["status"][unit]] == row["status"]
        for side in "ab":
            assert np.isclose(units[f"influence_{side}"][unit], row[f"influence_{side}"], rtol=1e-5)
            assert units[f"node_{side}"][unit] == (-1 if row[f"node_{side}"] is None else row[f"node_{side}"])
    for side, graph in enumerate((found.a, found.b)):
        assert len(entries["unit_of"][side]) == graph.order.n_nodes
        at = [pair[side] for pair in entries["columns"] if pair[side] is not None]
        assert at == list(range(len(graph.info["tokens"])))
    assert entries["n_edges"] == len(edges) <= MAX_EDGES
    assert list(zip(entries["edges"]["source"], entries["edges"]["target"], strict=True)) == [
        (row["source"], row["target"]) for row in edges
    ]
    assert entries["similarity"] == found.similarity.to_pylist()


def test_only_the_strongest_edges_are_on_the_page(monkeypatch, diff):
    monkeypatch.setattr("cotrace.viewer.page.diff_payload.MAX_EDGES", 5)
    entries = diff_entries(diff)
    kept = np.maximum(entries["edges"]["influence_a"], entries["edges"]["influence_b"])
    assert len(kept) == 5 < entries["n_edges"] == diff.edges.num_rows
    assert np.allclose(np.sort(kept), np.sort(diff.edge_values.larger)[-5:], rtol=1e-5)


def test_both_graphs_are_overlaid_and_can_be_filtered(diff, open_diff):
    page = open_diff()
    banner = page.get_by_role("region", name="Comparison")
    assert banner.locator(".alike-share").inner_text() == f"{diff.jaccard:.0%}"
    nodes = page.evaluate("cotrace.circuit.model.nodes.map(({node, kind}) => [node, kind])")
    kept = kept_units(page, diff)
    assert {node for node, _ in nodes} == kept
    rows = diff.nodes.to_pylist()
    for name, title in TITLES.items():
        inner = [unit for unit in kept if rows[unit]["kind"] not in ("token", "logit") and rows[unit]["status"] == name]
        assert banner.get_by_role("button", name=f"{title} {title} {len(inner)}", exact=True).count() == 1
    banner.locator(".status-filter.changed").click()
    shown = page.evaluate("cotrace.circuit.model.nodes.map(({node}) => node)")
    assert set(shown) == {
        unit for unit in kept if rows[unit]["kind"] in ("token", "logit") or rows[unit]["status"] != "changed"
    }


def kept_units(page, diff):
    """Return the units that the pruning of either graph keeps."""
    unit_of = diff.subject.matching.unit_of
    masks = page.evaluate("cotrace.results.map(({nodes}) => [...nodes])")
    return {int(unit) for mask, units in zip(masks, unit_of, strict=True) for unit in units[np.array(mask) > 0]}


def test_colour_and_form_tell_where_a_node_is(diff, open_diff):
    page = open_diff()
    rows = diff.nodes.to_pylist()
    looks = page.evaluate("cotrace.circuit.model.nodes.map(({node, form, fill, ring}) => [node, form, fill, ring])")
    seen = set()
    for unit, form, fill, ring in looks:
        row = rows[unit]
        stronger = "a" if row["status"] == "only_a" or (row["status"] == "changed" and row["change"] < 0) else "b"
        if row["status"] == "both":
            assert (form, fill, ring) == (None, None, None)
        elif row["kind"] == "feature" and row["status"] != "changed":
            assert (form, fill) == ({"a": "left", "b": "right"}[stronger], f"side-{stronger}")
        else:
            assert ring == f"side-{stronger}"
        seen.add(row["status"])
    assert seen == {"both", "changed", "only_a", "only_b"}


# where the circuit of each pane begins and ends, and its height, in pixels
PANES = """[...document.querySelectorAll(".pane-circuit")].map((pane, file) => {
    cotrace.store.updatePage({ file });
    const [{ bounds }, { y, scale }, { height }] = [cotrace.circuit.scene, cotrace.circuit.view, pane.getBoundingClientRect()];
    const at = (place) => (place - y) * scale + height / 2;
    return { top: at(bounds.top), bottom: at(bounds.bottom), height };
})"""


def test_side_by_side_views_and_pins_are_linked(diff, open_diff):
    page = open_diff()
    page.keyboard.press("2")
    assert page.locator(".pane").count() == 2
    page.set_viewport_size({"width": 844, "height": 390})
    assert page.locator(".panes").bounding_box()["height"] > 80
    page.set_viewport_size({"width": 1400, "height": 900})
    both = next(
        row
        for row in diff.nodes.to_pylist()
        if row["kind"] == "feature" and row["node_a"] is not None and row["node_b"] is not None
    )
    page.get_by_role("tab", name="Differences").click()
    page.get_by_role("region", name="Nodes that differ most").get_by_role("button", name=both["name"]).click()
    names = page.evaluate(
        "([a, b]) => [cotrace.files[0].graph.nameOf(a), cotrace.files[1].graph.nameOf(b)]",
        [both["node_a"], both["node_b"]],
    )
    assert page.evaluate("[0, 1].map((file) => cotrace.store.file(file).pins.at(-1))") == names
    page.evaluate("cotrace.circuit.setView({x: 100, y: 50, scale: 2})")
    page.locator(".pane").nth(1).dispatch_event("pointerdown")
    assert page.evaluate("[cotrace.store.page.file, cotrace.circuit.view.scale]") == [1, 2]
    drawing = ElementTree.fromstring(page.evaluate("cotrace.circuit.svg()"))
    assert [child.tag.rpartition("}")[2] for child in drawing] == ["svg", "svg"]
    page.keyboard.press("0")
    page.set_viewport_size({"width": 1000, "height": 600})
    page.wait_for_function(f"() => ({PANES}).every(({{ top, bottom, height }}) => top >= 0 && bottom <= height)")
    page.keyboard.press("Escape")
    assert page.evaluate("cotrace.store.state.files.map(({ pins }) => pins)") == [[], []]
    page.keyboard.press("1")
    assert page.locator(".pane").count() == 0
    assert page.locator(".circuit-file canvas").count() > 0


def test_a_card_beside_the_pointer_has_both_influences(diff, open_diff):
    page = open_diff()
    kept = kept_units(page, diff)
    row = next(row for row in diff.nodes.to_pylist() if row["node"] in kept and row["status"] == "only_a")
    page.evaluate("cotrace.circuit.settled()")
    box = page.evaluate(f"cotrace.circuit.rectOf(cotrace.files[0].graph.nameOf({row['node_a']})).toJSON()")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    card = page.locator(".unit-card")
    assert card.locator(".code").inner_text() == row["name"]
    assert "only in A" in card.inner_text()
    assert card.locator("dd .number").last.inner_text() == "not there"


def test_the_list_has_the_largest_changes_in_order(diff, open_diff):
    page = open_diff()
    page.keyboard.press("w")
    names = page.get_by_role("region", name="Nodes that differ most").locator("tbody button").all_inner_texts()
    assert names[:10] == diff.top_nodes(10)["name"].to_pylist()
    table = page.get_by_role("region", name="How alike they are").locator("tbody tr")
    assert table.count() == diff.similarity.num_rows

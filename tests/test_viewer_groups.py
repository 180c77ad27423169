"""Groups in the page: suggestions, the user's groups, undo, and scores, which are those of Python."""

import numpy as np
import pytest
from helpers.browser import Opener
from helpers.random_graphs import random_graph

from cotrace.common.errors import ArgumentError
from cotrace.graphs.annotations import check_name, groups_inside, node_names
from cotrace.graphs.nodes import parse_node
from cotrace.graphs.saved_effects import saved_effects
from cotrace.viewer.page.html import ROOM
from cotrace.viewer.page.link import link
from cotrace.viewer.page.payload import PageFile, write_page


@pytest.fixture(scope="module")
def graph():
    graph = random_graph(3, n_features=40, n_positions=5)
    graph.label([0, 1], "hot")
    return graph


@pytest.fixture(scope="module")
def names(graph):
    return [str(node) for node in node_names(graph, range(graph.order.n_editable))]


@pytest.fixture(scope="module")
def suggested(names):
    return [
        {"name": "raises cold 1", "nodes": names[10:14], "reason": "same effects (0.91)", "label": "cold"},
        {"name": "lowers cold 1", "nodes": names[20:23], "reason": "same outputs (0.82)", "label": ""},
    ]


@pytest.fixture(scope="module")
def opened(browser, graph, suggested, tmp_path_factory):
    """Return the page of the graph, with the tab of groups open."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    opener = Opener(browser)
    page = opener(write_page([PageFile("a.arrow", graph, {"suggested": suggested})], path))
    page.get_by_role("tab", name="Groups").click()
    yield page
    opener.close()


@pytest.fixture
def page(opened):
    """Return the page as it was when it was opened, with the tab of groups open."""
    opened.evaluate("() => (cotrace.restore({ page: { tab: 'groups' } }), document.activeElement.blur())")
    return opened


def state(page):
    return page.evaluate("() => cotrace.store.file(0)")


def groups(page):
    return {group["name"]: group["nodes"] for group in state(page)["groups"]}


def select(page, nodes):
    page.evaluate("selected => cotrace.store.update(0, { selected })", nodes)


def test_a_suggestion_is_accepted_with_its_reason(page, suggested):
    row = page.get_by_role("region", name="Suggestions").locator(".group").first
    assert "same effects (0.91)" in row.inner_text()
    row.get_by_role("button", name="Accept").click()
    assert state(page)["groups"] == [suggested[0]]
    assert page.get_by_role("region", name="Suggestions").locator(".group").count() == 1
    page.keyboard.press("Control+z")
    assert groups(page) == {}
    assert page.locator("#live").inner_text().strip() == 'Undone: accept "raises cold 1"'
    page.keyboard.press("Control+Shift+z")
    assert [*groups(page)] == ["raises cold 1"]


def test_all_suggestions_are_accepted_or_dismissed(page, suggested):
    page.get_by_role("button", name="Accept all").click()
    assert groups(page) == {group["name"]: group["nodes"] for group in suggested}
    page.keyboard.press("Control+z")
    page.get_by_role("button", name="Dismiss lowers cold 1").click()
    assert state(page)["dismissed"] == ["lowers cold 1"]
    assert "lowers cold 1" not in page.locator(".groups").inner_text()


def test_what_the_user_grouped_is_not_suggested(page, names):
    """A suggestion leaves the user's groups alone, and is none with fewer than two nodes."""
    select(page, [names[10], names[20], names[21]])
    page.keyboard.press("g")
    shown = page.get_by_role("region", name="Suggestions")
    assert "lowers cold 1" not in shown.inner_text()
    shown.get_by_role("button", name="Accept raises cold 1").click()
    assert groups(page)["raises cold 1"] == names[11:14]


def test_nodes_are_grouped_renamed_moved_and_ungrouped(page, graph, names):
    select(page, names[:3])
    page.keyboard.press("g")
    assert groups(page) == {"hot 1": names[:3]}  # "hot" is the label of two of them
    page.keyboard.press("F2")
    page.keyboard.type("L17#264")
    page.keyboard.press("Enter")
    assert "would be read as a node" in page.get_by_role("alert").inner_text()
    page.keyboard.press("Control+a")
    page.keyboard.type("very hot")
    page.keyboard.press("Enter")
    assert groups(page) == {"very hot": names[:3]}

    select(page, names[2:5])
    page.keyboard.press("g")
    assert groups(page) == {"very hot": names[:2], "group 1": names[2:5]}  # a node is in one group
    select(page, [names[3], names[6]])
    page.get_by_role("button", name="Add 2 selected nodes to very hot").click()
    assert groups(page) == {"very hot": [*names[:2], names[3], names[6]], "group 1": [names[2], names[4]]}

    page.get_by_role("button", name="Nodes of very hot", exact=True).click()
    page.get_by_role("button", name=f"Take {names[6]} out of its group").click()
    assert groups(page)["very hot"] == [*names[:2], names[3]]
    page.get_by_role("button", name="Ungroup very hot").click()
    assert [*groups(page)] == ["group 1"]
    for _ in range(6):
        page.keyboard.press("Control+z")
    assert groups(page) == {}
    assert page.evaluate("() => cotrace.store.undoTitle") in (None, "open the link")  # what the fixture does


def test_suggestions_of_the_file_wait_to_be_accepted(browser, names, graph, tmp_path):
    """Those that are not accepted or dismissed stay suggestions of the file."""
    graph = random_graph(3, n_features=40, n_positions=5)
    stored = [
        {"name": f"cold {at}", "nodes": names[4 * at : 4 * at + 4], "reason": "same inputs (0.8)"} for at in range(3)
    ]
    graph.info["groups"] = [{**group, "source": "suggested"} for group in stored]
    opener = Opener(browser)
    page = opener(write_page([PageFile("a.arrow", graph)], tmp_path / "a.html"))
    page.get_by_role("tab", name="Groups").click()
    assert page.get_by_role("region", name="Groups", exact=True).locator(".group").count() == 0
    page.get_by_role("button", name="Accept cold 1").click()
    page.get_by_role("button", name="Dismiss cold 2").click()
    assert state(page)["groups"] == [{**stored[0], "source": "suggested"}, stored[1]]
    opener.close()


def test_scores_are_those_of_the_part_of_the_graph(page, graph, names):
    select(page, names[:8])
    page.keyboard.press("g")
    select(page, names[4:30])
    lines = page.locator(".group-scores p")
    lines.nth(1).wait_for()
    for line, part in zip(lines.all_inner_texts(), (names[:8], names[4:30]), strict=True):
        scores, whole = graph.scores(part), graph.scores()
        assert f"replacement {scores.replacement:.3f} of {whole.replacement:.3f}" in line
        assert f"completeness {scores.completeness:.3f} of {whole.completeness:.3f}" in line


def test_a_field_keeps_its_own_undo(page, names):
    select(page, names[:2])
    page.keyboard.press("g")
    page.keyboard.press("F2")
    page.keyboard.type("x")
    page.keyboard.press("Control+z")
    assert [*groups(page)] == ["hot 1"]
    page.keyboard.press("Escape")
    assert page.locator(".group-form").count() == 0


NAMES = [
    "L17#264", "L17#264@5", " L3 #812 @ 4 ", "L3error", "L3#error@2:6", "17_264", "17_264_5", "token", "token@4", "token@-1", "@4",
    "L17#264 'not cold'", 'L17#264@5 "x"', "L1#2@all", "L1#2@3,5", "12", "٣", " 7 ", "hot", "L1", "L1#2@x", "L1#2@6:2", "L1#2@-1:1",
    "token@x", "token 4", "1_2_3_4", "", " ", "a" * 1000, "L1#2@1,1", "e\u0301",
]  # fmt: skip


def test_names_are_refused_and_read_as_in_python(browser, tmp_path):
    entry = 'import { nameProblem, nodesNamed } from "./state/names.js";\nObject.assign(globalThis, { nameProblem, nodesNamed });'
    script = link("entry.js", lambda name: entry if name == "entry.js" else (ROOM / "js" / name).read_text())
    opener = Opener(browser)
    page = opener("about:blank", wait=False)
    page.add_script_tag(content=script)
    refused = page.evaluate("names => names.map((name) => nameProblem(name) !== '')", NAMES)
    assert dict(zip(NAMES, refused, strict=True)) == {name: _is_refused(name) for name in NAMES}
    opener.close()


def _is_refused(name):
    try:
        check_name(name, "name")
    except ArgumentError:
        return True
    return False


def test_groups_of_files_name_nodes_in_every_form(browser, tmp_path):
    graph = random_graph(5)
    feature, error = (str(node_names(graph, [number])[0]) for number in (0, graph.order.errors.start))
    forms = [
        feature,
        feature.split("@")[0],
        f"{feature.split('@')[0]}@0:3",
        error.split("@")[0],
        "token",
        "token@-1",
        "token@1,3",
        "L9#9@0",
    ]
    graph.info["groups"] = [{"name": form, "nodes": [str(parse_node(form))]} for form in forms]
    opener = Opener(browser)
    page = opener(write_page([PageFile("a.arrow", graph)], tmp_path / "a.html"))
    page.get_by_role("tab", name="Groups").click()
    shown = dict(
        zip(
            page.locator(".group-title").all_inner_texts(),
            page.locator(".group-figures").all_inner_texts(),
            strict=True,
        )
    )
    inside = groups_inside(graph)
    for form in forms:
        number = len(inside.get(form, []))
        assert shown[form].split("\n")[0] == (f"{number} node{'s' * (number != 1)}" if number else "all pruned"), form
    opener.close()


def test_a_group_that_is_renamed_stays_where_it_is(page, names):
    page.evaluate(
        "nodes => cotrace.store.update(0, { groups: [{ name: 'a', nodes }], moved: { 'group:a': [30, 40] }, opened: ['group:a'] })",
        names[:2],
    )
    page.locator(".groups").get_by_role("button", name="Rename a").click()
    page.keyboard.type("b")
    page.keyboard.press("Enter")
    assert list(groups(page)) == ["b"]
    assert state(page)["moved"] == {"group:b": [30, 40]}
    assert "group:b" in state(page)["opened"]
    page.evaluate("cotrace.commands.run('undo')")
    assert state(page)["moved"] == {"group:a": [30, 40]}
    assert "group:a" in state(page)["opened"]


def test_a_group_is_inspected_like_a_node(page, graph, names):
    members = list(range(3, 9))
    page.evaluate(
        "group => new Promise((done) => { cotrace.on('pruned', () => requestAnimationFrame(() => requestAnimationFrame(done)));"
        " cotrace.store.update(0, { groups: [group], nodeThreshold: 1, edgeThreshold: 1, keepErrors: true }) })",
        {"name": "warm", "nodes": [names[node] for node in members], "reason": "same inputs"},
    )
    page.get_by_role("button", name="warm", exact=True).click()
    panel = page.locator(".panel-body")
    panel.get_by_text("Group · 6 nodes").wait_for()
    assert "same inputs" in panel.inner_text()
    influence, change = (
        float(panel.locator(f"[data-figure='{name}'] data").get_attribute("value"))
        for name in ("Influence", "If ablated")
    )
    assert influence == pytest.approx(graph.column("influence")[members].sum())
    targets = graph.info["targets"]
    expected = saved_effects(graph, targets)[:, members].sum(axis=1)
    assert change == pytest.approx(sum(target["weight"] * each for target, each in zip(targets, expected, strict=True)))
    kept = page.evaluate("Array.from(cotrace.results[0].edges)")
    weights = np.zeros((graph.order.n_nodes, graph.order.n_nodes))
    weights[graph.csr.edge_targets()[kept], graph.csr.indices[kept]] = graph.csr.weights[kept]
    for title, sums in (("Inputs", weights[members].sum(axis=0)), ("Outputs", weights[:, members].sum(axis=1))):
        rows = panel.locator(f"[data-section={title}] [data-node]")
        found = {
            row.get_attribute("data-node"): float(row.locator("data").get_attribute("value")) for row in rows.all()
        }
        wanted = {name: sums[node] for node, name in enumerate(names) if sums[node] != 0 and node not in members}
        assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    panel.get_by_role("button", name="Rename").click()
    field = panel.get_by_role("textbox")
    field.fill("hot")
    field.press("Enter")
    assert panel.locator("h2").inner_text() == "hot"
    assert groups(page) == {"hot": [names[node] for node in members]}
    page.evaluate("cotrace.emit('hover-group', 'group:hot')")
    panel.get_by_role("button", name="Ungroup").click()
    assert groups(page) == {}


def test_a_suggestion_is_inspected_and_accepted_in_the_details(page, suggested):
    page.get_by_role("button", name="lowers cold 1", exact=True).click()
    panel = page.locator(".panel-body")
    assert "Suggested group · 3 nodes" in panel.inner_text()
    panel.get_by_role("button", name="Accept").click()
    assert [*groups(page)] == ["lowers cold 1"]
    assert "Group · 3 nodes" in panel.inner_text()


def test_what_cannot_be_grouped_is_said(page, graph):
    select(page, ["logit:0", "logit:1"])
    page.keyboard.press("g")
    assert groups(page) == {}
    page.locator("#live", has_text="Targets stay out of groups").wait_for(state="attached")


def test_the_name_of_a_new_group_is_offered_for_editing(page, names):
    select(page, names[:2])
    page.keyboard.press("g")
    page.keyboard.type("my own")
    page.keyboard.press("Enter")
    assert groups(page) == {"my own": names[:2]}

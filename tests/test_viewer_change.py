"""Edits of the model from the page: measured and expected changes, texts, and the controls in a browser."""

import numpy as np
import pytest
from helpers.view_server import Client, make_site, running
from tiny import prompt

import cotrace
from cotrace import Feature, Token, ablate, multiply, replace_with, set_to
from cotrace.cli.model_changes import changes_of, expected_changes
from cotrace.cli.model_editor import GraphModelEditor
from cotrace.viewer.server.edits import parse_change


@pytest.fixture(scope="module")
def model(worded):
    return worded


@pytest.fixture(scope="module")
def graph(model):
    return model.trace(prompt(), max_targets=3)


def influential(graph, count=3) -> list[Feature]:
    """Return the most influential features."""
    order = np.argsort(-graph.column("influence")[graph.order.features])[:count].tolist()
    return [feature for node in order for feature in _names(graph, node)]


def _names(graph, node):
    from cotrace.graphs.annotations import node_names

    return node_names(graph, [node])


def request_of(kind, nodes, value=None, **options):
    edit = {"kind": kind, "nodes": [str(node) for node in nodes]} | ({} if value is None else {"value": value})
    return parse_change({"edits": [edit], "max_new_tokens": 4, **options})


EDITS = {"ablate": (None, lambda _: ablate()), "multiply": (1.5, multiply), "set": (2.0, set_to)}


@pytest.mark.parametrize("freeze", ["none", "attention", "all"])
@pytest.mark.parametrize("kind", EDITS)
def test_measured_changes_are_those_of_the_targets(model, graph, kind, freeze):
    value, edit = EDITS[kind]
    nodes = influential(graph)
    found = changes_of(model, graph, request_of(kind, nodes, value, freeze=freeze))
    result = model.intervene(prompt(), {node: edit(value) for node in nodes}, freeze=freeze)
    before_V, after_V = (logits[-1].double() for logits in (result.logits_before, result.logits))
    for target, row in zip(graph.info["targets"], found["targets"], strict=True):
        (token,) = target["token_ids"]
        change = (after_V[token] - after_V.mean()) - (before_V[token] - before_V.mean())
        assert row["label"] == target["label"]
        assert row["measured"] == pytest.approx(float(change), rel=1e-9, abs=1e-9)
        assert row["probability_after"] == pytest.approx(float(after_V.softmax(-1)[token]), rel=1e-9)


@pytest.mark.parametrize("kind", EDITS)
def test_with_everything_frozen_the_expected_change_is_exact_for_one_node(model, graph, kind):
    """With everything frozen, an edit moves a target by exactly its edges from the edited node."""
    value, _ = EDITS[kind]
    for node in influential(graph):
        found = changes_of(model, graph, request_of(kind, [node], value, freeze="all"))
        assert found["expected_by"] == "edges"
        for row in found["targets"]:
            assert row["expected"] == pytest.approx(row["measured"], rel=1e-6, abs=1e-9)


def test_saved_effects_predict_the_response_of_the_live_model(model):
    graph = model.trace(prompt(), max_targets=2, effects=True)
    node = influential(graph, 1)[0]
    (number,) = graph.find(node)
    half = expected_changes(graph, request_of("multiply", [node], 0.5))
    assert half[0] == "effects"
    for target, expected in zip(graph.info["targets"], half[1], strict=True):
        assert expected == pytest.approx(graph.effects_on(target["node"])[number] / 2)
    assert expected_changes(graph, request_of("multiply", [node], 0.5, freeze="all"))[0] == "edges"


def test_nothing_is_expected_of_other_tokens_and_of_nodes_that_are_not_in_the_graph(graph):
    assert expected_changes(graph, request_of("set", ["token@3"], " cold")) == (None, None)
    assert expected_changes(graph, request_of("ablate", ["L0#999999@3"])) == (None, None)
    assert expected_changes(graph, request_of("ablate", influential(graph), everywhere=True)) == (None, None)


def test_texts_and_distributions_are_those_without_and_with_the_edits(model, graph):
    nodes = influential(graph)
    found = changes_of(model, graph, request_of("ablate", nodes, everywhere=True))
    plain = model.generate(prompt(), max_new_tokens=4)
    edited = model.generate(prompt(), {Feature(n.layer, n.feature): ablate() for n in nodes}, max_new_tokens=4)
    assert (found["without"]["text"], found["with"]["text"]) == (plain.text, edited.text)
    before_V, after_V = plain.next_probabilities(0), edited.next_probabilities(0)
    shown = {row["token"]: (row["before"], row["after"]) for row in found["likeliest"]}
    for token in {int(before_V.argmax()), int(after_V.argmax())}:
        assert shown[token] == (float(before_V[token]), float(after_V[token]))


def test_a_token_is_set_to_another_token(model, graph):
    found = changes_of(model, graph, request_of("set", ["token@3"], "id:7"))
    result = model.intervene(prompt(), {Token(3): replace_with(7)})
    (token,) = graph.info["targets"][0]["token_ids"]
    assert found["targets"][0]["probability_after"] == pytest.approx(float(result.probabilities()[1][token]))
    assert (found["expected_by"], found["targets"][0]["expected"]) == (None, None)


def test_a_feature_target_changes_by_its_activation(model):
    traced = model.trace(prompt(), max_targets=1)
    target = max(influential(traced, 5), key=lambda feature: feature.layer)
    graph = model.trace(prompt(), [target])
    source = next(node for node in influential(graph) if node.layer < target.layer)
    (row,) = changes_of(model, graph, request_of("ablate", [source], freeze="all"))["targets"]
    assert row["measured"] == pytest.approx(row["expected"], rel=1e-6, abs=1e-9)
    assert row["measured"] != 0


def test_a_graph_of_another_model_is_refused(model, graph):
    graph = cotrace.graphs.Graph(graph.nodes, {**graph.info, "model": {**graph.info["model"], "sha256": "0"}})
    with pytest.raises(cotrace.ArgumentError, match="differs from"):
        changes_of(model, graph, request_of("ablate", influential(graph)))


# --- through the server -------------------------------------------------------------------------


@pytest.fixture
def file(graph, tmp_path):
    return graph.save(tmp_path / "a.arrow")


@pytest.fixture
def editor(model, graph):
    return GraphModelEditor(None, None, "cpu", None)


def test_the_server_changes_the_model_of_a_file(file, editor, graph):
    client = Client(make_site(file, editor=editor))
    assert client.get("files/0/model").json() == {"obstacle": None}
    node = str(influential(graph, 1)[0])
    job = client.change({"edits": [{"kind": "ablate", "nodes": [node]}], "max_new_tokens": 3})
    assert job["state"] == "done", job["error"]
    assert job["result"]["expected_by"] == "effects"
    assert job["phase"] == "generating"
    wrong = client.change({"edits": [{"kind": "ablate", "nodes": ["L99#1@2"]}]})
    assert wrong["state"] == "failed"
    assert "\n" not in wrong["error"]


def test_why_a_model_cannot_be_run(graph):
    editor = GraphModelEditor("no-such-model", None, "cpu", None)
    assert "no-such-model" in editor.obstacle(graph)
    imported = cotrace.graphs.Graph(graph.nodes, {**graph.info, "imported": {"format": "neuronpedia"}})
    assert "neuronpedia" in GraphModelEditor(None, None, "cpu", None).obstacle(imported)


# --- in a browser -------------------------------------------------------------------------------


def choose(page, *names):
    """Select nodes by name."""
    page.evaluate("names => cotrace.store.update(0, { selected: names })", list(map(str, names)))


def test_nodes_are_changed_from_the_page(open_page, file, editor, model, graph):
    nodes = influential(graph, 2)
    with running(make_site(file, editor=editor)) as address:
        page = open_page(address)
        choose(page, *nodes)
        page.keyboard.press("a")
        page.wait_for_selector(".change-table")
        found = changes_of(model, graph, request_of("ablate", nodes, max_new_tokens=20))
        assert page.locator(".change-heading").text_content() == f"ablate {nodes[0]} and {nodes[1]}"
        shown = page.locator(".change-texts .change-text").all_inner_texts()
        differs = found["without"]["token_ids"] != found["with"]["token_ids"]
        assert (shown[0] != shown[1]) == (page.locator(".change-text mark").count() > 0) == differs
        rows = page.locator(".change-numbers section").first.locator("tbody tr")
        assert rows.count() == len(found["targets"])
        sign = "+" if found["targets"][0]["measured"] > 0 else "−"
        assert sign in rows.first.locator("td").first.inner_text()
        # another edit of the same nodes, by the form
        page.get_by_role("combobox", name="Edit").select_option("multiply")
        page.get_by_label("Value").fill("zero")
        page.get_by_role("button", name="Run").click()
        assert page.get_by_role("alert").inner_text() == "Write a number."
        page.get_by_label("Value").fill("0")
        page.get_by_role("textbox", name="New tokens").fill("20")
        page.get_by_role("button", name="Run").click()
        page.wait_for_selector(".change-history li:nth-child(2)")
        assert page.evaluate("document.activeElement.dataset.key") == "run"  # by way of "Cancel"
        assert page.locator(".change-texts .change-text").all_inner_texts() == shown  # multiply by 0 is to ablate
        assert page.locator(".change-history li button").first.get_attribute("aria-pressed") == "true"
        # an ablation by key leaves the form as it is; the other key adds to it
        other = influential(graph, 3)[2]
        choose(page, other)
        page.keyboard.press("a")
        page.wait_for_selector(".change-history li:nth-child(3)")
        assert page.locator(".change-heading").text_content() == f"ablate {other}"
        kinds = page.get_by_role("combobox", name="Edit")
        assert [kind.input_value() for kind in kinds.all()] == ["multiply"]
        page.keyboard.press("Shift+a")
        assert [kind.input_value() for kind in kinds.all()] == ["multiply", "ablate"]
        page.close()  # it would ask a server that is stopped


def test_the_answer_about_another_file_is_not_used(open_page, file, editor, graph, tmp_path):
    second = graph.save(tmp_path / "b.arrow")
    with running(make_site(file, second, editor=editor)) as address:
        page = open_page(address)
        page.evaluate("""() => {
            cotrace.store.updatePage({ layout: "one", file: 0 });
            cotrace.server.modelObstacle = (file) => file ? new Promise(() => {})
                : new Promise((resolve) => (globalThis.answer = () => resolve(null)));
            cotrace.server.change = () => (globalThis.wasChanged = true);
        }""")
        choose(page, *influential(graph, 1))
        page.keyboard.press("a")
        page.evaluate("() => (cotrace.store.updatePage({ file: 1 }), answer(), new Promise(requestAnimationFrame))")
        assert page.get_by_text("Looking for the model…").is_visible()
        assert page.evaluate("globalThis.wasChanged ?? false") is False
        page.close()


def test_a_page_without_a_model_says_why(open_page, file):
    with running(make_site(file, editor=GraphModelEditor("no-such-model", None, "cpu", None))) as address:
        page = open_page(address)
        page.get_by_role("tab", name="Change").click()
        page.wait_for_selector(".change-problem")
        assert "no-such-model" in page.locator(".change-problem").inner_text()
        assert page.get_by_role("button", name="Run").is_disabled()
        page.close()
    page = open_page(cotrace_page(file))
    page.get_by_role("tab", name="Change").click()
    assert "cotrace view FILE" in page.locator(".change").inner_text()


def cotrace_page(file):
    """Return a page in a file."""
    from cotrace.viewer.page.payload import PageFile, write_page

    return write_page([PageFile(file.name, cotrace.open(file))], file.with_suffix(".html"))


LABEL = (
    "text => cotrace.store.update(0, { labels: { [cotrace.files[0].graph.nameOf(0).split('@')[0]]: text } }, 'label')"
)


def test_saves_wait_for_each_other_and_take_back_what_was_undone(open_page, file):
    before = cotrace.open(file).column("label").tolist()
    with running(make_site(file)) as address:
        page = open_page(address)
        page.evaluate(LABEL, "mine")
        page.keyboard.press("Control+s")
        page.keyboard.press("Control+s")
        page.wait_for_function("() => cotrace.server.saves === 4")  # two have begun and ended
        assert page.get_by_role("dialog").count() == 0  # no conflict with itself
        assert "mine" in cotrace.open(file).labels.values()
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+s")
        page.wait_for_function("() => cotrace.server.saves === 6")
        assert cotrace.open(file).column("label").tolist() == before
        assert_a_stopped_server_is_said_once(page)
        page.close()


def assert_a_stopped_server_is_said_once(page):
    """Whoever notices it first says it; an answer to the user takes the place of what was said before."""
    page.evaluate("() => void (globalThis.fetch = () => Promise.reject(new TypeError('no server')))")
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    said = page.locator(".toast.bad")
    page.evaluate(look)
    said.filter(has_text="The server does not answer").wait_for()
    page.keyboard.press("Control+s")
    said.filter(has_text="Not saved: the server does not answer").wait_for()
    page.evaluate(look)
    assert said.count() == 1


def test_saving_and_a_conflict_in_the_page(open_page, file):
    with running(make_site(file)) as address:
        page = open_page(address)
        assert "token" not in page.url
        page.evaluate(LABEL, "first")
        page.keyboard.press("Control+s")
        page.wait_for_selector(".toast:has-text('Saved a.arrow')")
        assert "first" in cotrace.open(file).labels.values()
        other = cotrace.open(file)
        other.notes = "someone else"
        other.save(file)
        page.evaluate(LABEL, "second")
        page.keyboard.press("Control+s")
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("was changed on disk").first.wait_for()
        assert "second" not in cotrace.open(file).labels.values()
        version = page.evaluate("cotrace.server.files[0].version")
        dialog.get_by_role("button", name="Overwrite").click()
        page.wait_for_function("version => cotrace.server.files[0].version !== version", arg=version)
        graph = cotrace.open(file)
        assert "second" in graph.labels.values()
        assert graph.notes == "someone else"  # only what the page changes is written
        page.reload()
        page.wait_for_selector("html[data-ready=true]")
        assert "token" not in page.url
        page.close()
    stale = [problem for problem in open_page.problems if "412" in problem]  # Chromium logs answers that are errors
    assert open_page.problems == stale
    open_page.problems.clear()

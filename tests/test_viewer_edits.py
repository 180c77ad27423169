"""Edits of the model through the server of `cotrace view`, by an editor that computes nothing."""

import threading
import time

import pytest

pytest.importorskip("starlette", reason="the server needs the extra: pip install 'cotrace[view]'")
from helpers.view_server import Client, make_site

from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.viewer.server import jobs
from cotrace.viewer.server.edits import parse_change


class StandInEditor:
    """Takes three steps, and waits before the second where `go_on` is clear."""

    def __init__(self):
        self.requests, self.go_on = [], threading.Event()
        self.go_on.set()

    def obstacle(self, graph):
        return None if graph.order.n_nodes else "nothing here"

    def change(self, graph, request):
        self.requests.append(request)
        with Progress(False).phase("generating", 3) as step:
            for _ in range(3):
                step()
                assert self.go_on.wait(60)
        if request.freeze == "bug":
            raise KeyError("x")
        if request.freeze == "mistake":
            raise ArgumentError("do something else")
        return {"nodes": [str(node) for edit in request.edits for node in edit.nodes]}


@pytest.fixture
def changer(file):
    return Client(make_site(file, editor=StandInEditor()))


ABLATION = {"edits": [{"kind": "ablate", "nodes": ["L0#0@1", "L0#error@2"]}]}


def test_a_change_has_progress_and_a_result(changer):
    editor = changer.site.editor
    editor.go_on.clear()
    answer = changer.ask("POST", "files/0/changes", json=ABLATION)
    assert answer.status_code == 202
    job = answer.json()["id"]
    while (found := changer.get(f"changes/{job}").json())["done"] == 0:
        time.sleep(0.01)
    assert (found["state"], found["phase"], found["done"], found["total"]) == ("running", "generating", 1, 3)
    editor.go_on.set()
    assert changer.finished(job) | {"id": None} == {
        "id": None, "state": "done", "phase": "generating", "done": 3, "total": 3, "error": None,
        "result": {"nodes": ["L0#0@1", "L0#error@2"]},
    }  # fmt: skip


def test_changes_wait_for_each_other_and_can_be_cancelled(changer):
    editor = changer.site.editor
    editor.go_on.clear()
    first, second, third = (changer.ask("POST", "files/0/changes", json=ABLATION).json()["id"] for _ in range(3))
    assert changer.ask("DELETE", f"changes/{second}").json()["state"] == "cancelled"
    while not editor.requests:
        time.sleep(0.01)
    changer.ask("DELETE", f"changes/{first}")
    editor.go_on.set()
    assert [changer.finished(each)["state"] for each in (first, second, third)] == ["cancelled", "cancelled", "done"]
    assert changer.get(f"changes/{first}").json()["result"] is None
    assert len(editor.requests) == 2


def test_too_many_waiting_changes_are_refused(changer):
    changer.site.editor.go_on.clear()
    statuses = [changer.ask("POST", "files/0/changes", json=ABLATION).status_code for _ in range(jobs.MAX_WAITING + 1)]
    assert statuses == [*[202] * jobs.MAX_WAITING, 503]
    changer.site.editor.go_on.set()


def test_mistakes_and_bugs_of_a_change_are_said(changer, capsys):
    mistake = changer.change(ABLATION | {"freeze": "mistake"})
    assert (mistake["state"], mistake["error"]) == ("failed", "do something else")
    bug = changer.change(ABLATION | {"freeze": "bug"})
    assert (bug["state"], bug["error"]) == (
        "failed",
        "this is a bug of cotrace, whose traceback is in the terminal: 'x'",
    )
    assert "KeyError" in capsys.readouterr().err
    assert changer.change(ABLATION)["state"] == "done"


def test_without_an_editor_nothing_is_changed(client):
    assert client.get("files/0/model").json()["obstacle"] == "the server was started without a model"
    assert client.change(ABLATION).status_code == 409


def test_a_page_can_ask_whether_there_is_a_model(changer):
    assert changer.get("files/0/model").json() == {"obstacle": None}
    assert changer.get("files/1/model").status_code == 404


WRONG_CHANGES = {
    "nothing": {},
    "no edits": {"edits": []},
    "no list": {"edits": "L0#0"},
    "an unknown kind": {"edits": [{"kind": "explode", "nodes": ["L0#0"]}]},
    "no nodes": {"edits": [{"kind": "ablate", "nodes": []}]},
    "a target": {"edits": [{"kind": "ablate", "nodes": ["logit:0"]}]},
    "a file": {"edits": [{"kind": "ablate", "nodes": ["L3:/etc/passwd"]}]},
    "a number": {"edits": [{"kind": "ablate", "nodes": [1]}]},
    "a node twice": {"edits": [{"kind": "ablate", "nodes": ["L0#0@1"]}, {"kind": "multiply", "nodes": ["L0#0@1"], "value": 2}]},
    "too many nodes": {"edits": [{"kind": "ablate", "nodes": [f"L0#{n}" for n in range(1001)]}]},
    "no value": {"edits": [{"kind": "multiply", "nodes": ["L0#0@1"]}]},
    "a truth value": {"edits": [{"kind": "multiply", "nodes": ["L0#0@1"], "value": True}]},
    "a text for a feature": {"edits": [{"kind": "set", "nodes": ["L0#0@1"], "value": " cold"}]},
    "a number for an error node": {"edits": [{"kind": "set", "nodes": ["L0#error@1"], "value": 1}]},
    "a number for a token": {"edits": [{"kind": "set", "nodes": ["token@1"], "value": 1}]},
    "an infinite value": {"edits": [{"kind": "multiply", "nodes": ["L0#0@1"], "value": 1e400}]},
    "too many tokens": {**ABLATION, "max_new_tokens": 10_000},
    "tokens that are no number": {**ABLATION, "max_new_tokens": "5"},
    "freeze that is no text": {**ABLATION, "freeze": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_CHANGES)
def test_a_wrong_change_is_refused_at_once(changer, name):
    with pytest.raises(ArgumentError) as caught:
        parse_change(WRONG_CHANGES[name])
    assert "\n" not in str(caught.value)
    assert not changer.site.editor.requests


def test_a_wrong_change_is_an_error_of_the_request(changer):
    assert changer.change(WRONG_CHANGES["a file"]).status_code == 422


def test_values_of_edits_are_numbers_or_texts_of_tokens():
    edits = [
        {"kind": "multiply", "nodes": ["L0#error@1"], "value": -2},
        {"kind": "set", "nodes": ["L0#0@1"], "value": 1.5},
        {"kind": "set", "nodes": ["token@2"], "value": " cold"},
    ]
    assert [edit.value for edit in parse_change({"edits": edits}).edits] == [-2.0, 1.5, " cold"]

"""Saving through the server of `cotrace view`: states, two writers, read-only files, garbage."""

import json
import os
import threading

import pytest
from helpers.random_graphs import random_graph

import cotrace

pytest.importorskip("starlette", reason="the server needs the extra: pip install 'cotrace[view]'")
from helpers.view_server import Client, make_site

from cotrace.viewer.server import bodies

FEATURE_GROUP = {"name": "a group", "nodes": ["L0#0@1"], "source": "suggested", "reason": "alike", "label": "days"}


def first_feature(path) -> str:
    """Return a feature without position."""
    graph = cotrace.open(path)
    return f"L{graph.column('layer', -1)[0]}#{graph.column('feature', -1)[0]}"


def test_groups_labels_and_the_state_of_the_page_are_saved(client, file):
    name, before = first_feature(file), cotrace.open(file)
    state = {
        "groups": [FEATURE_GROUP],
        "labels": {name: "not cold"},
        "page": {"pins": ["L0#0@1"], "nodeThreshold": 0.5},
    }
    answer = client.save(state, f'"{client.version()}"')
    assert answer.status_code == 200
    assert answer.json() == {"version": client.version()}
    graph = cotrace.open(file)
    assert graph.info["groups"] == [FEATURE_GROUP]
    assert {text for node, text in graph.labels.items() if str(node).startswith(f"{name}@")} == {"not cold"}
    assert graph.info["page"] == state["page"]
    assert graph.csr.weights.tolist() == before.csr.weights.tolist()
    assert '"nodeThreshold"' in json.dumps(cotrace.open(file).info["page"])


def test_an_empty_label_removes_the_one_that_was_there(client, file):
    name = first_feature(file)
    client.save({"labels": {name: "x"}})
    assert "x" in cotrace.open(file).labels.values()
    assert client.save({"labels": {name: " ", "L99#1": ""}}).status_code == 200
    assert "x" not in cotrace.open(file).labels.values()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has modes of files")
def test_a_private_file_stays_private(client, file):
    file.chmod(0o600)
    client.save({"labels": {first_feature(file): "x"}})
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_label_that_is_put_back_keeps_its_source(client, file):
    name = first_feature(file)
    graph = cotrace.open(file)
    graph.add_labels({name: "from its examples"}, source="examples")
    graph.save(file)
    client.save({"labels": {name: "mine"}})
    assert "mine" in cotrace.open(file).labels.values()
    client.save({"labels": {name: {"text": "from its examples", "source": "examples"}}})
    assert cotrace.open(file).column("label").tolist() == graph.column("label").tolist()
    assert cotrace.open(file).column("label_source").tolist() == graph.column("label_source").tolist()


@pytest.mark.parametrize(
    "label", [None, 5, {}, {"text": "x"}, {"text": "x", "source": "me"}, {"text": 5, "source": "user"}]
)
def test_a_wrong_label_is_refused(client, file, label):
    before = file.read_bytes()
    assert client.save({"labels": {first_feature(file): label}}).status_code == 422
    assert file.read_bytes() == before


def test_labels_of_features_that_are_not_in_the_graph_are_passed_over(client, file):
    before = cotrace.open(file).labels
    assert client.save({"labels": {"L99#1": "x"}}).status_code == 200
    assert cotrace.open(file).labels == before


def test_compressed_files_and_reports_stay_what_they_are(tmp_path):
    graph = random_graph(5)
    packed = graph.save(tmp_path / "b.arrow.zst")
    assert Client(make_site(packed)).save({"groups": [FEATURE_GROUP]}).status_code == 200
    assert packed.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    assert cotrace.open(packed).info["groups"] == [FEATURE_GROUP]


INVALID = {
    "an unknown entry": {"nodes": []},
    "groups that are no list": {"groups": {}},
    "a group without name": {"groups": [{"nodes": ["L0#0@1"]}]},
    "a group without nodes": {"groups": [{"name": "a"}]},
    "a group with an empty name": {"groups": [{"name": " ", "nodes": ["L0#0@1"]}]},
    "a group that reads as a node": {"groups": [{"name": "L1#2", "nodes": ["L0#0@1"]}]},
    "two groups of one name": {"groups": [{"name": "a", "nodes": ["L0#0@1"]}] * 2},
    "a node that is none": {"groups": [{"name": "a", "nodes": ["<script>"]}]},
    "a node that is a number": {"groups": [{"name": "a", "nodes": [3]}]},
    "a reason that is no text": {"groups": [{"name": "a", "nodes": ["L0#0@1"], "reason": 3}]},
    "half a character": {"groups": [{"name": "a\ud800", "nodes": ["L0#0@1"]}]},
    "labels that are a list": {"labels": []},
    "a label that is a number": {"labels": {"L0#0": 3}},
    "a label of a token": {"labels": {"token@1": "x"}},
    "a label that reads as a node": {"labels": {"L0#0": "L1#1"}},
    "a removed label of nothing": {"labels": {"nothing": ""}},
    "a page that is a list": {"page": []},
    "half a character in the page": {"page": {"a": "\udfff"}},
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_state_is_refused_and_the_file_stays(client, file, name):
    before = file.read_bytes()
    answer = client.ask(
        "PUT",
        "files/0",
        content=json.dumps(INVALID[name]),
        headers={"if-match": "*", "content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert "\n" not in answer.json()["error"]
    assert file.read_bytes() == before


def test_of_two_writers_the_second_is_told(client, file):
    first = client.version()
    assert client.save({"groups": [FEATURE_GROUP]}, first).status_code == 200
    answer = client.save({"groups": []}, first)
    assert answer.status_code == 412
    assert answer.json()["version"] == client.version()
    assert cotrace.open(file).info["groups"] == [FEATURE_GROUP]
    assert client.save({"groups": []}, "*").status_code == 200
    assert cotrace.open(file).info["groups"] == []


def test_a_save_needs_the_version_that_was_read(client):
    assert client.save({}, None).status_code == 428


def test_of_many_writers_at_once_with_one_version_one_wins(file):
    clients = [Client(make_site(file)) for _ in range(2)]  # two servers of one file
    version, statuses = clients[0].version(), []

    def write(number):
        group = {"name": f"group {number}", "nodes": ["L0#0@1"]}
        statuses.append(clients[number % 2].save({"groups": [group]}, version).status_code)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(statuses) == [200, *[412] * 5]
    assert len(cotrace.open(file).info["groups"]) == 1
    assert os.listdir(file.parent) == [file.name]  # no lock and no temporary file stays


def test_read_only_files_are_not_saved(file):
    before = file.read_bytes()
    client = Client(make_site(file, read_only=True))
    assert "--read-only" in client.get("files").json()[0]["obstacle"]
    answer = client.save({"groups": []})
    assert answer.status_code == 422
    assert "save a copy" in answer.json()["error"]
    assert file.read_bytes() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_write_protected_file_is_not_saved(client, file):
    file.chmod(0o400)
    assert "may not write" in client.get("files").json()[0]["obstacle"]
    assert client.save({}).status_code == 422


def test_a_link_to_a_file_stays_a_link(file, tmp_path):
    link = tmp_path / "link.arrow"
    link.symlink_to(file)
    assert Client(make_site(link)).save({"groups": [FEATURE_GROUP]}).status_code == 200
    assert link.is_symlink()
    assert cotrace.open(file).info["groups"] == [FEATURE_GROUP]


# --- garbage ----------------------------------------------------------------------------------

BODIES = {
    "nothing": b"",
    "no JSON": b"<script>",
    "no object": b"[]",
    "a number that JSON lacks": b'{"page": {"a": NaN}}',
    "an infinity": b'{"page": {"a": -Infinity}}',
    "no text": b"\xff\xfe{}",
    "too deep": b'{"page": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
}


@pytest.mark.parametrize("name", BODIES)
def test_garbage_is_refused(client, file, name):
    before = file.read_bytes()
    headers = {"if-match": "*", "content-type": "application/json"}
    assert client.ask("PUT", "files/0", content=BODIES[name], headers=headers).status_code == 400
    assert file.read_bytes() == before


def test_other_types_of_content_are_refused(client):
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        headers = {"if-match": "*", "content-type": kind}
        assert client.ask("PUT", "files/0", content=b"{}", headers=headers).status_code == 415


def test_a_body_that_is_too_large_is_refused(client, file, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)
    answer = client.save({"page": {"a": "x" * 1000}})
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert "page" not in cotrace.open(file).info


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(client, method):
    assert client.ask(method, "files/0").status_code == 405


def test_a_bug_is_an_error_without_details_and_a_traceback_in_the_terminal(client, monkeypatch, capsys):
    monkeypatch.setattr(client.site, "make_page", lambda *_: 1 / 0)
    answer = client.get("")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "ZeroDivisionError" in capsys.readouterr().err

"""The server of `cotrace view`: saving, two writers, other sites, garbage, slow clients, and edits of the model."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from helpers.random_graphs import random_graph

import cotrace

pytest.importorskip("starlette", reason="the server needs the extra: pip install 'cotrace[view]'")
from helpers.view_server import Client, make_site, running

from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.viewer.server import bodies, jobs, serving
from cotrace.viewer.server.edits import parse_change
from cotrace.viewer.server.guard import COOKIE, HEADERS, is_own_host

FEATURE_GROUP = {"name": "a group", "nodes": ["L0#0@1"], "source": "suggested", "reason": "alike", "label": "days"}


@pytest.fixture
def file(tmp_path):
    return random_graph(3).save(tmp_path / "a.arrow")


@pytest.fixture
def client(file):
    return Client(make_site(file))


def first_feature(path) -> str:
    """Return a feature without position."""
    graph = cotrace.open(path)
    return f"L{graph.column('layer', -1)[0]}#{graph.column('feature', -1)[0]}"


# --- the page and the way to it ---------------------------------------------------------------


def test_the_token_is_exchanged_for_a_cookie_of_the_page_alone(client):
    answer = client.http.get("/", params={"token": client.site.keys.token})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{client.site.keys.place}/"  # without the token
    cookie = answer.headers["set-cookie"]
    assert f"{COOKIE}={client.site.keys.token}" in cookie
    assert "HttpOnly" in cookie
    assert f"Path={client.site.keys.place}/" in cookie


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=ü", "?token=a&token=b"])
def test_a_wrong_token_opens_nothing(client, query):
    answer = client.http.get(f"/{query}")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert "cotrace view" in answer.text


def test_the_page_has_the_files_and_what_it_knows_of_the_server(client):
    page = client.get("").text
    header = json.loads(re.search(r'id="page">(.*?)</script>', page)[1])
    assert [each["name"] for each in header["files"]] == ["a.arrow"]
    server = header["server"]
    assert server["token"] == client.site.keys.token
    assert server["files"] == [{"name": "a.arrow", "version": client.version(), "obstacle": None}]
    assert server["change"] is False


def test_the_page_is_made_once_for_each_version_of_its_files(client, file):
    assert client.get("").text == client.get("").text
    before = client.site.page()
    assert client.site.page() is before
    graph = cotrace.open(file)
    graph.notes = "new"
    graph.save(file)
    assert client.site.page() != before


def test_the_policy_of_the_page_is_that_in_its_markup_and_forbids_frames(client):
    answer = client.get("")
    in_markup = re.search(r'Content-Security-Policy" content="([^"]*)"', answer.text)[1].replace("&#x27;", "'")
    assert answer.headers["content-security-policy"] == f"{in_markup}; frame-ancestors 'none'"
    assert "default-src 'none'" in in_markup


@pytest.mark.parametrize("path", ["", "files", "files/0", "files/7", "nowhere", "changes/1"])
def test_every_answer_has_headers_against_other_sites(client, path):
    headers = client.get(path).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_a_file_is_served_as_it_is_on_disk(client, file):
    answer = client.get("files/0")
    assert answer.content == file.read_bytes()
    assert answer.headers["content-disposition"] == 'attachment; filename="a.arrow"'


@pytest.mark.parametrize("path", ["files/1", "files/-1", "files/../a.arrow", "files/%2e%2e/a.arrow", "files/0/../../x"])
def test_only_the_given_files_are_served(client, path):
    assert client.get(path).status_code == 404


def test_a_file_that_is_gone_is_said(client, file):
    file.unlink()
    assert client.get("").status_code == 409
    assert "is gone" in client.get("").text
    assert client.get("files").json()[0]["version"] is None
    assert client.get("files/0").status_code == 422
    answer = client.save({"labels": {}})
    assert answer.status_code == 422
    assert "is gone" in answer.json()["error"]
    assert not file.exists()


# --- other sites ------------------------------------------------------------------------------

FOREIGN = {
    "rebinding": {"host": "evil.example"},
    "rebinding with a port": {"host": "evil.example:8642"},
    "a name like ours": {"host": "127.0.0.1.evil.example"},
    "a path in the host": {"host": "127.0.0.1:8642/x?"},
    "another origin": {"origin": "https://evil.example"},
    "no origin": {"origin": "null"},
    "another port": {"origin": "http://127.0.0.1:9999"},
    "another site": {"sec-fetch-site": "cross-site"},
    "a sister site": {"sec-fetch-site": "same-site"},
    "a frame": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_requests_of_other_sites_are_refused(client, file, name, method):
    before = file.read_bytes()
    answer = client.ask(method, "files/0", headers={"if-match": "*", **FOREIGN[name]}, json={"labels": {}})
    assert answer.status_code == 403
    assert file.read_bytes() == before


def test_a_link_on_another_site_may_open_the_page_but_not_write(client):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("", headers=link).status_code == 200
    assert client.ask("PUT", "files/0", headers={"if-match": "*", **link}, json={}).status_code == 403


def test_two_host_headers_are_refused(client):
    request = client.http.build_request("GET", f"{client.site.keys.place}/files")
    request.headers = type(request.headers)([("host", "127.0.0.1:8642"), ("host", "evil.example")])
    assert client.http.send(request).status_code == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "localhost:8642", "LOCALHOST", "[::1]:80", "[::1]", "10.0.0.7", "My.Machine:5"]
)
def test_addresses_and_the_own_name_are_own_hosts(host):
    assert is_own_host(host, "my.machine")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "[::1",
        "1.2.3.4.5",
        "127.0.0.1@evil.example",
        "localhost:80/x",
        "::1",
    ],
)
def test_other_names_are_not_own_hosts(host):
    assert not is_own_host(host, "127.0.0.1")


@pytest.mark.parametrize("token", [False, "", "wrong", "x" * 100_000])
def test_everything_needs_the_token(client, file, token):
    before = file.read_bytes()
    for method, path in (
        ("GET", ""),
        ("GET", "files"),
        ("GET", "files/0"),
        ("PUT", "files/0"),
        ("POST", "files/0/changes"),
        ("DELETE", "changes/1"),
    ):
        assert client.ask(method, path, token=token, json={}).status_code == 403, path
    assert file.read_bytes() == before


def test_the_cookie_reads_but_does_not_write(client):
    cookie = {"cookie": f"{COOKIE}={client.site.keys.token}"}
    assert client.get("files", token=False, headers=cookie).status_code == 200
    assert client.ask("PUT", "files/0", token=False, headers={"if-match": "*", **cookie}, json={}).status_code == 403


# --- saving -----------------------------------------------------------------------------------


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


# --- a real port ------------------------------------------------------------------------------


@pytest.fixture
def at_port(file):
    """Run a server at a real port and return it with its address."""
    site = make_site(file)
    with running(site) as address:
        yield site, int(re.search(r":(\d+)/", address)[1])


def talk(port: int, content: bytes, seconds=30.0) -> bytes:
    """Send bytes and return all that is answered until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), seconds) as sock:
        sock.sendall(content)
        answer = b""
        while part := sock.recv(65536):
            answer += part
    return answer


RAW = {
    "no request": b"\x00\x01\x02\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    "a header that is too long": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a wrong length": b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
def test_garbage_at_the_port_is_answered_with_an_error(at_port, name):
    site, port = at_port
    try:
        answer = talk(port, RAW[name])
    except ConnectionResetError:  # it does not read the rest
        answer = b"HTTP/1.1 400"
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))
    assert b"200 OK" in talk(port, _request(site, "GET", "files"))  # it lives


def _request(site, method, path, *more, length=None) -> bytes:
    headers = [f"X-Cotrace-Token: {site.keys.token}", "Host: 127.0.0.1", "Connection: close", *more]
    headers += [] if length is None else ["Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([f"{method} {site.keys.place}/{path} HTTP/1.1", *headers, "", ""]).encode()


def test_slow_clients_are_cut_off(at_port, monkeypatch):
    site, port = at_port
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
    assert talk(port, b"GET / HT") == b""  # half a head
    assert talk(port, b"") == b""  # silence
    answer = talk(port, _request(site, "PUT", "files/0", "If-Match: *", length=100) + b'{"gro')
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"200 OK" in talk(port, _request(site, "GET", "files"))


def test_many_idle_clients_do_not_shut_others_out_for_long(at_port, monkeypatch):
    site, port = at_port
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.2)
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(serving.MAX_CONNECTIONS)]
    deadline = time.monotonic() + 60
    while b"200 OK" not in talk(port, _request(site, "GET", "files")):
        assert time.monotonic() < deadline
    [each.close() for each in idle]


def test_a_port_in_use_is_said_or_another_one_is_taken(monkeypatch):
    with serving.listen("127.0.0.1", None) as first:
        port = first.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"port {port} is in use"):
            serving.listen("127.0.0.1", port)
        monkeypatch.setattr(serving, "DEFAULT_PORT", port)
        with serving.listen("127.0.0.1", None) as second:
            assert second.getsockname()[1] != port
            assert serving.address_of(second, "127.0.0.1") == f"http://127.0.0.1:{second.getsockname()[1]}/"


def test_a_host_that_is_not_of_this_machine_is_refused():
    with pytest.raises(ArgumentError, match="cannot listen on"):
        serving.listen("203.0.113.1", 8642)
    with pytest.raises(ArgumentError, match="cannot listen on"):
        serving.listen("no.such.host.invalid", 8642)


# --- edits of the model, by an editor that computes nothing -----------------------------------


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


# --- the command --------------------------------------------------------------------------------


def test_the_command_names_what_is_wrong_with_its_files(command, file, tmp_path):
    assert "does not exist" in command("view", tmp_path / "none.arrow")[2]
    assert "named twice" in command("view", file, file)[2]
    assert command("view")[0] == 2


def test_the_command_needs_its_packages(command, file, monkeypatch):
    monkeypatch.setattr("cotrace.cli.view.find_spec", lambda name: None)
    status, _, errors = command("view", file)
    assert status == 2
    assert "pip install 'cotrace[view]'" in errors


def test_the_command_serves_until_it_is_interrupted(command, file, monkeypatch):
    opened = []

    def interrupted(app, sock):
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve", interrupted)
    monkeypatch.setattr("cotrace.cli.view.open_browser", opened.append)
    status, output, _ = command("view", file)
    assert status == 0
    address = re.search(r"open (http://127\.0\.0\.1:\d+/\?token=[\w-]{43})\n", output)[1]
    assert opened == [address]
    assert output.endswith("stopped\n")
    assert "encrypted" not in output


def test_an_interrupt_stops_the_command_cleanly(file):
    """A client that holds its connection does not delay the end."""
    command = [sys.executable, "-m", "cotrace", "view", str(file), "--no-open"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
        answer = talk(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403")
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.sendall(b"GET / HT")
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
    assert errors == ""
    assert (process.returncode, output[-8:]) == (0, "stopped\n")


def test_a_link_to_a_file_stays_a_link(file, tmp_path):
    link = tmp_path / "link.arrow"
    link.symlink_to(file)
    assert Client(make_site(link)).save({"groups": [FEATURE_GROUP]}).status_code == 200
    assert link.is_symlink()
    assert cotrace.open(file).info["groups"] == [FEATURE_GROUP]


def test_another_host_is_said_to_be_open_to_others(command, file, monkeypatch):
    monkeypatch.setattr(serving, "serve", lambda app, sock: None)
    output = command("view", file, "--host", "0.0.0.0", "--no-open")[1]
    assert "whoever can reach this machine" in output
    assert f"open http://{socket.gethostname()}:" in output
    assert is_own_host(f"{socket.gethostname()}:80", "0.0.0.0")
    assert not is_own_host(f"{socket.gethostname()}.evil.example", "0.0.0.0")

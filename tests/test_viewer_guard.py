"""What the server of `cotrace view` lets through: the token, the page and its files, other sites."""

import json
import re

import pytest

import cotrace

pytest.importorskip("starlette", reason="the server needs the extra: pip install 'cotrace[view]'")
from cotrace.viewer.server.guard import COOKIE, HEADERS, is_own_host

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

"""The server of `cotrace view` at a port: garbage, slow clients, ports and hosts, and the command."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("starlette", reason="the server needs the extra: pip install 'cotrace[view]'")
from helpers.view_server import make_site, running

from cotrace.common.errors import ArgumentError
from cotrace.viewer.server import bodies, serving
from cotrace.viewer.server.guard import is_own_host


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


def test_another_host_is_said_to_be_open_to_others(command, file, monkeypatch):
    monkeypatch.setattr(serving, "serve", lambda app, sock: None)
    output = command("view", file, "--host", "0.0.0.0", "--no-open")[1]
    assert "whoever can reach this machine" in output
    assert f"open http://{socket.gethostname()}:" in output
    assert is_own_host(f"{socket.gethostname()}:80", "0.0.0.0")
    assert not is_own_host(f"{socket.gethostname()}.evil.example", "0.0.0.0")

"""A server of `cotrace view` in this process, or at a real port."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from cotrace.viewer.page.payload import PAGE_STATE, PageFile, page_html
from cotrace.viewer.server.app import Site, make_app
from cotrace.viewer.server.files import ServedFile
from cotrace.viewer.server.guard import TOKEN_HEADER
from cotrace.viewer.server.serving import make_server

ADDRESS = "http://127.0.0.1:8642"


def page_of(named, server):
    """Return the page of graphs, without what takes long to make: cards, suggestions and pictures."""
    return page_html(
        [PageFile(name, graph, {"state": graph.info.get(PAGE_STATE, {})}) for name, graph in named], server=server
    )


def make_site(*paths, editor=None, read_only=False, host="127.0.0.1") -> Site:
    return Site([ServedFile(path, read_only) for path in paths], page_of, editor, host)


class Client:
    """A client that asks as the page does, unless `token` is false."""

    def __init__(self, site: Site):
        from starlette.testclient import TestClient

        self.site, self.http = site, TestClient(make_app(site), base_url=ADDRESS, follow_redirects=False)

    def ask(self, method: str, path: str, *, token=True, headers=None, **options):
        sent = {TOKEN_HEADER: self.site.keys.token} if token is True else {TOKEN_HEADER: token} if token else {}
        return self.http.request(method, f"{self.site.keys.place}/{path}", headers=sent | (headers or {}), **options)

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def save(self, state, version="*", number=0, **options):
        headers = {"If-Match": version} if version else {}
        return self.ask("PUT", f"files/{number}", json=state, headers=headers, **options)

    def version(self, number=0) -> str:
        return self.get("files").json()[number]["version"]

    def change(self, request, number=0, seconds=60.0):
        """Ask for a change and return the finished job, or the answer that refuses it."""
        answer = self.ask("POST", f"files/{number}/changes", json=request)
        return self.finished(answer.json()["id"], seconds) if answer.status_code == 202 else answer

    def finished(self, job: str, seconds=60.0) -> dict:
        deadline = time.monotonic() + seconds
        while (found := self.get(f"changes/{job}").json())["state"] in ("waiting", "running"):
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        return found


@contextlib.contextmanager
def running(site: Site) -> Iterator[str]:
    """Run a site at a free port of this machine, and yield the address to open, with its token."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = make_server(make_app(site))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/?token={site.keys.token}"
    finally:
        server.should_exit = True
        thread.join(30)

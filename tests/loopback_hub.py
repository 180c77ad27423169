"""A Hub on 127.0.0.1 for the real client, with enough of the API to list and download repositories."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")  # kept in large-file storage, and named by their SHA-256


class LoopbackHub:
    """Serves folders as repositories: `repos` maps owner/name to {revision: folder}.

    `gated` repositories list their files and refuse them; `failing` ones answer 503. `downloaded`
    collects (repository, path) of every file that was sent.
    """

    def __init__(self, repos: dict[str, dict[str, Path]], gated: tuple[str, ...] = (), failing: tuple[str, ...] = ()):
        self.repos, self.gated, self.failing = repos, gated, failing
        self.downloaded: list[tuple[str, str]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception) -> None:
        self._server.shutdown()
        self._server.server_close()

    def resolve(self, repo: str, revision: str) -> tuple[str, Path] | None:
        """Return commit and folder of a revision, which may be a commit."""
        for name, folder in self.repos[repo].items():
            commit = commit_of(repo, name)
            if revision in (name, commit):
                return commit, folder
        return None


def commit_of(repo: str, revision: str) -> str:
    return hashlib.sha1(f"{repo}@{revision}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), *parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, None)

    def _find(self, repo: str, revision: str) -> tuple[str, Path] | None:
        if repo in self.hub.failing:
            return self._refuse(503, None)
        if repo not in self.hub.repos:
            return self._refuse(401, "RepoNotFound")  # the Hub does not say which names exist
        return self.hub.resolve(repo, revision) or self._refuse(404, "RevisionNotFound")

    def _api(self, repo: str, what: str = "revision", revision: str = "main", *_rest: str) -> None:
        found = self._find(repo, revision)
        if found is None:
            return
        commit, folder = found
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        if what == "tree":
            self._send(json.dumps([_entry(path, folder) for path in paths]).encode())
        else:
            siblings = [{"rfilename": str(path.relative_to(folder))} for path in paths]
            self._send(json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode())

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self._find(repo, revision)
        if found is None:
            return
        commit, folder = found
        path = folder / name
        if repo in self.hub.gated:
            self._refuse(403, "GatedRepo")
        elif not path.is_file():
            self._refuse(404, "EntryNotFound")
        else:
            if self.command == "GET":
                self.hub.downloaded.append((repo, name))
            self._send(path.read_bytes(), {"X-Repo-Commit": commit, "ETag": f'"{_etag(path)}"'})

    def _send(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        start = 0
        if self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            headers = {**(headers or {}), "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._reply(206 if start else 200, content[start:], headers or {})

    def _refuse(self, status: int, code: str | None) -> None:
        self._reply(status, b"", {"X-Error-Code": code, "X-Error-Message": code} if code else {})

    def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _etag(path: Path) -> str:
    return (hashlib.sha256 if path.suffix in LARGE else hashlib.sha1)(path.read_bytes()).hexdigest()


def _entry(path: Path, folder: Path) -> dict:
    size = path.stat().st_size
    entry = {"type": "file", "path": str(path.relative_to(folder)), "size": size, "oid": "0" * 40}
    if path.suffix in LARGE:
        return entry | {"lfs": {"oid": _etag(path), "size": size, "pointerSize": 130}}
    return entry | {"oid": _etag(path)}

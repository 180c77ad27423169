"""The addresses of the server. Everything but the entry lies below one random path.

    GET     /?token=…               give the browser a cookie, and go to the page
    GET     /PLACE/                 the page
    GET     /PLACE/files            versions of the files, and which can be saved
    GET     /PLACE/files/N          the file as it is on disk
    PUT     /PLACE/files/N          save groups, labels and the state of the page; If-Match names the version that was read
    GET     /PLACE/files/N/model    why the model of the file cannot be run, null if it can
    POST    /PLACE/files/N/changes  change the model: the answer is a job
    GET     /PLACE/changes/ID       the job: its progress or result
    DELETE  /PLACE/changes/ID       cancel it

Errors are `{"error": "…"}` with a status.
"""

import asyncio
import html
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cotrace.common.errors import CotraceError, ResourceError
from cotrace.graphs import Graph
from cotrace.viewer.page.html import page_policy

from .bodies import read_object
from .edits import ModelEditor, parse_change
from .files import ServedFile, StaleVersionError
from .guard import COOKIE, POLICY, Guard, Keys
from .jobs import Job, JobQueue

REQUEST_SECONDS = 300.0  # for one request with its response, also for clients that read slowly
NO_MODEL = "the server was started without a model"
MakePage = Callable[[list[tuple[str, Graph]], dict[str, Any]], str]
"""Returns the page of graphs, given the names of their files; the second argument is what the page knows of its server."""


@dataclass
class Site:
    """What one server serves.

    Attributes:
        files: the files.
        make_page: makes the page.
        editor: runs models; None if there is none.
        host: the name or address that the server listens on.
    """

    files: list[ServedFile]
    make_page: MakePage
    editor: ModelEditor | None = None
    host: str = "127.0.0.1"
    keys: Keys = field(default_factory=Keys)
    jobs: JobQueue = field(default_factory=JobQueue)
    _page: tuple[list[dict[str, Any]], str] | None = None
    _making: threading.Lock = field(default_factory=threading.Lock)

    def page(self) -> str:
        """Return the page of the files as they are now; it is made again when one of them changes."""
        with self._making:
            if self._page is None or self._page[0] != self.describe():
                opened = [file.open() for file in self.files]
                described = [
                    each | {"version": version} for each, (version, _) in zip(self.describe(), opened, strict=True)
                ]
                server = {"token": self.keys.token, "files": described, "change": self.editor is not None}
                named = [(file.name, graph) for file, (_, graph) in zip(self.files, opened, strict=True)]
                self._page = described, self.make_page(named, server)
            return self._page[1]

    def describe(self) -> list[dict[str, Any]]:
        """Return for each file its name, its version (null if it is gone), and why it cannot be saved."""
        return [{"name": each.name, "version": _version(each), "obstacle": each.obstacle()} for each in self.files]


def _version(file: ServedFile) -> str | None:
    try:
        return file.version()
    except CotraceError:
        return None


def make_app(site: Site) -> ASGIApp:
    """Return the application of a site, behind its guard."""
    below = [
        Route("/", Page(site).get),
        Route("/files", FilesApi(site).list),
        Route("/files/{number:int}", FilesApi(site).get, methods=["GET"]),
        Route("/files/{number:int}", FilesApi(site).put, methods=["PUT"]),
        Route("/files/{number:int}/model", ChangesApi(site).model),
        Route("/files/{number:int}/changes", ChangesApi(site).post, methods=["POST"]),
        Route("/changes/{id}", ChangesApi(site).get, methods=["GET"]),
        Route("/changes/{id}", ChangesApi(site).delete, methods=["DELETE"]),
    ]
    app = Starlette(
        routes=[Route("/", Page(site).enter), Mount(site.keys.place, routes=below)],
        exception_handlers={HTTPException: _http_error, CotraceError: _user_error},  # type: ignore[dict-item]
    )
    return Guard(_watched(app), site.keys, site.host)


def _watched(app: ASGIApp) -> ASGIApp:
    """Return an application that drops requests after `REQUEST_SECONDS`, and prints the traceback of a bug.

    The server closes the connection of a request whose response is not complete.
    """

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await app(scope, receive, send)
        except TimeoutError:
            pass
        except Exception:  # the client has got status 500
            traceback.print_exc()

    return watched


class Page:
    """The page, and the way to it."""

    def __init__(self, site: Site):
        self._site = site

    def enter(self, request: Request) -> Response:
        """Redirect to the page with a cookie, so that the token is not in the address that users copy."""
        keys = self._site.keys
        if not keys.opens(request.query_params.get("token")):
            return _sentence("Open the address that <code>cotrace view</code> printed in the terminal.", 403)
        answer = RedirectResponse(f"{keys.place}/", 303)
        answer.set_cookie(COOKIE, keys.token, path=f"{keys.place}/", httponly=True, samesite="lax")
        return answer

    async def get(self, request: Request) -> Response:
        """Return the page."""
        try:
            page = await run_in_threadpool(self._site.page)
        except CotraceError as error:  # a file is gone or damaged: a person reads this
            return _sentence(html.escape(str(error)), 409)
        return HTMLResponse(page, headers={POLICY: f"{page_policy(served=True)}; frame-ancestors 'none'"})


class FilesApi:
    """Versions and contents of files, and saving."""

    def __init__(self, site: Site):
        self._site = site

    def list(self, request: Request) -> Response:
        """Return the versions of all files."""
        return JSONResponse(self._site.describe())

    def get(self, request: Request) -> Response:
        """Return a file as it is on disk."""
        file = _file(self._site, request)
        file.version()  # raises if it is gone
        return FileResponse(file.path, media_type="application/octet-stream", filename=file.name)

    async def put(self, request: Request) -> Response:
        """Save what a user changed; status 412 if the file changed since, 428 without a version."""
        file, given = _file(self._site, request), request.headers.get("if-match")
        if given is None:
            raise HTTPException(428, "send the version that was read as If-Match, or * to overwrite any")
        state = await read_object(request)
        version = None if given.strip() == "*" else given.strip().strip('"')
        try:
            saved = await run_in_threadpool(file.save, state, version)
        except StaleVersionError:
            reason = f"{file.name} was changed on disk since this page read it"
            return JSONResponse({"error": reason, "version": _version(file)}, 412)
        return JSONResponse({"version": saved})


class ChangesApi:
    """Edits of the model."""

    def __init__(self, site: Site):
        self._site = site

    async def model(self, request: Request) -> Response:
        """Return why the model of a file cannot be run, null if it can."""
        file, editor = _file(self._site, request), self._site.editor
        if editor is None:
            return JSONResponse({"obstacle": NO_MODEL})
        return JSONResponse({"obstacle": await run_in_threadpool(lambda: editor.obstacle(file.open()[1]))})

    async def post(self, request: Request) -> Response:
        """Start a change of the model."""
        file, editor = _file(self._site, request), self._site.editor
        if editor is None:
            raise HTTPException(409, NO_MODEL)
        wanted = parse_change(await read_object(request))
        job = self._site.jobs.add(lambda: editor.change(file.open()[1], wanted))
        return JSONResponse(job.describe(), 202)

    def get(self, request: Request) -> Response:
        """Return the progress or result of a change."""
        return JSONResponse(self._job(request).describe())

    def delete(self, request: Request) -> Response:
        """Cancel a change."""
        job = self._job(request)
        job.cancel()
        return JSONResponse(job.describe())

    def _job(self, request: Request) -> Job:
        job = self._site.jobs.get(request.path_params["id"])
        if job is None:
            raise HTTPException(404, "there is no such change")
        return job


def _file(site: Site, request: Request) -> ServedFile:
    number = request.path_params["number"]
    if number >= len(site.files):
        raise HTTPException(404, "there is no such file")
    return site.files[number]


def _sentence(markup: str, status: int) -> Response:
    return HTMLResponse(f'<!DOCTYPE html><meta charset="utf-8"><title>cotrace</title><p>{markup}</p>', status)


def _http_error(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _user_error(_: Request, error: CotraceError) -> Response:
    return JSONResponse({"error": str(error)}, 503 if isinstance(error, ResourceError) else 422)

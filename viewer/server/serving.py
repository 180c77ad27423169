"""Sockets, and uvicorn with limits for slow and many clients."""

import errno
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cotrace.common.errors import ArgumentError

from .guard import ALL_ADDRESSES

DEFAULT_PORT = 8642
LAST_PORT = 65_535
IDLE_SECONDS = 10.0  # in which a client must have sent the head of a request
MAX_CONNECTIONS = 64
SHUTDOWN_SECONDS = 2
NOT_IDLE = object()


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on clients that hold a connection without a request, for up to twice `IDLE_SECONDS`."""

    def connection_made(self, transport) -> None:
        """Start to watch the connection."""
        super().connection_made(transport)
        self._look_later()

    def _look_later(self) -> None:
        idle_since = self.cycle if self._is_idle else NOT_IDLE
        self.loop.call_later(IDLE_SECONDS, self._look, idle_since)

    def _look(self, idle_since: object) -> None:
        """Hang up if there was no request since the last look; `idle_since` is the last request before it."""
        if self.transport.is_closing():
            return
        if self._is_idle and self.cycle is idle_since:
            self.transport.abort()
        else:
            self._look_later()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens; without a port, at `DEFAULT_PORT` or else at any that is free.

    Raises ArgumentError for a host that is not of this machine, and for a port that is taken or not allowed.
    """
    try:
        return _bound(host, DEFAULT_PORT if port is None else port)
    except OSError as error:
        if port is None and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return _bound(host, 0)
        if error.errno == errno.EADDRINUSE:
            raise ArgumentError(f"port {port} is in use; choose another one, or omit --port for a free one") from error
        if error.errno == errno.EACCES:
            raise ArgumentError(f"you may not use port {port}; choose one above 1023") from error
        reason = error.strerror or str(error)
        raise ArgumentError(
            f"cannot listen on {host!r}: {reason}; choose 127.0.0.1 or an address of this machine"
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family)


def address_of(sock: socket.socket, host: str) -> str:
    """Return the address to open in a browser, without a token: `http://127.0.0.1:8642/`.

    Where all addresses are listened on, it has the name of this machine.
    """
    named = socket.gethostname() if host in ALL_ADDRESSES else host
    shown = f"[{named}]" if ":" in named else named
    return f"http://{shown}:{sock.getsockname()[1]}/"


def serve(app: ASGIApp, sock: socket.socket) -> None:
    """Answer requests until Ctrl-C, which raises KeyboardInterrupt, or SIGTERM.

    Requests that are being answered have `SHUTDOWN_SECONDS` then.
    """
    make_server(app).run(sockets=[sock])


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return the server of an application."""
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_level="critical",  # requests that are damaged or slow are no news; the application prints tracebacks of bugs
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)

"""Which requests are answered, and the headers of every response.

Against other sites in the same browser: the name of the host must be an address or this machine (DNS rebinding), writes come
from the page itself (`Origin`, `Sec-Fetch-Site`, a token in a header that other sites cannot send), and reads need the token
or a cookie. The cookie is sent below one random path only, since browsers send cookies to every port of a host.
"""

import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER, COOKIE = "x-cotrace-token", "cotrace-view"
ALL_ADDRESSES = ("0.0.0.0", "::")
READING = ("GET", "HEAD")
POLICY = "content-security-policy"
CLOSED_POLICY = "default-src 'none'; frame-ancestors 'none'"
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True)
class Keys:
    """The secret token of a running server, and the path of its page, which is public."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    place: str = field(default_factory=lambda: f"/{secrets.token_hex(4)}")

    def opens(self, token: str | None) -> bool:
        """Return whether a text is the token."""
        return token is not None and secrets.compare_digest(token.encode(), self.token.encode())


class Guard:
    """ASGI middleware that refuses requests, and adds headers to all responses.

    Args:
        app: what answers the others.
        keys: the server's token and path.
        host: the name or address that the server listens on.
    """

    def __init__(self, app: ASGIApp, keys: Keys, host: str):
        self._app, self._keys, self._host = app, keys, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault(POLICY, CLOSED_POLICY)
                headers.update(HEADERS)
            await send(message)

        request = Request(scope)
        reason = self._refusal(request)
        answer = self._app if reason is None else JSONResponse({"error": reason}, 403)
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> str | None:
        """Return why a request is refused, or None."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not is_own_host(hosts[0], self._host):
            return "unknown host: open the address that `cotrace view` printed"
        if is_foreign(request.method, request.headers, f"http://{hosts[0]}"):
            return "the request comes from another site"
        path = request.scope["path"]  # what routes see; a URL has the client's `Host`
        if not path.startswith(f"{self._keys.place}/"):
            return None
        sent = request.headers.get(TOKEN_HEADER)
        if request.method in READING and sent is None:
            sent = request.cookies.get(COOKIE)
        return None if self._keys.opens(sent) else "open the address that `cotrace view` printed: it has the token"


def is_own_host(header: str, host: str) -> bool:
    """Return whether a `Host` header is an IP address, localhost, the host that the server listens on or, where that is all
    addresses, the name of this machine.

    The name of another site that resolves to this machine is none of these; any port may be that of a tunnel.
    """
    name = re.sub(r":[0-9]+\Z", "", header)
    own = socket.gethostname() if host in ALL_ADDRESSES else host
    if name.lower().rstrip(".") in ("localhost", own.lower()):
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def is_foreign(method: str, headers: Headers | Mapping[str, str], own: str) -> bool:
    """Return whether another site caused a request, except that it may link to the page."""
    if headers.get("origin", own) != own:
        return True
    follows_link = method in READING and headers.get("sec-fetch-mode") == "navigate"
    is_document = headers.get("sec-fetch-dest", "document") == "document"
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not (follows_link and is_document)

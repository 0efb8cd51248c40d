"""Cross-site requests: refused by what browsers say about where a request comes from, without tokens."""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from appkit.api.problems import problem
from appkit.exceptions import CrossSiteRequestException

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
_POLICY_VIOLATION: Final = 1008


class CSRFMiddleware:
    """Refuses requests that another site makes a browser send with our cookies (OWASP: Fetch Metadata).

    Looks at requests that may change something, and at websocket handshakes, when they carry one of our cookies;
    under `always` at those without, too, so that nobody is signed in to another's account. What comes with
    a bearer token comes from a program: no other site can make a browser send one.

    `Sec-Fetch-Site` decides, then `Origin`; a request with neither comes from no browser.

    Args:
        origins: URLs of the pages that may call; their origins are compared exactly, and never with `Host`.
        cookies: The names of our cookies.
        always: The path under which cookies make no difference.
        trust_host: While there are no origins, accept the one in `Host`: for development only.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Collection[str],
        cookies: Collection[str],
        always: str = "/api/auth/",
        trust_host: bool = False,
    ) -> None:
        self.app = app
        self._origins = frozenset(map(origin_of, origins))
        self._cookies = frozenset(cookies)
        self._always = always
        self._trust_host = trust_host and not origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] in {"http", "websocket"} and self._is_forged(scope):
            await _refuse(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_forged(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        return self._concerns(scope, headers) and not self._is_welcome(headers)

    def _concerns(self, scope: Scope, headers: Headers) -> bool:
        if scope.get("method") in _SAFE_METHODS:
            return False
        # Only Bearer: a link with a name and a password in it makes a browser send Basic.
        if headers.get("authorization", "").lower().startswith("bearer "):
            return False
        always = (self._always, scope.get("root_path", "") + self._always)
        return scope["path"].startswith(always) or not self._cookies.isdisjoint(_cookie_names(headers))

    def _is_welcome(self, headers: Headers) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in {"same-origin", "none"}:
            return True
        if origin is None:
            return site is None
        if origin in self._origins:
            return True
        return site is None and self._trust_host and origin.partition("://")[2] == headers.get("host")


def origin_of(url: str) -> str:
    """A URL's origin as browsers write it in `Origin` (RFC 6454, 6.2)."""
    parts = urlsplit(url.lower())
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(default)}"


def _cookie_names(headers: Headers) -> set[str]:
    # HTTP/2 may send each cookie in a header of its own.
    return {pair.partition("=")[0].strip() for line in headers.getlist("cookie") for pair in line.split(";")}


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    refusal = CrossSiteRequestException(headers={"Vary": "Sec-Fetch-Site, Origin"})
    await problem(HTTPConnection(scope), refusal)(scope, receive, send)

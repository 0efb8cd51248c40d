"""CSRF protection: refuses cross-site requests by their `Sec-Fetch-Site` and `Origin` headers."""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.types import ASGIApp, Receive, Scope, Send

from appkit.api.problems import problem
from appkit.exceptions import CrossSiteRequestException

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that only read (RFC 9110, 9.2.1)."""


class CSRFMiddleware:
    """Refuses cross-site requests (OWASP: Fetch Metadata).

    The middleware checks websocket handshakes, and requests with an unsafe method, if they have one of the `cookies`.
    Under the path `always`, it also checks requests without cookies. Otherwise another site could sign in a visitor to
    somebody else's account. Requests with a bearer token are not checked, because another site can't send this token.

    A request without `Sec-Fetch-Site` and `Origin` doesn't come from a browser, and is allowed.

    Args:
        origins: URLs of the pages that may send requests.
        cookies: The names of the app's cookies.
        always: The path under which requests without cookies are checked too.
        trust_host: Whether to accept the origin in `Host` if `origins` is empty. Only for development.
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
        if scope["type"] in {"http", "websocket"}:
            headers = Headers(scope=scope)
            if self._is_checked(scope, headers) and not self._is_allowed(headers):
                await _refuse(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_checked(self, scope: Scope, headers: Headers) -> bool:
        if scope.get("method") in SAFE_METHODS:
            return False
        # Not Basic: a link such as https://name:password@host/ makes a browser send Basic credentials.
        if headers.get("authorization", "").lower().startswith("bearer "):
            return False
        always = (self._always, scope.get("root_path", "") + self._always)
        pairs = ";".join(headers.getlist("cookie")).split(";")  # HTTP/2 may send each cookie in a separate header.
        names = {pair.partition("=")[0].strip() for pair in pairs}
        return scope["path"].startswith(always) or not self._cookies.isdisjoint(names)

    def _is_allowed(self, headers: Headers) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in {"same-origin", "none"}:
            return True
        if origin is None:
            return site is None
        if origin in self._origins:
            return True
        return site is None and self._trust_host and origin.partition("://")[2] == headers.get("host")


def origin_of(url: str) -> str:
    """The origin of a URL, as a browser writes it in `Origin` (RFC 6454, 6.2)."""
    parts = urlsplit(url.lower())
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(default)}"


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": WS_1008_POLICY_VIOLATION})
        return
    refusal = CrossSiteRequestException(headers={"Vary": "Sec-Fetch-Site, Origin"})
    await problem(HTTPConnection(scope), refusal)(scope, receive, send)

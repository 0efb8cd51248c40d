"""ASGI middleware: request ids and access log, security headers, body limit, read-your-writes, N+1 warnings."""

import logging
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appkit.api.cookies import cookie_names
from appkit.api.problems import problem
from appkit.core.context import request_id, user_id
from appkit.core.settings import Settings
from appkit.exceptions import PayloadTooLargeException
from appkit.repository.database import Database
from appkit.repository.engines import count_statements, statements
from appkit.repository.reading import Client, client

access: Final = logging.getLogger("appkit.access")
_logger: Final = logging.getLogger(__name__)

_MAX_REPEATS: Final = 10
_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_VALID_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})

PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: files from their own origin and `data:` images, no inline scripts or styles."""

_API_POLICY: Final = "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class RequestContextMiddleware:
    """Gives each request an id, for the logs and `X-Request-ID`, and logs one access line.

    A request's `X-Request-ID` is kept if it is at most 64 plain characters, so that the app logs a proxy's id.
    The access line has the route's path and no query string, because the request's URL may contain personal data.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get("x-request-id", "")
        current = sent_id if _VALID_ID.fullmatch(sent_id) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = current
        started, status = time.perf_counter(), 500 if scope["type"] == "http" else 403

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in _STARTS:
                status = message.get("status", 101)
                MutableHeaders(scope=message).setdefault("X-Request-ID", current)
            await send(message)

        tokens = (request_id.set(current), user_id.set(None))
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            _log(scope, status, time.perf_counter() - started)
            request_id.reset(tokens[0])
            user_id.reset(tokens[1])


class SecurityHeadersMiddleware:
    """Adds security headers, such as Content-Security-Policy, unless the response has set the header itself.

    Args:
        api_prefix: Path of the API. Its responses get `no-store`; all others get `no-cache`.
        hsts: Whether to send Strict-Transport-Security for two years (RFC 6797).
    """

    def __init__(self, app: ASGIApp, *, api_prefix: str = "/api", hsts: bool = False) -> None:
        self.app = app
        self._api_prefix = f"{api_prefix}/"
        self._page_headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": PAGE_POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        if hsts:
            self._page_headers["Strict-Transport-Security"] = "max-age=63072000"
        self._api_headers = self._page_headers | {"Content-Security-Policy": _API_POLICY, "Cache-Control": "no-store"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = self._headers(scope)

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = MutableHeaders(scope=message)
                for name, value in headers.items():
                    present.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, add_headers)

    def _headers(self, scope: Scope) -> Mapping[str, str]:
        api = (self._api_prefix, scope.get("root_path", "") + self._api_prefix)
        return self._api_headers if f"{scope['path']}/".startswith(api) else self._page_headers


class BodyLimitMiddleware:
    """Refuses bodies over the limit with 413: by `Content-Length`, or, if chunked, once the body exceeds the limit.

    The body is checked when it is read, so that a route's own `max_body_size=` can replace the limit.

    Args:
        max_bytes: The largest allowed body.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        size = int(length[:19]) if length.isdecimal() else 0
        received, replaced, started = 0, False, False

        async def receive_within_limit() -> Message:
            nonlocal received
            limit = scope.get(MAX_BODY_SIZE_SCOPE_KEY, self._max_bytes)
            if size > limit:
                raise _TooLarge
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLarge
            return message

        async def replace_plain_text(message: Message) -> None:
            """Replace Starlette's plain-text answer to a body over a route's own limit with a problem document."""
            nonlocal replaced, started
            if message["type"] == "http.response.start" and _is_plain_413(message):
                replaced = True
                await problem(HTTPConnection(scope), PayloadTooLargeException())(scope, receive, send)
            if not replaced:
                started = True
                await send(message)

        try:
            await self.app(scope, receive_within_limit, replace_plain_text)
        except _TooLarge:
            # The body was read by a middleware outside of the error handlers.
            if started:
                raise
            await problem(HTTPConnection(scope), PayloadTooLargeException())(scope, receive, send)


class _TooLarge(HTTPException):
    """An HTTPException, because FastAPI answers any other exception with "body can't be parsed"."""

    def __init__(self) -> None:
        super().__init__(PayloadTooLargeException.status_code, PayloadTooLargeException.detail)


def _is_plain_413(message: Message) -> bool:
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] == PayloadTooLargeException.status_code and kind.startswith("text/plain")


def _log(scope: Scope, status: int, seconds: float) -> None:
    extra = {
        "method": scope.get("method", "WEBSOCKET"),
        "path": route_path(scope),
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
    }
    access.info("request", extra=extra)


def route_path(scope: Scope) -> str:
    """The path of the matched route as declared, with the prefixes of the routers that include it."""
    route: Any = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path", "<unmatched>")


class ReadYourWritesMiddleware:
    """Lets clients that just wrote read from the primary database, for as long as a replica may lag behind.

    A write sets a cookie that lasts `DATABASE_REPLICA_LAG` seconds. In a request with this cookie, `ReadSession` reads
    from the primary. The cookie holds no data, so it isn't signed. Clients without cookies always read from a replica
    and may miss their own latest writes.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._name = cookie_names(settings).access.removesuffix("_at") + "_wrote"
        self._age = math.ceil(settings.database.replica_lag)
        self._secure = settings.secure_cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        current = Client(wrote=self._name in HTTPConnection(scope).cookies)

        async def add_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and current.writes:
                MutableHeaders(scope=message).append("Set-Cookie", self._cookie())
            await send(message)

        token = client.set(current)
        try:
            await self.app(scope, receive, add_cookie)
        finally:
            client.reset(token)

    def _cookie(self) -> str:
        response = Response()
        response.set_cookie(self._name, "1", self._age, path="/", secure=self._secure, httponly=True, samesite="lax")
        return response.headers["set-cookie"]


class RepeatedQueriesMiddleware:
    """In development, warns of N+1 queries: SQL statements that ran more than ten times in one request.

    The warning has the route, the statement and the count, but no parameters, because these may be personal data.
    """

    def __init__(self, app: ASGIApp, *, database: Database) -> None:
        self.app = app
        for engine in database.engines:
            count_statements(engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counter: Counter[str] = Counter()
        token, streams = statements.set(counter), False

        async def detect_stream(message: Message) -> None:
            """Detect server-sent events: such a stream may repeat a statement for as long as it runs, by design."""
            nonlocal streams
            streams |= _STREAM in message.get("headers", ())
            await send(message)

        try:
            await self.app(scope, receive, detect_stream)
        finally:
            statements.reset(token)
            for statement, count in counter.items():
                if count > _MAX_REPEATS and not streams:
                    _warn(scope, statement, count)


def _warn(scope: Scope, statement: str, count: int) -> None:
    _logger.warning(
        "An SQL statement ran %s times in one request (N+1). Load all rows at once: selectinload() for a relationship, "
        "in_() for the rest.",
        count,
        extra={
            "method": scope["method"],
            "path": route_path(scope),
            "statement": " ".join(statement.split()),
            "count": count,
        },
    )

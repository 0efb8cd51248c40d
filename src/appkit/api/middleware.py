"""ASGI middleware: request ids and access log, security headers, body limit, read-your-writes, N+1 warnings."""

import logging
import math
import re
import time
from collections import Counter
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
_REPEATED: Final = (
    "An SQL statement ran %s times in one request (N+1). Load all rows at once: selectinload() for a relationship, "
    "in_() for the rest."
)
_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_VALID_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})

PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: files of the page's origin and `data:` images, no inline scripts or styles."""

_API_POLICY: Final = "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class RequestContextMiddleware:
    """Gives each request an id for the logs and `X-Request-ID`, and logs one access line.

    A valid `X-Request-ID` of the request, such as a proxy's, is kept. The access line has the path of the route and not
    the URL of the request, because the URL may contain personal data.
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
            extra = {
                "method": scope.get("method", "WEBSOCKET"),
                "path": route_path(scope),
                "status": status,
                "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            }
            access.info("request", extra=extra)
            request_id.reset(tokens[0])
            user_id.reset(tokens[1])


class SecurityHeadersMiddleware:
    """Adds security headers and `Cache-Control` to responses. Headers that the response already has are kept.

    Args:
        api_prefix: Path of the API. Its responses get `no-store`, and all other responses get `no-cache`.
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
        api = (self._api_prefix, scope.get("root_path", "") + self._api_prefix)
        headers = self._api_headers if f"{scope['path']}/".startswith(api) else self._page_headers

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = MutableHeaders(scope=message)
                for name, value in headers.items():
                    present.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, add_headers)


class BodyLimitMiddleware:
    """Refuses a body that is larger than `max_bytes` with 413. A route's `max_body_size=` replaces this limit.

    A body is checked when it is read, because the limit of the route isn't known earlier.
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
            if size <= limit:
                message = await receive()
                received += len(message.get("body", b""))
                if received <= limit:
                    return message
            # An HTTPException, because FastAPI answers any other exception with "body can't be parsed".
            raise HTTPException(PayloadTooLargeException.status_code, PayloadTooLargeException.detail)

        async def replace_plain_text(message: Message) -> None:
            """Starlette answers a body over the route's limit in plain text. Send a problem document instead."""
            nonlocal replaced, started
            kind = Headers(raw=message.get("headers", [])).get("content-type", "")
            if message.get("status") == PayloadTooLargeException.status_code and kind.startswith("text/plain"):
                replaced = True
                await problem(HTTPConnection(scope), PayloadTooLargeException())(scope, receive, send)
            if not replaced:
                started = True
                await send(message)

        try:
            await self.app(scope, receive_within_limit, replace_plain_text)
        except HTTPException as exc:  # From a middleware that reads the body, outside of the exception handlers.
            if started or exc.status_code != PayloadTooLargeException.status_code:
                raise
            await problem(HTTPConnection(scope), PayloadTooLargeException())(scope, receive, send)


def route_path(scope: Scope) -> str:
    """The path of the matched route as declared, such as `/api/posts/{id}`; `<unmatched>` without a route."""
    route: Any = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path", "<unmatched>")


class ReadYourWritesMiddleware:
    """Lets clients read their own writes from the primary database while a replica may lag behind.

    A write sets a cookie for `DATABASE_REPLICA_LAG` seconds. In a request with this cookie, `ReadSession` reads from
    the primary. The cookie holds no data, so it isn't signed. Without cookies, a client may miss its latest writes.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._name = cookie_names(settings).access.removesuffix("_at") + "_wrote"
        age, secure = math.ceil(settings.database.replica_lag), settings.secure_cookies
        response = Response()
        response.set_cookie(self._name, "1", age, path="/", secure=secure, httponly=True, samesite="lax")
        self._cookie = response.headers["set-cookie"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        current = Client(wrote=self._name in HTTPConnection(scope).cookies)

        async def add_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and current.writes:
                MutableHeaders(scope=message).append("Set-Cookie", self._cookie)
            await send(message)

        token = client.set(current)
        try:
            await self.app(scope, receive, add_cookie)
        finally:
            client.reset(token)


class RepeatedQueriesMiddleware:
    """In development, warns of N+1 queries: SQL statements that ran more than ten times in one request.

    The warning doesn't have the statement's parameters, because they may be personal data.
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
            """Detect server-sent events, because such a stream repeats statements on purpose."""
            nonlocal streams
            streams |= _STREAM in message.get("headers", ())
            await send(message)

        try:
            await self.app(scope, receive, detect_stream)
        finally:
            statements.reset(token)
            for statement, count in counter.items():
                if count > _MAX_REPEATS and not streams:
                    extra = {
                        "method": scope["method"],
                        "path": route_path(scope),
                        "statement": " ".join(statement.split()),
                        "count": count,
                    }
                    _logger.warning(_REPEATED, count, extra=extra)

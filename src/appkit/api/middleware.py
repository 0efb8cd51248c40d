"""Middleware for every connection: ids and access lines, security headers, and a limit on bodies. Pure ASGI."""

import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appkit.api.problems import problem
from appkit.core.context import request_id, user_id
from appkit.exceptions import PayloadTooLargeException

access: Final = logging.getLogger("appkit.access")

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})

PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""What a page may load: files of its own origin, and pictures within them. No inline scripts or styles."""

_API_POLICY: Final = "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class RequestContextMiddleware:
    """Gives each request an id, in the logs and in `X-Request-ID`, and writes one access line.

    An id that comes in is kept when it is short and plain, so that a proxy's and ours are the same. The line has
    the route's path rather than the request's, and no query: neither leaks what people look for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get("x-request-id", "")
        current = sent_id if _SANE_ID.fullmatch(sent_id) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = current
        started, status = time.perf_counter(), 500 if scope["type"] == "http" else 403

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] in _STARTS:
                status = message.get("status", 101)
                MutableHeaders(scope=message).setdefault("X-Request-ID", current)
            await send(message)

        tokens = (request_id.set(current), user_id.set(None))
        try:
            await self.app(scope, receive, watch)
        finally:
            _log(scope, status, time.perf_counter() - started)
            request_id.reset(tokens[0])
            user_id.reset(tokens[1])


class SecurityHeadersMiddleware:
    """Sets the headers that browsers protect people by, where a response hasn't set its own.

    Args:
        api_prefix: Where the API is: its answers are never kept, all others are asked about each time.
        hsts: Whether browsers are told to use HTTPS only, for two years (RFC 6797).
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
    """Refuses larger bodies with 413, by their `Content-Length` or, when they come in chunks, as they grow.

    Looks when the body is read, so that a route's own `max_body_size=`, larger or smaller, counts instead.

    Args:
        max_bytes: How many bytes a body may have.
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
            """Starlette answers a body over a route's own limit by itself, in plain text."""
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
            # Read by middleware outside of the error handlers.
            if started:
                raise
            await problem(HTTPConnection(scope), PayloadTooLargeException())(scope, receive, send)


class _TooLarge(HTTPException):
    """An HTTPException, for FastAPI takes any other for a body that can't be parsed."""

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
    """The path as the route declares it, with the prefixes of the routers that include it."""
    route: Any = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path", "<unmatched>")

"""Hooks of the API: routes, middleware, credentials, error responses and health checks."""

# A specification has no body.
# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from appkit.plugins.markers import hookspec, provisional

if TYPE_CHECKING:
    from fastapi import APIRouter
    from sqlalchemy.ext.asyncio import AsyncSession
    from starlette.middleware import Middleware
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response

    from appkit.core.settings import Settings
    from appkit.repository.context import AppContext
    from appkit.service.principals import Principal


class HealthCheck(NamedTuple):
    """Something that must work before this instance takes requests."""

    name: str
    check: Callable[[AppContext], Awaitable[None]]
    """Raises when it doesn't work. The exception is logged, and not shown to the client."""


@hookspec
def register_routers(settings: Settings) -> list[APIRouter]:
    """Add routes. They are mounted under `settings.api_prefix`, after the app's own. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_routers():
            return [router]
        ```
    """


@hookspec
def register_middleware(settings: Settings) -> list[Middleware]:
    """Add ASGI middleware, inside appkit's own. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_middleware():
            return [Middleware(GZipMiddleware, minimum_size=1000)]
        ```
    """


@hookspec
@provisional
def register_exception_handlers() -> Mapping[type[Exception], Callable[..., Any]]:
    """Add handlers for exceptions that appkit doesn't handle, by class. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_exception_handlers():
            return {stripe.CardError: answer_card_error}
        ```
    """


@hookspec
def register_health_checks() -> list[HealthCheck]:
    """Add checks to `/api/health/ready`, which answers 503 while one of them raises. Called for each such request.

    Example:
        ```python
        async def check_search(app):
            await search.ping()


        @hookimpl
        def register_health_checks():
            return [HealthCheck("search", check_search)]
        ```
    """


@hookspec
async def authenticate(request: HTTPConnection, db: AsyncSession) -> Principal | None:
    """Recognise credentials of your own, of a request or a websocket. Called before appkit reads its own.

    The first answer that isn't None is the principal. An exception is the response, so a plugin that fails lets nobody
    in. Read credentials from headers only: the CSRF check doesn't protect cookies other than appkit's.

    Args:
        request: The request or the websocket.
        db: A database session for looking them up, committed afterwards; on SQLite it begins as a reader.

    Example:
        ```python
        @hookimpl
        async def authenticate(request, db):
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and key.startswith("ak_"):
                found = await ApiKeyService(db).get(key)
                return Principal(user_id=found.user_id, scopes=found.scopes)
        ```
    """


@hookspec
async def render_exception(exception: Exception, request: Request) -> Response | None:
    """Replace the response to a request that ends in an exception. The first answer that isn't None is sent.

    Called for API errors, the framework's own, validation errors and bugs. If a plugin fails here, the failure is
    logged, and the usual problem document is sent.

    Example:
        ```python
        @hookimpl
        def render_exception(exception, request):
            if "text/html" in request.headers.get("accept", ""):
                return HTMLResponse(f"<h1>{exception}</h1>", getattr(exception, "status_code", 500))
        ```
    """

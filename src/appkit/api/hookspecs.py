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
    """A check that must pass before this instance gets requests."""

    name: str
    check: Callable[[AppContext], Awaitable[None]]
    """Raises an exception if the check fails. The exception is logged, and not shown to the client."""


@hookspec
def register_routers(settings: Settings) -> list[APIRouter]:
    """Add routes under `settings.api_prefix`. The app's own routes take precedence. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_routers():
            return [router]
        ```
    """


@hookspec
def register_middleware(settings: Settings) -> list[Middleware]:
    """Add ASGI middleware, which runs inside appkit's middleware. Called when the app is built.

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
    """Add exception handlers, by the class of the exception. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_exception_handlers():
            return {stripe.CardError: answer_card_error}
        ```
    """


@hookspec
def register_health_checks() -> list[HealthCheck]:
    """Add checks to `/api/health/ready`, which answers 503 while a check fails. Called for each such request.

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
    """Return the principal of your own credentials in a request or a websocket. Called before appkit reads its own.

    The first answer that isn't None is used. An exception ends the request with an error response. Read credentials
    only from headers, because the CSRF protection doesn't check cookies that aren't appkit's.

    Args:
        request: The request or the websocket.
        db: A database session, which commits after the hooks. On SQLite, it begins as a reader.

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

    Called for all errors: API errors, `HTTPException`, validation errors and bugs. If a plugin fails here, the failure
    is logged, and the problem document is sent. With `PLUGINS_STRICT`, the failure is a 500.

    Example:
        ```python
        @hookimpl
        def render_exception(exception, request):
            if "text/html" in request.headers.get("accept", ""):
                return HTMLResponse(f"<h1>{exception}</h1>", getattr(exception, "status_code", 500))
        ```
    """

"""Builds the FastAPI app: installs exception handlers, routes, middleware and the lifespan."""

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from appkit.__about__ import __version__
from appkit.api.cookies import cookie_names
from appkit.api.csrf import CSRFMiddleware
from appkit.api.dependencies import refuse_late_commits
from appkit.api.docs import install_docs
from appkit.api.errors import install_error_handlers
from appkit.api.frontend import BuiltFrontend
from appkit.api.middleware import (
    BodyLimitMiddleware,
    ReadYourWritesMiddleware,
    RepeatedQueriesMiddleware,
    RequestContextMiddleware,
    SecurityHeadersMiddleware,
)
from appkit.api.routes.auth import auth_router, create_auth_router
from appkit.api.routes.health import health_router
from appkit.api.routes.users import users_router
from appkit.exceptions import NotFoundException
from appkit.repository.context import AppContext
from appkit.service.hashing import Security

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def create_app(context: AppContext, routers: Sequence[APIRouter], lifespan: Lifespan) -> FastAPI:
    """Create `kit.app`."""
    settings = context.settings
    app = FastAPI(
        title=settings.app_name,
        version=__version__,
        openapi_url=f"{settings.api_prefix}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    install(app, context, routers, lifespan)
    return app


def install(app: FastAPI, context: AppContext, routers: Sequence[APIRouter], lifespan: Lifespan) -> None:
    """Install appkit into an existing FastAPI app."""
    settings = context.settings
    app.state.appkit = context
    Security.of(context)  # Imports slow modules now, so that no request waits for the import.
    install_error_handlers(app)
    for handlers in context.plugins.collect("register_exception_handlers"):
        for exception, handler in handlers.items():
            app.add_exception_handler(exception, handler)
    _include_routers(app, context, routers)
    _add_middleware(app, context)
    _wrap_lifespan(app, lifespan)
    if settings.frontend.dist is not None:
        app.router.default = BuiltFrontend(settings.frontend.dist)  # Serves each path that no route matches.


def _include_routers(app: FastAPI, context: AppContext, routers: Sequence[APIRouter]) -> None:
    prefix = context.settings.api_prefix
    install_docs(app, prefix)
    profile = context.user_model.profile
    signing_in = create_auth_router(profile) if profile else auth_router
    plugin_routers = context.plugins.collect("register_routers", settings=context.settings)
    for router in (health_router, signing_in, users_router, *routers, *plugin_routers):
        app.include_router(router, prefix=prefix)
    unknown = _UnknownRoute(f"{prefix}/{{path:path}}", _answer_not_found, methods=[], include_in_schema=False)
    app.router.routes.append(unknown)


class _UnknownRoute(Route):
    """Answers 404 for unknown paths of the API, because the frontend would answer them with its index page.

    The match is partial: an existing route that doesn't allow the request's method takes precedence and answers 405.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return Match.PARTIAL if match is Match.FULL else match, child_scope


async def _answer_not_found(_: Request) -> Response:
    raise NotFoundException


def _add_middleware(app: FastAPI, context: AppContext) -> None:
    """Add middleware from the innermost to the outermost."""
    settings = context.settings
    for middleware in context.plugins.collect("register_middleware", settings=settings):
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    if settings.environment == "development":
        app.add_middleware(RepeatedQueriesMiddleware, database=context.database)
    if settings.database.replica_urls:
        app.add_middleware(ReadYourWritesMiddleware, settings=settings)
    app.add_middleware(
        CSRFMiddleware,
        origins=[url for url in (settings.frontend.url, *settings.cors.origins) if url],
        cookies=cookie_names(settings),
        always=f"{settings.api_prefix}/auth/",
        trust_host=not settings.production,
    )
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.http.max_body_size)
    if settings.cors.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors.origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(SecurityHeadersMiddleware, api_prefix=settings.api_prefix, hsts=settings.production)
    app.add_middleware(RequestContextMiddleware)


def _wrap_lifespan(app: FastAPI, lifespan: Lifespan) -> None:
    """Run the app's own lifespan inside the kit's. The app's lifespan can then use the database and the broker."""
    own = app.router.lifespan_context

    @asynccontextmanager
    async def combined(app: FastAPI) -> AsyncIterator[Any]:
        refuse_late_commits(app)
        async with lifespan(), own(app) as state:
            if app.state.appkit.settings.production:
                # Exclude the imported modules, because a full collection of them blocks the event loop for 100 ms.
                gc.collect()
                gc.freeze()
            yield state

    app.router.lifespan_context = combined

"""A FastAPI app with appkit's middleware, errors, routes and lifespan, in order."""

import gc
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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
from appkit.api.docs import install_docs
from appkit.api.errors import install_error_handlers
from appkit.api.frontend import install_frontend
from appkit.api.middleware import BodyLimitMiddleware, RequestContextMiddleware, SecurityHeadersMiddleware
from appkit.api.queries import RepeatedQueriesMiddleware
from appkit.api.replicas import ReadYourWritesMiddleware
from appkit.api.routes.auth import auth_router, create_auth_router
from appkit.api.routes.health import health_router
from appkit.api.routes.users import users_router
from appkit.api.sessions import check_sessions
from appkit.exceptions import NotFoundException
from appkit.repository.context import AppContext
from appkit.service.security import Security

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def create_app(context: AppContext, routers: Sequence[APIRouter], lifespan: Lifespan) -> FastAPI:
    """The whole app: what `kit.app` is."""
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
    """Put appkit's parts into a FastAPI app that exists."""
    settings = context.settings
    app.state.appkit = context
    Security.of(context)  # Now, for what it imports is no request's to wait for.
    install_error_handlers(app)
    for handlers in context.plugins.collect("register_exception_handlers"):
        _add_exception_handlers(app, handlers)
    _include_routers(app, context, routers)
    _add_middleware(app, context)
    _wrap_lifespan(app, lifespan)
    _name_cookie(app, cookie_names(settings).access)
    if settings.frontend.dist is not None:
        install_frontend(app, settings.frontend.dist)


def _include_routers(app: FastAPI, context: AppContext, routers: Sequence[APIRouter]) -> None:
    prefix = context.settings.api_prefix
    install_docs(app, prefix)
    profile = context.user_model.profile
    signing_in = create_auth_router(profile) if profile else auth_router
    plugin_routers = context.plugins.collect("register_routers", settings=context.settings)
    for router in (health_router, signing_in, users_router, *routers, *plugin_routers):
        app.include_router(router, prefix=prefix)
    app.router.routes.append(_UnknownRoute(prefix))


def _name_cookie(app: FastAPI, name: str) -> None:
    """Say in the OpenAPI document what the cookie is called, which differs between apps that share the dependency."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        schemes = document.get("components", {}).get("securitySchemes", {})
        if "Cookie" in schemes:
            schemes["Cookie"]["name"] = name
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document.


class _UnknownRoute(Route):
    """Answers what no other route under the prefix does, so that a frontend's index page never stands in for it.

    A partial match, so that a route for another method comes first, with its 405.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(f"{prefix}/{{path:path}}", _answer_not_found, methods=[], include_in_schema=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return Match.PARTIAL if match is Match.FULL else match, child_scope


async def _answer_not_found(_: Request) -> Response:
    raise NotFoundException


def _add_middleware(app: FastAPI, context: AppContext) -> None:
    """Add from the innermost to the outermost, for Starlette puts the latest first."""
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


def _add_exception_handlers(app: FastAPI, handlers: Mapping[type[Exception], Any]) -> None:
    for exception, handler in handlers.items():
        app.add_exception_handler(exception, handler)


def _wrap_lifespan(app: FastAPI, lifespan: Lifespan) -> None:
    """Enter ours around the app's own, which may then use the database and the broker."""
    own = app.router.lifespan_context

    @asynccontextmanager
    async def combined(app: FastAPI) -> AsyncIterator[Any]:
        check_sessions(app)
        async with lifespan(), own(app) as state:
            if app.state.appkit.settings.production:
                _set_aside_what_stays()
            yield state

    app.router.lifespan_context = combined


def _set_aside_what_stays() -> None:
    """Keep the garbage collector from what was imported: a full run through it holds the loop for 100 ms."""
    gc.collect()
    gc.freeze()

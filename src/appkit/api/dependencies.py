"""FastAPI dependencies: database sessions (`DbSession`), the signed-in user (`CurrentUser`, `require()`), `app_of`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from inspect import unwrap
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, WebSocket
from fastapi.dependencies.models import Dependant
from fastapi.requests import HTTPConnection
from fastapi.routing import iter_route_contexts
from fastapi.security import APIKeyCookie, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.websockets import WebSocketState

from appkit.api.cookies import presented_tokens
from appkit.api.csrf import SAFE_METHODS
from appkit.core.context import user_id
from appkit.exceptions import (
    AppKitError,
    EmailNotVerifiedException,
    ForbiddenException,
    ReauthenticationRequiredException,
    ScopeMissingException,
    SecondFactorRequiredException,
    SessionRequiredException,
    UnauthorizedException,
)
from appkit.repository.base import utcnow
from appkit.repository.context import AppContext
from appkit.repository.user import BaseUser
from appkit.service.hashing import Security
from appkit.service.principals import Principal, SessionPrincipal
from appkit.service.sessions import SessionService

_logger: Final = logging.getLogger(__name__)

# For the OpenAPI document only: presented_tokens() reads the token, whether it is in the cookie or in the header.
_COOKIE = APIKeyCookie(
    name="access",  # create_app() replaces it with the app's own cookie name.
    scheme_name="Cookie",
    description="Set by signing in.",
    auto_error=False,
)
_BEARER = HTTPBearer(scheme_name="Bearer", bearerFormat="JWT", description="An access token.", auto_error=False)


def app_of(connection: HTTPConnection) -> AppContext:
    """The app context of a request or a websocket: its settings, database, plugins and so on.

        settings = app_of(request).settings

    Works as a dependency too: `Annotated[AppContext, Depends(app_of)]`.

    Raises:
        AppKitError: When the FastAPI app has no kit.
    """
    context = find_app(connection)
    if context is None:
        raise AppKitError("This FastAPI app has no kit. Call `kit.install(app)`, or serve `kit.app`.")
    return context


def find_app(connection: HTTPConnection) -> AppContext | None:
    """The app context of a request or a websocket; None in a FastAPI app without a kit."""
    context: AppContext | None = getattr(connection.app.state, "appkit", None)
    return context


# Database sessions


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """A database session for one request, committed before the response is sent.

    Requests with a safe method, such as GET, begin as readers: on SQLite they don't wait for a writer.
    """
    reader = connection.scope.get("method") in SAFE_METHODS
    async with app_of(connection).database.session(reader=reader) as session:
        yield session


async def get_read_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """A read-only database session, on a replica if there is one."""
    async with app_of(connection).database.read_session() as session:
        yield session


DbSession = Annotated[AsyncSession, Depends(get_session, scope="function")]
"""A database session that commits before the response is sent, and rolls back when the route raises."""

ReadSession = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
"""A read-only database session. On a replica, it may miss the latest writes."""


def refuse_late_commits(app: FastAPI) -> None:
    """Check that every route commits its database session before the response is sent.

    FastAPI runs the code after a dependency's `yield` after the response, unless the dependency has the scope
    "function". The client would then receive a success, although the database may still refuse the commit.

    Raises:
        AppKitError: When a route would commit too late; the message names the route.
    """
    for route in late_commits(app):
        raise AppKitError(
            f"{route} would commit its database session after its response is sent. "
            'Use `DbSession`, or Depends(get_session, scope="function").'
        )


def late_commits(app: FastAPI) -> Iterator[str]:
    """Methods and paths of the routes that would commit their database session after the response."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is not None and any(_commits_late(each, app) for each in _walk(dependant)):
            yield f"{', '.join(sorted(route.methods or {'WEBSOCKET'}))} {route.path}"


def _walk(dependant: Dependant) -> Iterator[Dependant]:
    for child in dependant.dependencies:
        yield child
        yield from _walk(child)


def _commits_late(dependant: Dependant, app: FastAPI) -> bool:
    call: Any = dependant.call
    call = app.dependency_overrides.get(call, call)
    while isinstance(call, partial):
        call = call.func
    return unwrap(call) is get_session and dependant.scope != "function"


# The current user


async def get_optional_principal(
    connection: HTTPConnection,
    _cookie: Annotated[object, Depends(_COOKIE)],
    _bearer: Annotated[object, Depends(_BEARER)],
) -> Principal | None:
    """The principal of a request, from a plugin or the access token; None without credentials, 401 with bad ones."""
    app = app_of(connection)
    principal = await _ask_plugins(connection, app)
    if principal is None:
        token = presented_tokens(connection, app.settings).access
        principal = None if token is None else Security.of(app).tokens.read_access(token)
    if principal is not None:
        user_id.set(str(principal.user_id))
    connection.state.principal = principal
    return principal


async def _ask_plugins(connection: HTTPConnection, app: AppContext) -> Principal | None:
    if not app.plugins.implements("authenticate"):
        return None
    async with app.database.session(reader=True) as session:
        principal: Principal | None = await app.plugins.first("authenticate", request=connection, db=session)
    return principal


OptionalPrincipal = Annotated[Principal | None, Depends(get_optional_principal)]


async def get_principal(principal: OptionalPrincipal) -> Principal:
    """The principal of a request; 401 without one."""
    if principal is None:
        raise UnauthorizedException
    return principal


CurrentPrincipal = Annotated[Principal, Depends(get_principal)]
"""The principal. An access token needs no database query, and is valid until it expires, even after sign-out."""


async def get_session_principal(principal: CurrentPrincipal) -> SessionPrincipal:
    """The principal of a user who signed in; 403 for a program's API key."""
    if not isinstance(principal, SessionPrincipal):
        raise SessionRequiredException
    return principal


SignedInPrincipal = Annotated[SessionPrincipal, Depends(get_session_principal)]
"""The principal of a user who signed in, read from the access token. An API key is refused with 403."""


async def get_known_user(connection: HTTPConnection, principal: OptionalPrincipal) -> BaseUser | None:
    """The user of a request, read from the primary database; the database connection returns to its pool at once."""
    if principal is None:
        return None
    async with app_of(connection).database.read_session(primary=True) as session:
        return await SessionService(session).user(principal)


KnownUser = Annotated[BaseUser | None, Depends(get_known_user)]


async def get_optional_user(user: KnownUser, principal: OptionalPrincipal) -> BaseUser | None:
    """The user of a request; None without credentials, 403 for an API key with scopes."""
    _check_scopes(principal, frozenset())
    return user


OptionalUser = Annotated[BaseUser | None, Depends(get_optional_user)]
"""The signed-in user; None for a request without credentials. Bad credentials are still refused with 401."""


async def get_user(user: OptionalUser) -> BaseUser:
    """The signed-in user; 401 when nobody is signed in."""
    if user is None:
        raise UnauthorizedException
    return user


CurrentUser = Annotated[BaseUser, Depends(get_user)]
"""The user, whose sign-in session was checked in the database. To change the user's row, load it by `DbSession`."""


async def get_superuser(user: CurrentUser) -> BaseUser:
    """The signed-in user; 403 unless they are a superuser."""
    if not user.is_superuser:
        raise ForbiddenException
    return user


CurrentSuperuser = Annotated[BaseUser, Depends(get_superuser)]
"""The signed-in user, who is a superuser."""


def require(
    *,
    verified: bool = False,
    fresh: bool | int = False,
    scopes: Collection[str] = (),
    superuser: bool = False,
    mfa: bool = False,
) -> Callable[..., Awaitable[BaseUser]]:
    """A dependency that returns the signed-in user, or refuses the request when a condition isn't met.

        @router.delete("/{id}", dependencies=[Depends(require(fresh=True))])

        Owner = Annotated[BaseUser, Depends(require(verified=True, superuser=True))]

    Args:
        verified: Require a verified e-mail address.
        fresh: Require a recent sign-in: at most this many seconds ago, or, with True, `AUTH_FRESH_TTL` seconds.
            Entering the password again at `POST /auth/reauth` counts as a sign-in.
        scopes: Require credentials with all of these scopes. An API key with scopes opens a route only if the route
            requires scopes and the key has all of these; it opens no route with `CurrentUser` alone. A user who
            signed in has all scopes, unless a plugin's `token_claims()` sets the user's scopes.
        superuser: Require a superuser.
        mfa: Require a sign-in with a second factor.

    Raises:
        UnauthorizedException: When nobody is signed in.
        ForbiddenException: When the user is not a superuser.
        ScopeMissingException: When the credentials lack a scope.
        SecondFactorRequiredException: When the user signed in without a second factor.
        EmailNotVerifiedException: When the user's e-mail address is not verified.
        ReauthenticationRequiredException: When the last sign-in was too long ago.
    """
    needed = frozenset([scopes] if isinstance(scopes, str) else scopes)

    async def check(connection: HTTPConnection, user: KnownUser, principal: CurrentPrincipal) -> BaseUser:
        if user is None:
            raise UnauthorizedException
        _check_scopes(principal, needed)
        if superuser and not user.is_superuser:
            raise ForbiddenException
        if verified and not user.email_verified:
            raise EmailNotVerifiedException
        if mfa and not principal.mfa:
            raise SecondFactorRequiredException
        window = app_of(connection).settings.auth.fresh_ttl if fresh is True else fresh
        if fresh is not False and not _is_recent(principal, window):
            raise ReauthenticationRequiredException
        return user

    return check


def _check_scopes(principal: Principal | None, needed: frozenset[str]) -> None:
    """Check that credentials have all needed scopes. An API key with scopes is also refused where none is needed."""
    if principal is None or principal.scopes is None:
        return
    if not needed and not isinstance(principal, SessionPrincipal):
        raise ScopeMissingException
    if missing := needed - principal.scopes:
        raise ScopeMissingException(f"These credentials lack the scope {' '.join(sorted(missing))}.")


def _is_recent(principal: Principal, seconds: int) -> bool:
    then = principal.authenticated_at
    return then is not None and utcnow() - then <= timedelta(seconds=seconds)


async def get_socket_user(socket: WebSocket, user: CurrentUser, principal: CurrentPrincipal) -> AsyncIterator[BaseUser]:
    """The user who opened a websocket. The websocket is closed when the user's sign-in session ends."""
    checks = asyncio.create_task(_close_after_signout(socket, principal))
    try:
        yield user
    finally:
        checks.cancel()
        with suppress(asyncio.CancelledError):
            await checks


SocketUser = Annotated[BaseUser, Depends(get_socket_user)]
"""The user who opened a websocket. The sign-in session is checked every `AUTH_SOCKET_CHECK` seconds, and the websocket
is closed with code 1008 when that session has ended. `CurrentUser` checks only when the websocket is opened."""


async def _close_after_signout(socket: WebSocket, principal: Principal) -> None:
    app = app_of(socket)
    try:
        while True:
            await asyncio.sleep(app.settings.auth.socket_check)
            async with app.database.read_session(primary=True) as db:
                await SessionService(db).user(principal)
    except Exception as exc:
        if not isinstance(exc, UnauthorizedException):
            _logger.exception("Could not check the sign-in session of a websocket; closing the websocket.")
        if socket.application_state is not WebSocketState.DISCONNECTED:
            await socket.close(WS_1008_POLICY_VIOLATION, "Signed out.")

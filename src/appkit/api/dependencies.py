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

# These only document the credentials in OpenAPI, where the app's cookie name replaces "access". The credentials are
# read by presented_tokens().
_COOKIE = APIKeyCookie(name="access", scheme_name="Cookie", description="Set by signing in.", auto_error=False)
_BEARER = HTTPBearer(scheme_name="Bearer", bearerFormat="JWT", description="An access token.", auto_error=False)


def app_of(connection: HTTPConnection) -> AppContext:
    """The app context of a request or a websocket: `app_of(request).settings`.

    As a dependency: `Annotated[AppContext, Depends(app_of)]`.

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


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """A database session for one request.

    A request with a safe method, such as GET, begins as a reader. On SQLite, readers don't wait for a writer.
    """
    reader = connection.scope.get("method") in SAFE_METHODS
    async with app_of(connection).database.session(reader=reader) as session:
        yield session


async def get_read_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """A read-only database session, on a replica if there is one."""
    async with app_of(connection).database.read_session() as session:
        yield session


DbSession = Annotated[AsyncSession, Depends(get_session, scope="function")]
"""A database session for one request. Commits before the response is sent; rolls back when the route raises."""

ReadSession = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
"""A read-only database session, on a replica if there is one. The replica may not have the latest writes yet."""


def refuse_late_commits(app: FastAPI) -> None:
    """Raise `AppKitError` if a route would commit its database session after its response is sent.

    FastAPI commits after the response unless the dependency has the scope "function". The client would then get a
    success even if the database refuses the commit.
    """
    for route in late_commits(app):
        raise AppKitError(
            f"{route} would commit its database session after the response is sent. "
            'Use `DbSession`, or Depends(get_session, scope="function").'
        )


def late_commits(app: FastAPI) -> Iterator[str]:
    """The methods and paths of the routes that would commit their database session after the response."""
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


async def get_optional_principal(
    connection: HTTPConnection,
    _cookie: Annotated[object, Depends(_COOKIE)],
    _bearer: Annotated[object, Depends(_BEARER)],
) -> Principal | None:
    """The principal of a request, from a plugin or the access token; None without credentials."""
    app, principal = app_of(connection), None
    if app.plugins.implements("authenticate"):
        async with app.database.session(reader=True) as session:
            principal = await app.plugins.first("authenticate", request=connection, db=session)
    if principal is None and (token := presented_tokens(connection, app.settings).access) is not None:
        principal = Security.of(app).tokens.read_access(token)
    if principal is not None:
        user_id.set(str(principal.user_id))
    connection.state.principal = principal
    return principal


OptionalPrincipal = Annotated[Principal | None, Depends(get_optional_principal)]


async def get_principal(principal: OptionalPrincipal) -> Principal:
    """The principal of a request; 401 without credentials."""
    if principal is None:
        raise UnauthorizedException
    return principal


CurrentPrincipal = Annotated[Principal, Depends(get_principal)]
"""The principal, without a check in the database: an access token is valid until it expires, even after sign-out."""


async def get_session_principal(principal: CurrentPrincipal) -> SessionPrincipal:
    """The principal of a user who signed in; 403 for an API key."""
    if not isinstance(principal, SessionPrincipal):
        raise SessionRequiredException
    return principal


SignedInPrincipal = Annotated[SessionPrincipal, Depends(get_session_principal)]
"""Like `CurrentPrincipal`, but only for a user who signed in. An API key is refused with 403."""


async def get_known_user(connection: HTTPConnection, principal: OptionalPrincipal) -> BaseUser | None:
    """The user of a request, read from the primary database in a separate database session."""
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
"""The signed-in user; None without credentials. Invalid credentials are refused with 401."""


async def get_user(user: OptionalUser) -> BaseUser:
    """The signed-in user; 401 without credentials."""
    if user is None:
        raise UnauthorizedException
    return user


CurrentUser = Annotated[BaseUser, Depends(get_user)]
"""The signed-in user, whose sign-in session is checked in the database. To change the user, load the row
again with `DbSession`."""


async def get_superuser(user: CurrentUser) -> BaseUser:
    """The signed-in user; 403 unless the user is a superuser."""
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
        fresh: Require a sign-in in the last `AUTH_FRESH_TTL` seconds, or in the given number of seconds. Entering the
            password again at `POST /auth/reauth` counts as a sign-in.
        scopes: Require credentials with all of these scopes. A route without this argument refuses API keys that have
            scopes. A user who signed in has all scopes, unless a plugin's `token_claims()` sets the user's scopes.
        superuser: Require a superuser.
        mfa: Require a sign-in with a second factor.

    Raises:
        UnauthorizedException: When nobody is signed in.
        ScopeMissingException: When the scopes of the credentials don't allow the request.
        ForbiddenException: When the user is not a superuser.
        EmailNotVerifiedException: When the user's e-mail address is not verified.
        SecondFactorRequiredException: When the user signed in without a second factor.
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
        if fresh is not False:
            seconds = app_of(connection).settings.auth.fresh_ttl if fresh is True else fresh
            then = principal.authenticated_at
            if then is None or utcnow() - then > timedelta(seconds=seconds):
                raise ReauthenticationRequiredException
        return user

    return check


def _check_scopes(principal: Principal | None, needed: frozenset[str]) -> None:
    """Check that credentials have all needed scopes. If no scope is needed, an API key with scopes is refused."""
    if principal is None or principal.scopes is None:
        return
    if not needed and not isinstance(principal, SessionPrincipal):
        raise ScopeMissingException
    if missing := needed - principal.scopes:
        raise ScopeMissingException(f"These credentials lack the scope {' '.join(sorted(missing))}.")


async def get_socket_user(socket: WebSocket, user: CurrentUser, principal: CurrentPrincipal) -> AsyncIterator[BaseUser]:
    """The user who opened a websocket, which is closed when the user's sign-in session ends."""
    checks = asyncio.create_task(_close_after_signout(socket, principal))
    try:
        yield user
    finally:
        checks.cancel()
        with suppress(asyncio.CancelledError):
            await checks


SocketUser = Annotated[BaseUser, Depends(get_socket_user)]
"""The user who opened a websocket. The sign-in session is checked every `AUTH_SOCKET_CHECK` seconds. When the session
has ended, the websocket is closed with code 1008. `CurrentUser` checks the session only when the websocket opens."""


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

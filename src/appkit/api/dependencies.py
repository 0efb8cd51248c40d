"""Dependencies: a database session, and who asks. A route says what it needs, and nothing is checked elsewhere."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import timedelta
from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyCookie, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.api.cookies import presented_tokens
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
from appkit.service.auth import AuthService
from appkit.service.principals import Principal, SessionPrincipal
from appkit.service.security import Security

_SAFE_METHODS = {"GET", "HEAD"}

# For the OpenAPI document: the token itself is read in one place, for both.
_COOKIE = APIKeyCookie(
    name="access",  # `create_app` writes the app's own into the document.
    scheme_name="Cookie",
    description="Set by signing in.",
    auto_error=False,
)
_BEARER = HTTPBearer(scheme_name="Bearer", bearerFormat="JWT", description="An access token.", auto_error=False)


def app_of(connection: HTTPConnection) -> AppContext:
    """The app that a request or a websocket came to.

    Raises:
        AppKitError: When it is a FastAPI app without a kit.
    """
    context = getattr(connection.app.state, "appkit", None)
    if not isinstance(context, AppContext):
        raise AppKitError("This FastAPI app has no kit. Call `kit.install(app)`, or serve `kit.app`.")
    return context


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """One unit of work for a request: committed before the response is sent, so that the next request sees it.

    Requests that only read, GET and HEAD, begin as readers: on SQLite they wait for no writer.
    """
    reader = connection.scope.get("method") in _SAFE_METHODS
    async with app_of(connection).database.session(reader=reader) as session:
        yield session


async def get_read_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """A session that only reads, from a replica where there is one."""
    async with app_of(connection).database.read_session() as session:
        yield session


async def get_optional_principal(
    connection: HTTPConnection,
    _cookie: Annotated[object, Depends(_COOKIE)],
    _bearer: Annotated[object, Depends(_BEARER)],
) -> Principal | None:
    """Who asks, as a plugin or the access token says; None without any, and a 401 when it proves nothing."""
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
    """Whom the access token speaks for, which there must be."""
    if principal is None:
        raise UnauthorizedException
    return principal


async def get_session_principal(principal: Annotated[Principal, Depends(get_principal)]) -> SessionPrincipal:
    """Whom the access token speaks for, where a program's key is not enough."""
    if not isinstance(principal, SessionPrincipal):
        raise SessionRequiredException
    return principal


SignedInPrincipal = Annotated[SessionPrincipal, Depends(get_session_principal)]
"""What the access token of somebody who signed in says: whoever has only a program's key is refused."""


async def get_known_user(connection: HTTPConnection, principal: OptionalPrincipal) -> BaseUser | None:
    """The person who asks, as the primary database has them now; the connection is given back at once."""
    if principal is None:
        return None
    async with app_of(connection).database.read_session(primary=True) as session:
        return await AuthService(session).user(principal)


KnownUser = Annotated[BaseUser | None, Depends(get_known_user)]


async def get_optional_user(user: KnownUser, principal: OptionalPrincipal) -> BaseUser | None:
    """The person who asks, unless it is by a key that is good for something else only."""
    _check_scopes(principal, frozenset())
    return user


OptionalUser = Annotated[BaseUser | None, Depends(get_optional_user)]
"""The person who asks, or None where nobody is signed in. A token that proves nothing is refused all the same."""


async def get_user(user: OptionalUser) -> BaseUser:
    """The person who asks, whom there must be."""
    if user is None:
        raise UnauthorizedException
    return user


CurrentUser = Annotated[BaseUser, Depends(get_user)]
"""The person who asks, whose session is live at this moment. To change them, load them through `DbSession`."""


async def get_superuser(user: CurrentUser) -> BaseUser:
    """The person who asks, who must be a superuser."""
    if not user.is_superuser:
        raise ForbiddenException
    return user


CurrentSuperuser = Annotated[BaseUser, Depends(get_superuser)]
"""The person who asks, who may do everything."""

CurrentPrincipal = Annotated[Principal, Depends(get_principal)]
"""What the credentials say, with no look at the database: a token is believed until it expires, signed out or not."""


def require(
    *,
    verified: bool = False,
    fresh: bool | int = False,
    scopes: Collection[str] = (),
    superuser: bool = False,
    mfa: bool = False,
) -> Callable[..., Awaitable[BaseUser]]:
    """A dependency that answers with the person who asks, when they are what a route needs.

        @router.delete("/{id}", dependencies=[Depends(require(fresh=True))])

        Owner = Annotated[BaseUser, Depends(require(verified=True, superuser=True))]

    Args:
        verified: Whether they must have verified their address.
        fresh: Whether they must have entered their password lately: within so many seconds, or, with True, within
            `AUTH_FRESH_TTL`. `POST /auth/reauth` makes it so.
        scopes: What the credentials must be good for, all of it. A key with scopes is good for nothing else, and not
            where `CurrentUser` alone is asked for; somebody who signed in has all scopes, unless a plugin's
            `token_claims()` names theirs.
        superuser: Whether they must be a superuser.
        mfa: Whether they must have signed in with a second factor.

    Raises:
        UnauthorizedException: When nobody is signed in.
        ForbiddenException: When they are not a superuser.
        ScopeMissingException: When the credentials are not good for it.
        SecondFactorRequiredException: When they signed in without a second factor.
        EmailNotVerifiedException: When their address is not verified.
        ReauthenticationRequiredException: When their sign-in is too old.
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
    """A key with scopes opens only what asks for one; somebody who signed in may go where nothing is asked."""
    if principal is None or principal.scopes is None:
        return
    if not needed and not isinstance(principal, SessionPrincipal):
        raise ScopeMissingException
    if missing := needed - principal.scopes:
        raise ScopeMissingException(f"These credentials lack the scope {' '.join(sorted(missing))}.")


def _is_recent(principal: Principal, seconds: int) -> bool:
    then = principal.authenticated_at
    return then is not None and utcnow() - then <= timedelta(seconds=seconds)


DbSession = Annotated[AsyncSession, Depends(get_session, scope="function")]
"""A session that commits before the response is sent, and rolls back when the route raises."""

ReadSession = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
"""A session that only reads, and may be a moment behind."""

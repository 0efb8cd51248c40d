"""Rate limits: the `limit()` dependency for routes, and the limits of the built-in routes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import Depends
from fastapi.requests import HTTPConnection
from starlette.requests import Request

from appkit.api.client_address import client_address
from appkit.api.cookies import cookie_names
from appkit.api.dependencies import app_of, find_app
from appkit.api.middleware import route_path
from appkit.core.limits import parse_rule
from appkit.domain.emails import parse_email
from appkit.domain.events import RateLimited
from appkit.exceptions import InvalidCredentialsException
from appkit.repository.context import AppContext
from appkit.service.base import BaseService
from appkit.service.hashing import Security
from appkit.service.users import UserService

SIGNIN_BY_ADDRESS: Final = "30/minute"
FAILED_SIGNIN_BY_PLACE: Final = "5/5 minutes"
FAILED_SIGNIN_BY_EMAIL: Final = "20/hour"
MAIL_BY_ADDRESS: Final = "20/hour"
MAIL_BY_EMAIL: Final = "5/hour"
RESEND_BY_USER: Final = "1/3 minutes"
REFRESH_BY_ADDRESS: Final = "300/minute"
REFRESH_BY_SESSION: Final = "30/minute"
REAUTH_BY_USER: Final = "10/minute"


async def by_address(connection: HTTPConnection) -> str:
    """The client's IP address: the default key of `limit()`."""
    return client_address(connection)


def limit(rule: str, *, key: Callable[..., Any] = by_address) -> Callable[..., Awaitable[None]]:
    """A dependency that limits how often a route may be called, and answers 429 above this limit.

        @router.post("/search", dependencies=[Depends(limit("30/minute"))])

    Each route has its own counter, even if the dependency is set for a whole router. Failed requests are counted too.

    Args:
        rule: The number of requests in a period, such as `20/hour` or `5/10 minutes`.
        key: A dependency that returns a string, a number or a UUID. Each value has its own counter.

    Raises:
        AppKitError: When the rule can't be parsed.
    """
    parse_rule(rule)

    async def check(connection: HTTPConnection, value: Annotated[Any, Depends(key)]) -> None:
        action = f"{connection.scope.get('method', 'WEBSOCKET')} {route_path(connection.scope)}"
        await app_of(connection).limiter.hit(rule, action, value)

    return check


async def emit_rate_limited(connection: HTTPConnection, action: str) -> None:
    """Emit `RateLimited` in a separate database session, because the request's own is rolled back."""
    context = find_app(connection)
    if context is None:
        return
    principal = getattr(connection.state, "principal", None)
    event = RateLimited(
        action=action, ip=client_address(connection), user_id=None if principal is None else principal.user_id
    )
    async with context.database.session() as db:
        BaseService(db).emit(event)


@asynccontextmanager
async def signin_attempt(request: Request, email: str) -> AsyncIterator[None]:
    """Count a sign-in attempt by IP address. If it fails, also count it by account, and by account and IP address.

    A browser with the account's device cookie has separate counters (OWASP: device cookies). Guesses from many IP
    addresses then lock out only new devices, until the owner resets the password by mail. All devices with a cookie
    share one counter too, so that many cookies don't allow more guesses. A successful sign-in resets only the counter
    of this account and device, because it must not allow more guesses at other accounts. All limits are checked before
    the password, and the limit of the account again after it.
    """
    app, place, key = app_of(request), client_address(request), parse_email(email).key
    limiter, cookie = app.limiter, request.cookies.get(cookie_names(app.settings).device)
    await limiter.hit(SIGNIN_BY_ADDRESS, "signin", place)
    device = await _find_device(app, cookie, email)
    devices = "email" if device is None else "devices"  # OWASP: untrusted and trusted clients.
    await limiter.test(FAILED_SIGNIN_BY_EMAIL, "signin", devices, key)
    # Counted before the password is checked, so that concurrent attempts count too.
    await limiter.hit(FAILED_SIGNIN_BY_PLACE, "signin", device or place, key)
    try:
        yield
    except InvalidCredentialsException:
        await limiter.hit(FAILED_SIGNIN_BY_EMAIL, "signin", devices, key)
        raise
    # Concurrent guesses may have reached the limit while this password was checked. Then it must not help either.
    await limiter.test(FAILED_SIGNIN_BY_EMAIL, "signin", devices, key)
    await limiter.clear(FAILED_SIGNIN_BY_PLACE, "signin", device or place, key)


async def _find_device(app: AppContext, cookie: str | None, email: str) -> str | None:
    """The id of a device, if its cookie belongs to this account and to the account's current security version."""
    if (found := Security.of(app).tokens.read_device(cookie)) is None:
        return None
    async with app.database.read_session(primary=True) as db:
        user = await UserService(db).find(email)
    return found[2] if user is not None and found[:2] == (user.id, user.security_version) else None


async def count_mail(request: Request, action: str, email: str | None = None) -> None:
    """Count a request that sends mail: for the client's IP address, and for the e-mail address in the body.

    Pass no e-mail address if the mail lets its owner in: others could use up the limit and keep the owner out.
    `LinkService.has_enough` then limits the mails.
    """
    limiter = app_of(request).limiter
    await limiter.hit(MAIL_BY_ADDRESS, action, client_address(request))
    if email is not None:
        await limiter.hit(MAIL_BY_EMAIL, action, "email", parse_email(email).key)


async def count_refresh(request: Request, token: str) -> None:
    """Count the use of a refresh token by IP address, and by sign-in session."""
    app = app_of(request)
    await app.limiter.hit(REFRESH_BY_ADDRESS, "refresh", client_address(request))
    for session_id in Security.of(app).tokens.session_ids(token):
        await app.limiter.hit(REFRESH_BY_SESSION, "refresh", session_id)

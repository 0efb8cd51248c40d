"""Rate limits: the `limit()` dependency for routes, and the built-in limits on sign-in, sign-up, refresh and mails.

`LIMITS_ENABLED=false` turns them all off. When several rules count a request, each rule must allow the request.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final
from uuid import UUID

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
from appkit.service.base import BaseService
from appkit.service.hashing import Security

SIGNIN_BY_ADDRESS: Final = "30/minute"
FAILED_SIGNIN_BY_PLACE: Final = "5/5 minutes"
FAILED_SIGNIN_BY_EMAIL: Final = "20/hour"
MAIL_BY_ADDRESS: Final = "20/hour"
MAIL_BY_EMAIL: Final = "5/hour"
RESEND_BY_USER: Final = "1/3 minutes"
REFRESH_BY_ADDRESS: Final = "300/minute"
REFRESH_BY_SESSION: Final = "30/minute"
PROOF_BY_USER: Final = "10/minute"


async def by_address(connection: HTTPConnection) -> str:
    """The default key of `limit()`: the client's IP address."""
    return client_address(connection)


def limit(rule: str, *, key: Callable[..., Any] = by_address) -> Callable[..., Awaitable[None]]:
    """A dependency that limits how often a route may be called, and answers 429 above this limit.

        @router.post("/search", dependencies=[Depends(limit("30/minute"))])

    Each route has a separate counter, even if the dependency belongs to a router. Requests are counted when they
    arrive, whatever their outcome.

    Args:
        rule: The number of requests in a period, such as `20/hour` or `5/10 minutes`.
        key: A dependency that returns what to count by: a string, a number or a UUID.

    Raises:
        AppKitError: When the rule can't be parsed.
    """
    parse_rule(rule)

    async def check(connection: HTTPConnection, value: Annotated[Any, Depends(key)]) -> None:
        action = f"{connection.scope.get('method', 'WEBSOCKET')} {route_path(connection.scope)}"
        await app_of(connection).limiter.hit(rule, action, value)

    return check


async def emit_rate_limited(connection: HTTPConnection, action: str) -> None:
    """Emit `RateLimited` in a separate database session, because the database session of the request is rolled back."""
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
    """Count sign-in attempts per IP address, and failed ones also per account, and per account and IP address together.

    Browsers with the account's device cookie are counted separately (OWASP: device cookies). Password guesses from many
    IP addresses therefore lock the owner out of new devices only, until the owner resets the password by mail. A
    successful sign-in resets only the counter of this account and device: knowing one account's password must not
    reset other accounts' counters.

    Raises:
        TooManyRequestsException: When a limit is exceeded, before the password is checked.
    """
    app, place, key = app_of(request), client_address(request), parse_email(email).key
    limiter, cookie = app.limiter, request.cookies.get(cookie_names(app.settings).device)
    device = Security.of(app).tokens.read_device(cookie, key)
    await limiter.hit(SIGNIN_BY_ADDRESS, "signin", place)
    if device is None:
        await limiter.test(FAILED_SIGNIN_BY_EMAIL, "signin", "email", key)
    # Counted before the password is checked, so that concurrent attempts count too.
    await limiter.hit(FAILED_SIGNIN_BY_PLACE, "signin", device or place, key)
    try:
        yield
    except InvalidCredentialsException:
        if device is None:
            await limiter.hit(FAILED_SIGNIN_BY_EMAIL, "signin", "email", key)
        raise
    await limiter.clear(FAILED_SIGNIN_BY_PLACE, "signin", device or place, key)


async def count_mail(request: Request, action: str, email: str) -> None:
    """Count a request that sends mail to the e-mail address in its body.

    Raises:
        TooManyRequestsException: When too many requests came from one IP address or named one e-mail address.
    """
    limiter = app_of(request).limiter
    await limiter.hit(MAIL_BY_ADDRESS, action, client_address(request))
    await limiter.hit(MAIL_BY_EMAIL, action, "email", parse_email(email).key)


async def count_resend(request: Request, user_id: UUID) -> None:
    """Count a request of a signed-in user for another verification mail.

    Raises:
        TooManyRequestsException: When the last such request was too recent.
    """
    await app_of(request).limiter.hit(RESEND_BY_USER, "resend", user_id)


async def count_refresh(request: Request, token: str) -> None:
    """Count the use of a refresh token.

    Raises:
        TooManyRequestsException: When there were too many uses, from one IP address or in one sign-in session.
    """
    app = app_of(request)
    await app.limiter.hit(REFRESH_BY_ADDRESS, "refresh", client_address(request))
    for session_id in Security.of(app).tokens.session_ids(token):
        await app.limiter.hit(REFRESH_BY_SESSION, "refresh", session_id)


async def count_proof(request: Request, user_id: UUID) -> None:
    """Count a password that a signed-in user enters again: somebody else may be guessing it in the user's browser.

    Raises:
        TooManyRequestsException: When there were too many attempts.
    """
    await app_of(request).limiter.hit(PROOF_BY_USER, "proof", user_id)

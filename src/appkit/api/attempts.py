"""How often people may try to sign in, sign up and the like: what makes guessing slow and mail scarce.

Every rule has to allow a call. `LIMITS_ENABLED` turns them all off.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from starlette.requests import Request

from appkit.api.client import client_address
from appkit.api.cookies import cookie_names
from appkit.api.dependencies import app_of
from appkit.domain.emails import parse_email
from appkit.exceptions import InvalidCredentialsException
from appkit.service.security import Security

SIGNIN_BY_ADDRESS: Final = "30/minute"
FAILED_SIGNIN_BY_PLACE: Final = "5/5 minutes"
FAILED_SIGNIN_BY_EMAIL: Final = "20/hour"
MAIL_BY_ADDRESS: Final = "20/hour"
MAIL_BY_EMAIL: Final = "5/hour"
RESEND_BY_USER: Final = "1/3 minutes"
REFRESH_BY_ADDRESS: Final = "300/minute"
REFRESH_BY_SESSION: Final = "30/minute"
PROOF_BY_USER: Final = "10/minute"


@asynccontextmanager
async def signin_attempt(request: Request, email: str) -> AsyncIterator[None]:
    """Count an attempt to sign in: each from one place, and failed ones for the account.

    A browser that the account has signed in with counts for itself: whoever guesses at a password from many places
    locks its owner out of new devices, until they set a new one by mail, and not of those they use (OWASP: device
    cookies). A success forgets the failures from this place with this account, and nothing else: who knows one password
    may not buy guesses at others with it.

    Raises:
        TooManyRequestsException: When there were too many, before a password is looked at.
    """
    app, place, key = app_of(request), client_address(request), parse_email(email).key
    limiter, cookie = app.limiter, request.cookies.get(cookie_names(app.settings).device)
    device = Security.of(app).tokens.read_device(cookie, key)
    await limiter.hit(SIGNIN_BY_ADDRESS, "signin", place)
    if device is None:
        await limiter.test(FAILED_SIGNIN_BY_EMAIL, "signin", "email", key)
    # Counted before it is known to fail, so that attempts made side by side count too.
    await limiter.hit(FAILED_SIGNIN_BY_PLACE, "signin", device or place, key)
    try:
        yield
    except InvalidCredentialsException:
        if device is None:
            await limiter.hit(FAILED_SIGNIN_BY_EMAIL, "signin", "email", key)
        raise
    await limiter.clear(FAILED_SIGNIN_BY_PLACE, "signin", device or place, key)


async def count_mail(request: Request, action: str, email: str) -> None:
    """Count something that sends mail to an address that anybody may have typed.

    Raises:
        TooManyRequestsException: When there was too much, from one place or to one address.
    """
    limiter = app_of(request).limiter
    await limiter.hit(MAIL_BY_ADDRESS, action, client_address(request))
    await limiter.hit(MAIL_BY_EMAIL, action, "email", parse_email(email).key)


async def count_resend(request: Request, user_id: UUID) -> None:
    """Count another mail to somebody who is signed in.

    Raises:
        TooManyRequestsException: When the last one is too recent.
    """
    await app_of(request).limiter.hit(RESEND_BY_USER, "resend", user_id)


async def count_refresh(request: Request, token: str) -> None:
    """Count the use of a refresh token.

    Raises:
        TooManyRequestsException: When there was too much, from one place or for one session.
    """
    app = app_of(request)
    await app.limiter.hit(REFRESH_BY_ADDRESS, "refresh", client_address(request))
    for session_id in Security.of(app).tokens.session_ids(token):
        await app.limiter.hit(REFRESH_BY_SESSION, "refresh", session_id)


async def count_proof(request: Request, user_id: UUID) -> None:
    """Count a password that somebody who is signed in was asked for: their browser may be in other hands.

    Raises:
        TooManyRequestsException: When there were too many.
    """
    await app_of(request).limiter.hit(PROOF_BY_USER, "proof", user_id)

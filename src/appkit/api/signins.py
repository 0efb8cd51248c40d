"""Completes a sign-in in a route: starts the sign-in session, sets cookies and builds the response."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from appkit.api.client_address import client_address
from appkit.api.cookies import clear_cookies, presented_tokens, set_cookies, set_device_cookie
from appkit.api.dependencies import app_of
from appkit.api.schemas import BearerSchema, ChallengeSchema, UserSchema
from appkit.repository.user import BaseUser
from appkit.service.auth import AuthService
from appkit.service.hashing import Security
from appkit.service.principals import Device, PendingSignIn, SignIn, TokenPair

SigninAnswer = UserSchema | BearerSchema | ChallengeSchema
"""The response of a route that signs in: the user, the tokens of a program, or a challenge for another factor."""


async def complete_signin(
    request: Request,
    response: Response,
    db: AsyncSession,
    user: BaseUser,
    *,
    methods: Sequence[str],
    remember: bool = False,
) -> SigninAnswer:
    """Sign in a user whom a plugin's route has identified, for example by a mailed link.

    The browser's previous sign-in session ends. A plugin with `before_signin()` may ask for another factor first.

        @router.post("/auth/magic", responses=errors(InvalidTokenException))
        async def follow(payload: Link, request: Request, response: Response, db: DbSession) -> SigninAnswer:
            used = await LinkService(db).consume(payload.token, "magic")
            user = await UserService(db).get(used.user_id)
            return await complete_signin(request, response, db, user, methods=["email"])

    Args:
        response: The route's `Response` parameter, which gets the cookies.
        methods: How the user authenticated (RFC 8176), such as `["email"]`. Add `mfa` after several factors.
        remember: Whether the sign-in session outlives the browser.

    Raises:
        InvalidCredentialsException: When the account is disabled.
    """
    found = await AuthService(db).admit(
        user,
        methods=methods,
        remember=remember,
        device=device_of(request),
        replaces=presented_tokens(request, app_of(request).settings),
    )
    return answer_signin(request, response, found)


async def complete_challenge(
    request: Request, response: Response, db: AsyncSession, challenge: str, *, methods: Sequence[str]
) -> SigninAnswer:
    """Sign in a user who has met the challenge of a plugin's `before_signin()`.

        @router.post("/auth/totp/verify", responses=errors(InvalidTokenException, WrongCodeException))
        async def verify(payload: Code, request: Request, response: Response, db: DbSession) -> SigninAnswer:
            user = await AuthService(db).challenged(payload.challenge)  # Counts as one of five attempts.
            await TotpService(db).check(user, payload.code)
            return await complete_challenge(request, response, db, payload.challenge, methods=["otp"])

    Args:
        response: The route's `Response` parameter, which gets the cookies.
        challenge: The challenge from the sign-in response. It can be used once.
        methods: How the user met the challenge (RFC 8176). `mfa` and the methods of the sign-in are added.

    Raises:
        InvalidTokenException: When the challenge is used or expired.
        InvalidCredentialsException: When the account was disabled after the challenge began.
    """
    settings = app_of(request).settings
    found = await AuthService(db).complete(
        challenge, methods=methods, device=device_of(request), replaces=presented_tokens(request, settings)
    )
    return answer_signin(request, response, found)


def answer_signin(request: Request, response: Response, found: SignIn | PendingSignIn) -> SigninAnswer:
    """Build the response to a sign-in, and set or clear the cookies of a browser."""
    app = app_of(request)
    settings = app.settings
    if isinstance(found, PendingSignIn):
        clear_cookies(response, settings)
        return ChallengeSchema(challenge=found.challenge, factors=found.factors)
    if found.kind == "bearer":
        return bearer(found.tokens)
    set_cookies(response, settings, found.tokens)
    set_device_cookie(
        response, settings, Security.of(app).tokens.issue_device(found.user.id, found.user.security_version)
    )
    return UserSchema.model_validate(found.user)


def bearer(tokens: TokenPair) -> BearerSchema:
    """The response body with a program's tokens."""
    return BearerSchema(access_token=tokens.access, refresh_token=tokens.refresh, expires_at=tokens.expires_at)


def device_of(request: Request) -> Device:
    """The IP address and the user agent of a request."""
    return Device(client_address(request), request.headers.get("user-agent"))

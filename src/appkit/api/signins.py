"""Signing people in from a route, ours or a plugin's: the session, the cookies, and the answer."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from appkit.api.client import client_address
from appkit.api.cookies import clear_cookies, presented_tokens, remember_device, set_cookies
from appkit.api.dependencies import app_of
from appkit.api.schemas import BearerSchema, ChallengeSchema, UserSchema
from appkit.repository.user import BaseUser
from appkit.service.auth import AuthService
from appkit.service.principals import TokenPair
from appkit.service.security import Security
from appkit.service.sessions import Device
from appkit.service.signins import PendingSignIn, SignIn

SigninAnswer = UserSchema | BearerSchema | ChallengeSchema
"""What a route that signs people in answers: who they are, a program's tokens, or what they have to do besides."""


async def complete_signin(
    request: Request,
    response: Response,
    db: AsyncSession,
    user: BaseUser,
    *,
    methods: Sequence[str],
    remember: bool = False,
) -> SigninAnswer:
    """Sign in somebody whom a plugin's route has identified, by a link or another site, say.

    Other plugins' `before_signin()` is asked, unless they take the methods as enough. The session that the browser had
    until now ends, and the cookies are set.

        @router.post("/auth/magic", responses=errors(InvalidTokenException))
        async def follow(payload: Link, request: Request, response: Response, db: DbSession) -> SigninAnswer:
            used = await LinkService(db).consume(payload.token, "magic")
            user = await UserService(db).get(used.user_id)
            return await complete_signin(request, response, db, user, methods=["email"])

    Args:
        request: The request that proved who they are.
        response: The response that gets the cookies; declare it beside the request.
        db: The route's session.
        user: Who it is.
        methods: How they proved it (RFC 8176); with `mfa` among them, in more than one way.
        remember: Whether the session outlives the browser.

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
    """Sign in somebody who has proved what a plugin's `before_signin()` asked for.

        @router.post("/auth/totp/verify", responses=errors(InvalidTokenException, WrongCodeException))
        async def verify(payload: Code, request: Request, response: Response, db: DbSession) -> SigninAnswer:
            user = await AuthService(db).challenged(payload.challenge)  # Counts as a try, of five.
            await TotpService(db).check(user, payload.code)
            return await complete_challenge(request, response, db, payload.challenge, methods=["otp"])

    Args:
        request: The request with the proof.
        response: The response that gets the cookies; declare it beside the request.
        db: The route's session.
        challenge: What signing in had answered; of several at once, one succeeds.
        methods: How they proved it (RFC 8176), which is added to what they had done before, and to `mfa`.

    Raises:
        InvalidTokenException: When the challenge was met already, or is too old.
    """
    settings = app_of(request).settings
    found = await AuthService(db).complete(
        challenge, methods=methods, device=device_of(request), replaces=presented_tokens(request, settings)
    )
    return answer_signin(request, response, found)


def answer_signin(request: Request, response: Response, found: SignIn | PendingSignIn) -> SigninAnswer:
    """Give a browser its cookies and a program its tokens; one that has yet to prove more keeps no session."""
    app = app_of(request)
    settings = app.settings
    if isinstance(found, PendingSignIn):
        clear_cookies(response, settings)
        return ChallengeSchema(challenge=found.challenge, factors=found.factors)
    if found.kind == "bearer":
        return bearer(found.tokens)
    set_cookies(response, settings, found.tokens)
    remember_device(response, settings, Security.of(app).tokens.know_device(found.user.email_key))
    return UserSchema.model_validate(found.user)


def bearer(tokens: TokenPair) -> BearerSchema:
    """A program's tokens as it gets them."""
    return BearerSchema(access_token=tokens.access, refresh_token=tokens.refresh, expires_at=tokens.expires_at)


def device_of(request: Request) -> Device:
    """Where a request comes from."""
    return Device(client_address(request), request.headers.get("user-agent"))

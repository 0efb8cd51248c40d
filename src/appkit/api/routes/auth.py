"""Routes to sign up, sign in, sign out and refresh: with cookies for browsers, with bearer tokens for programs."""

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from appkit.api.cookies import clear_cookies, presented_tokens, set_cookies
from appkit.api.dependencies import DbSession, app_of
from appkit.api.errors import errors
from appkit.api.problems import problem
from appkit.api.rate_limits import count_mail, count_refresh, signin_attempt
from appkit.api.routes.account import create_me_router, emails_router, passwords_router, sessions_router
from appkit.api.schemas import (
    AccessSchema,
    BearerSchema,
    ChallengeSchema,
    RefreshSchema,
    SigninSchema,
    SignoutSchema,
    SignupSchema,
    UserSchema,
)
from appkit.api.signins import SigninAnswer, answer_signin, bearer, device_of
from appkit.exceptions import (
    EmailTakenException,
    InvalidCredentialsException,
    NotFoundException,
    RefreshReplayedException,
    ServiceUnavailableException,
    SessionRevokedException,
    SignupClosedException,
    TooManyRequestsException,
    UnauthorizedException,
)
from appkit.service.auth import AuthService


async def forbid_caching(response: Response) -> None:
    """Forbid caching, because the responses contain personal data."""
    response.headers["Cache-Control"] = "no-store"


signing_router = APIRouter()


@signing_router.post(
    "/signup",
    status_code=201,
    response_model=UserSchema | ChallengeSchema,
    responses={
        **errors(EmailTakenException, SignupClosedException, TooManyRequestsException, ServiceUnavailableException),
        202: {"description": "A mail has the answer (`AUTH_SIGNUP_MODE=private`)."},
    },
)
async def signup(payload: SignupSchema, request: Request, response: Response, db: DbSession) -> SigninAnswer | Response:
    """Create an account, and sign in."""
    settings = app_of(request).settings
    await count_mail(request, "signup", payload.email)
    if settings.auth.signup_mode == "private":
        await AuthService(db).signup_privately(payload.email, payload.password.get_secret_value())
        return Response(status_code=202, headers=response.headers)
    begun = await AuthService(db).signup(
        payload.email,
        payload.password.get_secret_value(),
        device=device_of(request),
        replaces=presented_tokens(request, settings),
    )
    return answer_signin(request, response, begun)


@signing_router.post(
    "/signin",
    response_model=UserSchema | ChallengeSchema,
    responses=errors(InvalidCredentialsException, TooManyRequestsException, ServiceUnavailableException),
)
async def signin(payload: SigninSchema, request: Request, response: Response, db: DbSession) -> SigninAnswer:
    """Sign in. The browser's previous sign-in session ends.

    If another factor is required, the answer is a challenge, and you are not signed in yet.
    """
    async with signin_attempt(request, payload.email):
        begun = await AuthService(db).signin(
            payload.email,
            payload.password.get_secret_value(),
            remember=payload.remember,
            device=device_of(request),
            replaces=presented_tokens(request, app_of(request).settings),
        )
    return answer_signin(request, response, begun)


@signing_router.post("/signout", status_code=204)
async def signout(request: Request, response: Response, db: DbSession, payload: SignoutSchema | None = None) -> None:
    """Sign out: end the sign-in session. If you are not signed in, the answer is the same."""
    settings = app_of(request).settings
    await AuthService(db).signout(*presented_tokens(request, settings))
    if payload and payload.challenge:
        await AuthService(db).give_up(payload.challenge.get_secret_value())
    clear_cookies(response, settings)


@signing_router.post(
    "/refresh",
    response_model=AccessSchema,
    responses=errors(
        UnauthorizedException, SessionRevokedException, RefreshReplayedException, TooManyRequestsException
    ),
)
async def refresh(request: Request, response: Response, db: DbSession) -> Response | AccessSchema:
    """Exchange the refresh cookie for the next pair of tokens."""
    settings = app_of(request).settings
    token = presented_tokens(request, settings).refresh or ""
    await count_refresh(request, token)
    try:
        tokens = await AuthService(db).refresh(token)
    except UnauthorizedException as exc:  # Not raised, because the error response would not clear the cookies.
        refusal = problem(request, exc)
        clear_cookies(refusal, settings)
        return refusal
    set_cookies(response, settings, tokens)
    return AccessSchema(expires_at=tokens.expires_at)


async def require_bearer(request: Request) -> None:
    """Answer 404 unless `AUTH_BEARER_ENABLED` is set."""
    if not app_of(request).settings.auth.bearer_enabled:
        raise NotFoundException


tokens_router = APIRouter(
    prefix="/token",
    dependencies=[Depends(require_bearer)],
    responses=errors(NotFoundException, TooManyRequestsException),
)


@tokens_router.post(
    "",
    response_model=BearerSchema | ChallengeSchema,
    responses=errors(InvalidCredentialsException, ServiceUnavailableException),
)
async def create_token(payload: SigninSchema, request: Request, response: Response, db: DbSession) -> SigninAnswer:
    """Sign in a program, which sends the access token as `Authorization: Bearer` with its requests."""
    async with signin_attempt(request, payload.email):
        begun = await AuthService(db).signin(
            payload.email,
            payload.password.get_secret_value(),
            remember=payload.remember,
            kind="bearer",
            device=device_of(request),
        )
    return answer_signin(request, response, begun)


@tokens_router.post(
    "/refresh", responses=errors(UnauthorizedException, SessionRevokedException, RefreshReplayedException)
)
async def refresh_token(payload: RefreshSchema, request: Request, db: DbSession) -> BearerSchema:
    """Exchange a program's refresh token for the next pair of tokens."""
    token = payload.refresh_token.get_secret_value()
    await count_refresh(request, token)
    return bearer(await AuthService(db).refresh(token))


class NoProfile(BaseModel):
    """The profile of a user model that adds no columns."""


def create_auth_router(profile: type[BaseModel] = NoProfile) -> APIRouter:
    """Create all routes under `/auth`. `profile` has the columns that users may read and change."""
    router = APIRouter(prefix="/auth", tags=["auth"], dependencies=[Depends(forbid_caching)])
    parts = (signing_router, create_me_router(profile), sessions_router, passwords_router, emails_router, tokens_router)
    for part in parts:
        router.include_router(part)
    return router


auth_router = create_auth_router()

"""Signing up, in and out. The tokens go into cookies, never into a body that a script could read."""

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from appkit.api.attempts import count_mail, count_refresh, signin_attempt
from appkit.api.cookies import clear_cookies, presented_tokens, set_cookies
from appkit.api.dependencies import DbSession, app_of
from appkit.api.errors import errors
from appkit.api.problems import problem
from appkit.api.routes.emails import emails_router
from appkit.api.routes.me import create_me_router
from appkit.api.routes.passwords import passwords_router
from appkit.api.routes.sessions import sessions_router
from appkit.api.routes.tokens import tokens_router
from appkit.api.schemas import AccessSchema, ChallengeSchema, SigninSchema, SignoutSchema, SignupSchema, UserSchema
from appkit.api.signins import SigninAnswer, answer_signin, device_of
from appkit.exceptions import (
    EmailTakenException,
    InvalidCredentialsException,
    RefreshReplayedException,
    ServiceUnavailableException,
    SessionRevokedException,
    SignupClosedException,
    TooManyRequestsException,
    UnauthorizedException,
)
from appkit.service.auth import AuthService


async def forbid_caching(response: Response) -> None:
    """Keep what is personal out of every cache."""
    response.headers["Cache-Control"] = "no-store"


signing_router = APIRouter()


@signing_router.post(
    "/signup",
    status_code=201,
    response_model=UserSchema | ChallengeSchema,
    responses={
        **errors(EmailTakenException, SignupClosedException, TooManyRequestsException, ServiceUnavailableException),
        202: {"description": "The rest is said by mail, under `AUTH_SIGNUP_MODE=private`."},
    },
)
async def signup(payload: SignupSchema, request: Request, response: Response, db: DbSession) -> SigninAnswer | Response:
    """Make an account, and sign in with it."""
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
    """Sign in; the session that the browser had until now ends.

    Where a plugin asks for a second proof, the answer is a challenge, and nobody is signed in yet.
    """
    settings = app_of(request).settings
    async with signin_attempt(request, payload.email):
        begun = await AuthService(db).signin(
            payload.email,
            payload.password.get_secret_value(),
            remember=payload.remember,
            device=device_of(request),
            replaces=presented_tokens(request, settings),
        )
    return answer_signin(request, response, begun)


@signing_router.post("/signout", status_code=204)
async def signout(request: Request, response: Response, db: DbSession, payload: SignoutSchema | None = None) -> None:
    """Sign out: the session ends at once, and the answer is the same if there was none."""
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
    """Exchange the refresh cookie for the next pair, when the access token has expired."""
    settings = app_of(request).settings
    token = presented_tokens(request, settings).refresh or ""
    await count_refresh(request, token)
    try:
        tokens = await AuthService(db).refresh(token)
    except UnauthorizedException as exc:  # A raised one would lose the cookies' end on its way.
        refusal = problem(request, exc)
        clear_cookies(refusal, settings)
        return refusal
    set_cookies(response, settings, tokens)
    return AccessSchema(expires_at=tokens.expires_at)


class NoProfile(BaseModel):
    """An app whose users have no columns of their own."""


def create_auth_router(profile: type[BaseModel] = NoProfile) -> APIRouter:
    """All routes of signing in and of looking after one's account.

    Args:
        profile: What people may read and change of their own account, besides what every account has.
    """
    router = APIRouter(prefix="/auth", tags=["auth"], dependencies=[Depends(forbid_caching)])
    parts = (signing_router, create_me_router(profile), sessions_router, passwords_router, emails_router, tokens_router)
    for part in parts:
        router.include_router(part)
    return router


auth_router = create_auth_router()

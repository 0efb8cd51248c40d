"""Tokens for programs that keep no cookies, such as a command line or a mobile app. `AUTH_BEARER_ENABLED` opens it."""

from fastapi import APIRouter, Depends, Request, Response

from appkit.api.attempts import count_refresh, signin_attempt
from appkit.api.dependencies import DbSession, app_of
from appkit.api.errors import errors
from appkit.api.schemas import BearerSchema, ChallengeSchema, RefreshSchema, SigninSchema
from appkit.api.signins import SigninAnswer, answer_signin, bearer, device_of
from appkit.exceptions import (
    InvalidCredentialsException,
    NotFoundException,
    RefreshReplayedException,
    ServiceUnavailableException,
    SessionRevokedException,
    TooManyRequestsException,
    UnauthorizedException,
)
from appkit.service.auth import AuthService


async def require_bearer(request: Request) -> None:
    """Hide the routes where the app didn't ask for them."""
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
    """Sign a program in: it sends `Authorization: Bearer` and the access token with its requests."""
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
    """Exchange the refresh token for the next pair."""
    token = payload.refresh_token.get_secret_value()
    await count_refresh(request, token)
    return bearer(await AuthService(db).refresh(token))

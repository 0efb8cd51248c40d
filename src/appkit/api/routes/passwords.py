"""Passwords: proving that one knows it, and changing it."""

from fastapi import APIRouter, Request, Response

from appkit.api.cookies import set_cookies
from appkit.api.dependencies import CurrentPrincipal, CurrentUser, DbSession, app_of
from appkit.api.errors import errors
from appkit.api.schemas import PasswordChangeSchema, ReauthSchema
from appkit.exceptions import (
    ServiceUnavailableException,
    SessionRevokedException,
    TokenExpiredException,
    UnauthorizedException,
    UnprocessableException,
    WrongPasswordException,
)
from appkit.service.passwords import PasswordService

passwords_router = APIRouter(responses=errors(ServiceUnavailableException))
_SIGNED_IN = (UnauthorizedException, TokenExpiredException, SessionRevokedException, WrongPasswordException)


@passwords_router.post("/reauth", status_code=204, responses=errors(*_SIGNED_IN))
async def reauthenticate(
    payload: ReauthSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: CurrentPrincipal,
    db: DbSession,
) -> None:
    """Enter your password again, for what asks for a recent proof of who you are."""
    tokens = await PasswordService(db).confirm(principal, user, payload.password.get_secret_value())
    set_cookies(response, app_of(request).settings, tokens)


@passwords_router.post("/password/change", status_code=204, responses=errors(*_SIGNED_IN, UnprocessableException))
async def change_password(
    payload: PasswordChangeSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: CurrentPrincipal,
    db: DbSession,
) -> None:
    """Change your password: all your other sessions end at once."""
    tokens = await PasswordService(db).change(
        principal, user, payload.current.get_secret_value(), payload.new.get_secret_value()
    )
    set_cookies(response, app_of(request).settings, tokens)

"""Passwords: proving that one knows it, changing it, and setting a new one by mail."""

from fastapi import APIRouter, Request, Response

from appkit.api.attempts import count_mail, count_proof
from appkit.api.cookies import remember_device, set_cookies
from appkit.api.dependencies import CurrentUser, DbSession, SignedInPrincipal, app_of
from appkit.api.errors import errors
from appkit.api.schemas import EmailSchema, PasswordChangeSchema, ReauthSchema, ResetSchema
from appkit.exceptions import (
    InvalidTokenException,
    ServiceUnavailableException,
    SessionRevokedException,
    TokenExpiredException,
    TooManyRequestsException,
    UnauthorizedException,
    UnprocessableException,
    WrongPasswordException,
)
from appkit.service.passwords import PasswordService
from appkit.service.security import Security

passwords_router = APIRouter(responses=errors(TooManyRequestsException, ServiceUnavailableException))
_SIGNED_IN = (UnauthorizedException, TokenExpiredException, SessionRevokedException, WrongPasswordException)


@passwords_router.post("/reauth", status_code=204, responses=errors(*_SIGNED_IN))
async def reauthenticate(
    payload: ReauthSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: SignedInPrincipal,
    db: DbSession,
) -> None:
    """Enter your password again, for what asks for a recent proof of who you are."""
    await count_proof(request, user.id)
    tokens = await PasswordService(db).confirm(principal, user, payload.password.get_secret_value())
    set_cookies(response, app_of(request).settings, tokens)


@passwords_router.post("/password/change", status_code=204, responses=errors(*_SIGNED_IN, UnprocessableException))
async def change_password(
    payload: PasswordChangeSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: SignedInPrincipal,
    db: DbSession,
) -> None:
    """Change your password: all your other sessions end at once."""
    await count_proof(request, user.id)
    tokens = await PasswordService(db).change(
        principal, user, payload.current.get_secret_value(), payload.new.get_secret_value()
    )
    set_cookies(response, app_of(request).settings, tokens)


@passwords_router.post("/password/forgot", status_code=202)
async def forget_password(payload: EmailSchema, request: Request, db: DbSession) -> None:
    """Ask for a mail with a link to set a new password. The answer is the same whether there is an account or not."""
    await count_mail(request, "forgot", payload.email)
    PasswordService(db).forget(payload.email)


@passwords_router.post(
    "/password/reset", status_code=204, responses=errors(InvalidTokenException, UnprocessableException)
)
async def reset_password(payload: ResetSchema, request: Request, response: Response, db: DbSession) -> None:
    """Set a new password with the token from the mail: all your sessions end at once."""
    app = app_of(request)
    user = await PasswordService(db).reset(payload.token.get_secret_value(), payload.new.get_secret_value())
    remember_device(response, app.settings, Security.of(app).tokens.know_device(user.email_key))

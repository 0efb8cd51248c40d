"""Routes to confirm, change and reset a password."""

from fastapi import APIRouter, Request, Response

from appkit.api.cookies import set_cookies, set_device_cookie
from appkit.api.dependencies import CurrentUser, DbSession, SignedInPrincipal, app_of
from appkit.api.errors import errors
from appkit.api.rate_limits import count_mail, count_proof
from appkit.api.schemas import EmailSchema, PasswordChangeSchema, ReauthSchema, ResetSchema
from appkit.exceptions import (
    InvalidTokenException,
    ServiceUnavailableException,
    TooManyRequestsException,
    UnprocessableException,
    WrongPasswordException,
)
from appkit.service.hashing import Security
from appkit.service.passwords import PasswordService

passwords_router = APIRouter(responses=errors(TooManyRequestsException, ServiceUnavailableException))


@passwords_router.post("/reauth", status_code=204, responses=errors(WrongPasswordException))
async def reauthenticate(
    payload: ReauthSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: SignedInPrincipal,
    db: DbSession,
) -> None:
    """Enter your password again, for routes that require a recent sign-in (`require(fresh=True)`)."""
    await count_proof(request, user.id)
    tokens = await PasswordService(db).confirm(principal, user, payload.password.get_secret_value())
    set_cookies(response, app_of(request).settings, tokens)


@passwords_router.post(
    "/password/change", status_code=204, responses=errors(WrongPasswordException, UnprocessableException)
)
async def change_password(
    payload: PasswordChangeSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: SignedInPrincipal,
    db: DbSession,
) -> None:
    """Change your password. All your other sign-in sessions end."""
    await count_proof(request, user.id)
    tokens = await PasswordService(db).change(
        principal, user, payload.current.get_secret_value(), payload.new.get_secret_value()
    )
    set_cookies(response, app_of(request).settings, tokens)


@passwords_router.post("/password/forgot", status_code=202)
async def forget_password(payload: EmailSchema, request: Request, db: DbSession) -> None:
    """Request a mail with a link to set a new password. The answer is the same if there is no account."""
    await count_mail(request, "forgot", payload.email)
    PasswordService(db).forget(payload.email)


@passwords_router.post(
    "/password/reset", status_code=204, responses=errors(InvalidTokenException, UnprocessableException)
)
async def reset_password(payload: ResetSchema, request: Request, response: Response, db: DbSession) -> None:
    """Set a new password with the token from the mail. All your sign-in sessions end."""
    app = app_of(request)
    user = await PasswordService(db).reset(payload.token.get_secret_value(), payload.new.get_secret_value())
    set_device_cookie(response, app.settings, Security.of(app).tokens.issue_device(user.email_key))

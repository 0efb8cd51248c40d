"""Routes for a user's own account: profile, export, deletion, sign-in sessions, e-mail address and password."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, create_model

from appkit.api.cookies import clear_cookies, set_cookies, set_device_cookie
from appkit.api.dependencies import CurrentUser, DbSession, SignedInPrincipal, app_of, require
from appkit.api.errors import errors
from appkit.api.rate_limits import REAUTH_BY_USER, RESEND_BY_USER, count_mail
from appkit.api.schemas import (
    EmailSchema,
    InputSchema,
    PasswordChangeSchema,
    ReauthSchema,
    ResetSchema,
    SessionSchema,
    TokenSchema,
    UserSchema,
)
from appkit.exceptions import (
    EmailTakenException,
    InvalidTokenException,
    NotFoundException,
    ReauthenticationRequiredException,
    ServiceUnavailableException,
    SessionRequiredException,
    TooManyRequestsException,
    WrongPasswordException,
)
from appkit.repository.user import BaseUser
from appkit.service.accounts import AccountService, EmailService
from appkit.service.hashing import Security
from appkit.service.passwords import PasswordService
from appkit.service.sessions import SessionService

# OWASP ASVS 7.5.2: an attacker at an open browser must not be able to lock the user out.
FreshUser = Annotated[BaseUser, Depends(require(fresh=True))]

sessions_router = APIRouter(prefix="/sessions")
emails_router = APIRouter(prefix="/email")
passwords_router = APIRouter(responses=errors(TooManyRequestsException, ServiceUnavailableException))


def create_me_router(profile: type[BaseModel]) -> APIRouter:
    """Create the routes under `/me`. `profile` has the columns that users may read and change."""
    router = APIRouter(prefix="/me")
    shown: Any = create_model("MeSchema", __base__=(UserSchema, profile)) if profile.model_fields else UserSchema
    written: Any = create_model("ProfileSchema", __base__=(profile, InputSchema))

    @router.get("", response_model=shown)
    async def me(user: CurrentUser) -> Any:
        """The signed-in user."""
        return user

    async def change_me(payload: Any, user: CurrentUser, _: SignedInPrincipal, db: DbSession) -> Any:
        """Change your profile. Fields that you leave out stay unchanged."""
        return await AccountService(db).change(user.id, payload.model_dump(exclude_unset=True))

    change_me.__annotations__["payload"] = written
    router.patch("", response_model=shown, responses=errors(SessionRequiredException))(change_me)

    @router.delete("", status_code=204, responses=errors(ReauthenticationRequiredException))
    async def delete_me(request: Request, response: Response, user: FreshUser, db: DbSession) -> None:
        """Delete your account, and end all your sign-in sessions."""
        await AccountService(db).delete_account(user.id)
        clear_cookies(response, app_of(request).settings)

    @router.get("/export", responses=errors(SessionRequiredException))
    async def export_me(user: CurrentUser, _: SignedInPrincipal, response: Response, db: DbSession) -> dict[str, Any]:
        """Download all data that is kept about you."""
        response.headers["Content-Disposition"] = 'attachment; filename="account.json"'
        return dict(jsonable_encoder(await AccountService(db).export(user)))

    return router


@sessions_router.get("")
async def list_sessions(user: CurrentUser, principal: SignedInPrincipal, db: DbSession) -> list[SessionSchema]:
    """Your live sign-in sessions, sorted by the last use, latest first."""
    return [SessionSchema.of(session, principal) for session in await SessionService(db).live(user.id)]


@sessions_router.delete(
    "/{session_id}", status_code=204, responses=errors(ReauthenticationRequiredException, NotFoundException)
)
async def revoke_session(session_id: UUID, _: FreshUser, principal: SignedInPrincipal, db: DbSession) -> None:
    """End one of your sign-in sessions."""
    await SessionService(db).revoke(session_id, owner_id=principal.user_id)


@sessions_router.post("/revoke-others", status_code=204, responses=errors(ReauthenticationRequiredException))
async def revoke_other_sessions(_: FreshUser, principal: SignedInPrincipal, db: DbSession) -> None:
    """End all your sign-in sessions but this one."""
    await SessionService(db).revoke_others(principal)


@emails_router.post("/verify", status_code=204, responses=errors(InvalidTokenException))
async def verify_email(payload: TokenSchema, db: DbSession) -> None:
    """Verify your e-mail address with the token from the mail."""
    await EmailService(db).verify(payload.token.get_secret_value())


@emails_router.post("/verify/resend", status_code=202, responses=errors(TooManyRequestsException))
async def resend_verification(request: Request, user: CurrentUser, db: DbSession) -> None:
    """Request another mail with a link to verify your e-mail address."""
    await app_of(request).limiter.hit(RESEND_BY_USER, "resend", user.id)
    EmailService(db).ask_to_verify(user)


@emails_router.post(
    "/change", status_code=202, responses=errors(ReauthenticationRequiredException, TooManyRequestsException)
)
async def change_email(payload: EmailSchema, request: Request, user: FreshUser, db: DbSession) -> None:
    """Request a mail with a link to change your e-mail address. The answer doesn't reveal if it is taken."""
    await count_mail(request, "change", payload.email)
    EmailService(db).ask_to_change(user, payload.email)


@emails_router.post("/change/confirm", status_code=204, responses=errors(InvalidTokenException, EmailTakenException))
async def confirm_email(payload: TokenSchema, db: DbSession) -> None:
    """Change your e-mail address with the token from the mail. The old e-mail address gets a notice."""
    await EmailService(db).change(payload.token.get_secret_value())


@passwords_router.post("/reauth", status_code=204, responses=errors(WrongPasswordException))
async def reauthenticate(
    payload: ReauthSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: SignedInPrincipal,
    db: DbSession,
) -> None:
    """Enter your password again. This counts as a sign-in for routes that require a recent one."""
    # Somebody else may be guessing the password in the user's browser.
    await app_of(request).limiter.hit(REAUTH_BY_USER, "proof", user.id)
    tokens = await PasswordService(db).confirm(principal, user, payload.password.get_secret_value())
    set_cookies(response, app_of(request).settings, tokens)


@passwords_router.post("/password/change", status_code=204, responses=errors(WrongPasswordException))
async def change_password(
    payload: PasswordChangeSchema,
    request: Request,
    response: Response,
    user: CurrentUser,
    principal: SignedInPrincipal,
    db: DbSession,
) -> None:
    """Change your password. All your other sign-in sessions end."""
    app = app_of(request)
    await app.limiter.hit(REAUTH_BY_USER, "proof", user.id)
    tokens = await PasswordService(db).change(
        principal, user, payload.current.get_secret_value(), payload.new.get_secret_value()
    )
    set_cookies(response, app.settings, tokens)
    signer = Security.of(app).tokens
    version = signer.read_access(tokens.access).security_version  # Voids the old device cookie.
    set_device_cookie(response, app.settings, signer.issue_device(user.id, version))


@passwords_router.post("/password/forgot", status_code=202)
async def forget_password(payload: EmailSchema, request: Request, db: DbSession) -> None:
    """Request a mail with a link to set a new password. The answer is the same if there is no account."""
    await count_mail(request, "forgot")
    PasswordService(db).request_reset(payload.email)


@passwords_router.post("/password/reset", status_code=204, responses=errors(InvalidTokenException))
async def reset_password(payload: ResetSchema, request: Request, response: Response, db: DbSession) -> None:
    """Set a new password with the token from the mail. All your sign-in sessions end."""
    app = app_of(request)
    user = await PasswordService(db).reset(payload.token.get_secret_value(), payload.new.get_secret_value())
    set_device_cookie(response, app.settings, Security.of(app).tokens.issue_device(user.id, user.security_version))

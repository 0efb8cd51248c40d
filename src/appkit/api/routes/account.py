"""Routes of the signed-in user's own account: profile, export, deletion, sign-in sessions and e-mail address."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, create_model

from appkit.api.cookies import clear_cookies
from appkit.api.dependencies import CurrentUser, DbSession, SignedInPrincipal, app_of, require
from appkit.api.errors import errors
from appkit.api.rate_limits import count_mail, count_resend
from appkit.api.schemas import EmailSchema, InputSchema, SessionSchema, TokenSchema, UserSchema
from appkit.exceptions import (
    EmailTakenException,
    InvalidTokenException,
    NotFoundException,
    ReauthenticationRequiredException,
    SessionRequiredException,
    TooManyRequestsException,
)
from appkit.repository.user import BaseUser
from appkit.service.accounts import AccountService, EmailService
from appkit.service.sessions import SessionService

# OWASP ASVS 7.5.2: an attacker at an open browser must not be able to lock its owner out.
FreshUser = Annotated[BaseUser, Depends(require(fresh=True))]

sessions_router = APIRouter(prefix="/sessions")
emails_router = APIRouter(prefix="/email")


def create_me_router(profile: type[BaseModel]) -> APIRouter:
    """Create the routes under `/me`.

    Args:
        profile: The columns of the app's user model that users may read and change.
    """
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
        found: dict[str, Any] = jsonable_encoder(await AccountService(db).export(user))
        return found

    return router


@sessions_router.get("")
async def list_sessions(user: CurrentUser, principal: SignedInPrincipal, db: DbSession) -> list[SessionSchema]:
    """Your live sign-in sessions, the one seen last first."""
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
    """Request another mail with a link to verify your address."""
    await count_resend(request, user.id)
    EmailService(db).ask_to_verify(user)


@emails_router.post(
    "/change", status_code=202, responses=errors(ReauthenticationRequiredException, TooManyRequestsException)
)
async def change_email(payload: EmailSchema, request: Request, user: FreshUser, db: DbSession) -> None:
    """Request a mail with a link to change your e-mail address. The answer is the same for a taken address."""
    await count_mail(request, "change", payload.email)
    EmailService(db).ask_to_change(user, payload.email)


@emails_router.post("/change/confirm", status_code=204, responses=errors(InvalidTokenException, EmailTakenException))
async def confirm_email(payload: TokenSchema, db: DbSession) -> None:
    """Change your e-mail address with the token from the mail. The old address gets a notice."""
    await EmailService(db).change(payload.token.get_secret_value())

"""E-mail addresses: proving that one's own is, and changing it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from appkit.api.attempts import count_mail, count_resend
from appkit.api.dependencies import CurrentUser, DbSession, require
from appkit.api.errors import errors
from appkit.api.schemas import EmailSchema, TokenSchema
from appkit.exceptions import (
    EmailTakenException,
    InvalidTokenException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    TokenExpiredException,
    TooManyRequestsException,
    UnauthorizedException,
)
from appkit.repository.user import BaseUser
from appkit.service.emails import EmailService

emails_router = APIRouter(prefix="/email")
_SIGNED_IN = (UnauthorizedException, TokenExpiredException, SessionRevokedException)


@emails_router.post("/verify", status_code=204, responses=errors(InvalidTokenException))
async def verify_email(payload: TokenSchema, db: DbSession) -> None:
    """Verify an address with the token from the mail."""
    await EmailService(db).verify(payload.token.get_secret_value())


@emails_router.post("/verify/resend", status_code=202, responses=errors(*_SIGNED_IN, TooManyRequestsException))
async def resend_verification(request: Request, user: CurrentUser, db: DbSession) -> None:
    """Ask for another mail with a link to verify your address."""
    await count_resend(request, user.id)
    EmailService(db).ask_to_verify(user)


@emails_router.post(
    "/change",
    status_code=202,
    responses=errors(*_SIGNED_IN, ReauthenticationRequiredException, TooManyRequestsException),
)
async def change_email(
    payload: EmailSchema, request: Request, user: Annotated[BaseUser, Depends(require(fresh=True))], db: DbSession
) -> None:
    """Ask for a mail with a link to use another address. The answer is the same for one that is taken."""
    await count_mail(request, "change", payload.email)
    EmailService(db).ask_to_change(user, payload.email)


@emails_router.post("/change/confirm", status_code=204, responses=errors(InvalidTokenException, EmailTakenException))
async def confirm_email(payload: TokenSchema, db: DbSession) -> None:
    """Use the new address, with the token from the mail to it; the old one is told."""
    await EmailService(db).change(payload.token.get_secret_value())

"""E-mail addresses: proving that one's own is."""

from fastapi import APIRouter, Request

from appkit.api.attempts import count_resend
from appkit.api.dependencies import CurrentUser, DbSession
from appkit.api.errors import errors
from appkit.api.schemas import TokenSchema
from appkit.exceptions import (
    InvalidTokenException,
    SessionRevokedException,
    TokenExpiredException,
    TooManyRequestsException,
    UnauthorizedException,
)
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

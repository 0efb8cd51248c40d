"""Routes to set up an authenticator app, manage recovery codes, and sign in with a code."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from appkit import BaseUser, CurrentUser, DbSession, Schema, SigninAnswer, complete_challenge, errors, require
from appkit.contrib.totp.codes import SetupSchema
from appkit.contrib.totp.service import InvalidFactorException, TotpEnabledException, TotpService, WrongCodeException
from appkit.exceptions import (
    EmailNotVerifiedException,
    InvalidTokenException,
    ReauthenticationRequiredException,
    TooManyRequestsException,
)


class CodeSchema(Schema, extra="forbid"):
    """A code from the app, or a recovery code."""

    code: SecretStr = Field(min_length=1, max_length=64)


class VerifySchema(CodeSchema):
    """A code that finishes signing in."""

    challenge: SecretStr = Field(max_length=256)
    """The `challenge` from the answer to the sign-in."""


class RecoveryCodesSchema(Schema):
    """Single-use codes for a user who loses the app. They are shown only now."""

    recovery_codes: list[str]


class StatusSchema(Schema):
    """Whether signing in needs a code."""

    totp: bool
    recovery_codes_left: int


router = APIRouter(prefix="/auth/mfa", tags=["auth"])
_FRESH = (ReauthenticationRequiredException,)
FreshUser = Annotated[BaseUser, Depends(require(fresh=True))]
# Verified, because otherwise an app could lock the owner of the e-mail address out of the account.
VerifiedUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]


@router.get("")
async def show_factors(user: CurrentUser, db: DbSession) -> StatusSchema:
    """Whether your account needs a code, and how many recovery codes are left."""
    service = TotpService(db)
    enabled = await service.is_enabled(user.id)
    return StatusSchema(totp=enabled, recovery_codes_left=await service.recovery_codes_left(user.id))


@router.post("/totp/setup", responses=errors(*_FRESH, EmailNotVerifiedException, TotpEnabledException))
async def set_up_totp(user: VerifiedUser, db: DbSession) -> SetupSchema:
    """Get a secret for your authenticator app. Nothing changes until you confirm it with a code."""
    return await TotpService(db).set_up(user)


@router.post("/totp/confirm", responses=errors(*_FRESH, WrongCodeException, TooManyRequestsException))
async def confirm_totp(payload: CodeSchema, user: FreshUser, db: DbSession) -> RecoveryCodesSchema:
    """Confirm the app with a code from it. From now on, signing in needs a code."""
    codes = await TotpService(db).confirm(user.id, payload.code.get_secret_value())
    return RecoveryCodesSchema(recovery_codes=codes)


@router.post("/totp/disable", status_code=204, responses=errors(*_FRESH, WrongCodeException, TooManyRequestsException))
async def disable_totp(payload: CodeSchema, user: FreshUser, db: DbSession) -> None:
    """Remove the app, with a code from it or a recovery code. Signing in then needs no code."""
    await TotpService(db).disable(user.id, payload.code.get_secret_value())


@router.post("/recovery-codes", responses=errors(*_FRESH, WrongCodeException, TooManyRequestsException))
async def renew_recovery_codes(payload: CodeSchema, user: FreshUser, db: DbSession) -> RecoveryCodesSchema:
    """Replace your recovery codes, with a code from the app or a recovery code."""
    codes = await TotpService(db).renew_codes(user.id, payload.code.get_secret_value())
    return RecoveryCodesSchema(recovery_codes=codes)


@router.post("/verify", responses=errors(InvalidFactorException, InvalidTokenException, TooManyRequestsException))
async def verify_code(payload: VerifySchema, request: Request, response: Response, db: DbSession) -> SigninAnswer:
    """Finish signing in with a code from the app or a recovery code. After five wrong codes, sign in again."""
    challenge = payload.challenge.get_secret_value()
    await TotpService(db).prove(challenge, payload.code.get_secret_value())
    return await complete_challenge(request, response, db, challenge, methods=["otp"])

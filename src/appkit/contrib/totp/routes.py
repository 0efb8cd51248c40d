"""Setting an authenticator app up, and signing in with it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from appkit import (
    AuthService,
    BaseUser,
    CurrentUser,
    DbSession,
    Schema,
    SigninAnswer,
    complete_challenge,
    errors,
    require,
)
from appkit.contrib.totp import codes
from appkit.contrib.totp.service import (
    InvalidFactorException,
    TotpEnabledException,
    TotpService,
    WrongCodeException,
)
from appkit.exceptions import (
    EmailNotVerifiedException,
    InvalidTokenException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    TokenExpiredException,
    TooManyRequestsException,
    UnauthorizedException,
)

Code = Annotated[SecretStr, Field(min_length=1, max_length=64)]


class CodeSchema(Schema, extra="forbid"):
    """Someone types a code: the app's, or, where that one is lost, a recovery code."""

    code: Code


class VerifySchema(CodeSchema):
    """Someone whose password was right types a code."""

    challenge: SecretStr = Field(max_length=256)
    """What signing in had answered."""


class SetupSchema(Schema):
    """What an authenticator app is given: by its camera, or typed."""

    secret: str
    url: str
    """For a link that opens the app, on a phone."""
    qr: str
    """The URL as a picture: the `src` of an `<img>`."""


class RecoveryCodesSchema(Schema):
    """Codes for who has lost the app, each good once. They are shown this once."""

    recovery_codes: list[str]


class StatusSchema(Schema):
    """Whether signing in asks for a code."""

    totp: bool
    recovery_codes_left: int


router = APIRouter(prefix="/auth/mfa", tags=["auth"])
_SIGNED_IN = (UnauthorizedException, TokenExpiredException, SessionRevokedException)
_FRESH = (*_SIGNED_IN, ReauthenticationRequiredException)

FreshUser = Annotated[BaseUser, Depends(require(fresh=True))]
# Who signed up with an address that isn't theirs must not lock its owner out.
VerifiedUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]


@router.get("", responses=errors(*_SIGNED_IN))
async def show_factors(user: CurrentUser, db: DbSession) -> StatusSchema:
    """Whether your account asks for a code, and how many recovery codes you have still."""
    service = TotpService(db)
    return StatusSchema(
        totp=await service.is_enabled(user.id), recovery_codes_left=await service.recovery_codes_left(user.id)
    )


@router.post("/totp/setup", responses=errors(*_FRESH, EmailNotVerifiedException, TotpEnabledException))
async def set_up_totp(user: VerifiedUser, db: DbSession) -> SetupSchema:
    """Get a secret for your authenticator app. Nothing changes before you confirm it with a code."""
    setup = await TotpService(db).set_up(user)
    return SetupSchema(secret=setup.secret, url=setup.url, qr=codes.qr_code(setup.url))


@router.post("/totp/confirm", responses=errors(*_FRESH, WrongCodeException, TooManyRequestsException))
async def confirm_totp(payload: CodeSchema, user: FreshUser, db: DbSession) -> RecoveryCodesSchema:
    """Show by a code that the app works: from now on, signing in asks for one."""
    return RecoveryCodesSchema(recovery_codes=await TotpService(db).confirm(user.id, payload.code.get_secret_value()))


@router.post("/totp/disable", status_code=204, responses=errors(*_FRESH, WrongCodeException, TooManyRequestsException))
async def disable_totp(payload: CodeSchema, user: FreshUser, db: DbSession) -> None:
    """Remove the app, with a code from it or a recovery code: the password alone will do again."""
    await TotpService(db).disable(user.id, payload.code.get_secret_value())


@router.post(
    "/recovery-codes",
    responses=errors(*_FRESH, WrongCodeException, TooManyRequestsException),
)
async def renew_recovery_codes(payload: CodeSchema, user: FreshUser, db: DbSession) -> RecoveryCodesSchema:
    """Get new recovery codes, with a code from the app: the old ones are void."""
    renewed = await TotpService(db).renew_codes(user.id, payload.code.get_secret_value())
    return RecoveryCodesSchema(recovery_codes=renewed)


@router.post("/verify", responses=errors(InvalidFactorException, InvalidTokenException, TooManyRequestsException))
async def verify_code(payload: VerifySchema, request: Request, response: Response, db: DbSession) -> SigninAnswer:
    """Finish signing in, with a code from the app or a recovery code. Five tries, then it begins anew."""
    challenge = payload.challenge.get_secret_value()
    user = await AuthService(db).challenged(challenge)
    await TotpService(db).prove(user.id, payload.code.get_secret_value())
    return await complete_challenge(request, response, db, challenge, methods=["otp"])

"""Routes to add, list and remove passkeys, and to sign in with one."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from appkit import BaseUser, CurrentUser, DbSession, SigninAnswer, complete_signin, errors, limit, require
from appkit.contrib.passkeys.schemas import NewPasskeySchema, OptionsSchema, PasskeySchema, PasskeySigninSchema
from appkit.contrib.passkeys.service import InvalidPasskeyException, PasskeyRefusedException, PasskeyService
from appkit.exceptions import (
    EmailNotVerifiedException,
    InvalidCredentialsException,
    NotFoundException,
    ReauthenticationRequiredException,
    TooManyRequestsException,
)


def get_service(request: Request, db: DbSession) -> PasskeyService:
    """The service of this request."""
    return PasskeyService(db, str(request.base_url))


Service = Annotated[PasskeyService, Depends(get_service, scope="function")]
# A passkey outlasts the sign-in session, so the sign-in must be recent and the e-mail address verified.
FreshUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]

router = APIRouter(prefix="/auth/passkeys", tags=["auth"])
_FRESH = (ReauthenticationRequiredException, EmailNotVerifiedException)


@router.get("")
async def list_passkeys(user: CurrentUser, service: Service) -> list[PasskeySchema]:
    """List your passkeys."""
    return [PasskeySchema.model_validate(passkey) for passkey in await service.all(user.id)]


@router.post("/options", responses=errors(*_FRESH))
async def begin_passkey(user: FreshUser, service: Service) -> OptionsSchema:
    """Get the options for `navigator.credentials.create()`."""
    return OptionsSchema(options=await service.creation_options(user))


@router.post("", status_code=201, responses=errors(*_FRESH, PasskeyRefusedException))
async def add_passkey(payload: NewPasskeySchema, user: FreshUser, service: Service) -> PasskeySchema:
    """Add the passkey that the browser created. From now on, you can sign in with the passkey."""
    return PasskeySchema.model_validate(await service.add(user.id, payload.credential, payload.name))


@router.delete("/{passkey_id}", status_code=204, responses=errors(*_FRESH, NotFoundException))
async def remove_passkey(passkey_id: UUID, user: FreshUser, service: Service) -> None:
    """Remove one of your passkeys. Nobody can sign in with it any more."""
    await service.remove(user.id, passkey_id)


@router.post("/signin/options", dependencies=[Depends(limit("60/minute"))], responses=errors(TooManyRequestsException))
async def begin_passkey_signin(service: Service) -> OptionsSchema:
    """Get the options for `navigator.credentials.get()`. No user name is needed."""
    return OptionsSchema(options=await service.request_options())


@router.post(
    "/signin",
    dependencies=[Depends(limit("60/minute"))],
    responses=errors(InvalidPasskeyException, InvalidCredentialsException, TooManyRequestsException),
)
async def sign_in_with_passkey(
    payload: PasskeySigninSchema, request: Request, response: Response, db: DbSession, service: Service
) -> SigninAnswer:
    """Sign in with a passkey. A passkey verifies its user and therefore counts as two factors."""
    user = await service.owner(payload.credential)
    methods = ["pop", "mfa"]  # RFC 8176
    return await complete_signin(request, response, db, user, methods=methods, remember=payload.remember)

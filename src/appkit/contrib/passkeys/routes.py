"""Routes to add, list and remove passkeys, and to sign in with one."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from appkit import BaseUser, CurrentUser, DbSession, Schema, SigninAnswer, complete_signin, errors, limit, require
from appkit.contrib.passkeys.service import InvalidPasskeyException, PasskeyRefusedException, PasskeyService
from appkit.exceptions import (
    EmailNotVerifiedException,
    InvalidCredentialsException,
    NotFoundException,
    ReauthenticationRequiredException,
    TooManyRequestsException,
)

Credential = Annotated[dict[str, Any], Field(description="`credential.toJSON()` of the browser's credential.")]


class NewPasskeySchema(Schema, extra="forbid"):
    """A new passkey."""

    name: str = Field(min_length=1, max_length=100)
    """A name by which the user recognises the passkey."""
    credential: Credential


class PasskeySigninSchema(Schema, extra="forbid"):
    """A passkey to sign in with."""

    credential: Credential
    remember: bool = False
    """Whether the user stays signed in after the browser is closed."""


class OptionsSchema(Schema):
    """Options to pass to `PublicKeyCredential.parseCreationOptionsFromJSON()` or `parseRequestOptionsFromJSON()`."""

    options: dict[str, Any]


class PasskeySchema(Schema):
    """One of your passkeys."""

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None


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

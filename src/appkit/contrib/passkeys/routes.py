"""Routes to add, list and remove passkeys, and to sign in with one."""

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from appkit import (
    BaseUser,
    CurrentUser,
    DbSession,
    Schema,
    SigninAnswer,
    UserService,
    app_of,
    complete_signin,
    errors,
    limit,
    require,
)
from appkit.contrib.passkeys.service import (
    InvalidPasskeyException,
    PasskeyRefusedException,
    PasskeyService,
    PasskeysSettings,
    RelyingParty,
)
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
    """A name to tell it from other passkeys."""
    credential: Credential


class PasskeySigninSchema(Schema, extra="forbid"):
    """A passkey to sign in with."""

    credential: Credential
    remember: bool = False
    """Whether to stay signed in when the browser is closed."""


class OptionsSchema(Schema):
    """For `PublicKeyCredential.parseCreationOptionsFromJSON()` or `parseRequestOptionsFromJSON()`."""

    options: dict[str, Any]


class PasskeySchema(Schema):
    """One of your passkeys."""

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None


def get_party(request: Request) -> RelyingParty:
    """The app as a relying party, from its settings; the request's own URL counts in development only."""
    settings = app_of(request).settings
    pages = [urlsplit(url) for url in (settings.frontend.url or str(request.base_url), *settings.cors.origins)]
    return RelyingParty(
        settings.group(PasskeysSettings).rp_id or pages[0].hostname or "",
        [f"{page.scheme}://{page.netloc}" for page in pages],
    )


def get_service(db: DbSession, party: Annotated[RelyingParty, Depends(get_party)]) -> PasskeyService:
    """The service for this request."""
    return PasskeyService(db, party)


Service = Annotated[PasskeyService, Depends(get_service, scope="function")]
# A session left open must not gain a lasting way to sign in, nor an account whose address isn't verified.
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
    """Add the passkey that the browser created. From now on, you can sign in with it."""
    return PasskeySchema.model_validate(await service.add(user.id, payload.credential, payload.name))


@router.delete("/{passkey_id}", status_code=204, responses=errors(*_FRESH, NotFoundException))
async def remove_passkey(passkey_id: UUID, user: FreshUser, service: Service) -> None:
    """Remove one of your passkeys. It no longer signs anybody in."""
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
    """Sign in with a passkey. It verifies the user and therefore counts as two factors."""
    user = await UserService(db).get(await service.owner(payload.credential))
    methods = ["pop", "mfa"]  # RFC 8176
    return await complete_signin(request, response, db, user, methods=methods, remember=payload.remember)

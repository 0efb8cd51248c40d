"""Adding passkeys, and signing in with one."""

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from appkit import (
    AppContext,
    BaseUser,
    CurrentUser,
    DbSession,
    Schema,
    SigninAnswer,
    UserService,
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
    SessionRevokedException,
    TokenExpiredException,
    TooManyRequestsException,
    UnauthorizedException,
)

Credential = Annotated[dict[str, Any], Field(description="`credential.toJSON()` of what the browser gave.")]


class NewPasskeySchema(Schema, extra="forbid"):
    """Someone adds a passkey."""

    name: str = Field(min_length=1, max_length=100)
    """What they call it, to tell it from others."""
    credential: Credential


class PasskeySigninSchema(Schema, extra="forbid"):
    """Someone signs in with a passkey."""

    credential: Credential
    remember: bool = False
    """Whether to stay signed in when the browser is closed."""


class OptionsSchema(Schema):
    """What `PublicKeyCredential.parseCreationOptionsFromJSON()` or `parseRequestOptionsFromJSON()` takes."""

    options: dict[str, Any]


class PasskeySchema(Schema):
    """A passkey, as its owner sees it."""

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None


def get_party(request: Request) -> RelyingParty:
    """The app that a request came to, by its settings: what the request says counts in development only."""
    app: AppContext = request.app.state.appkit
    settings = app.settings
    pages = [urlsplit(url) for url in (settings.frontend.url or str(request.base_url), *settings.cors.origins)]
    return RelyingParty(
        settings.group(PasskeysSettings).rp_id or pages[0].hostname or "",
        [f"{page.scheme}://{page.netloc}" for page in pages],
    )


def get_service(db: DbSession, party: Annotated[RelyingParty, Depends(get_party)]) -> PasskeyService:
    """The rules on passkeys."""
    return PasskeyService(db, party)


Service = Annotated[PasskeyService, Depends(get_service, scope="function")]
# A session that was left open must not become a way in for good, nor an account with an address that isn't theirs.
FreshUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]

router = APIRouter(prefix="/auth/passkeys", tags=["auth"])
_SIGNED_IN = (UnauthorizedException, TokenExpiredException, SessionRevokedException)
_FRESH = (*_SIGNED_IN, ReauthenticationRequiredException, EmailNotVerifiedException)


@router.get("", responses=errors(*_SIGNED_IN))
async def list_passkeys(user: CurrentUser, service: Service) -> list[PasskeySchema]:
    """Your passkeys."""
    return [PasskeySchema.model_validate(passkey) for passkey in await service.all(user.id)]


@router.post("/options", responses=errors(*_FRESH))
async def begin_passkey(user: FreshUser, service: Service) -> OptionsSchema:
    """Get what `navigator.credentials.create()` needs to make a passkey."""
    return OptionsSchema(options=await service.creation_options(user))


@router.post("", status_code=201, responses=errors(*_FRESH, PasskeyRefusedException))
async def add_passkey(payload: NewPasskeySchema, user: FreshUser, service: Service) -> PasskeySchema:
    """Add the passkey that the browser made: from now on, you can sign in with it."""
    return PasskeySchema.model_validate(await service.add(user.id, payload.credential, payload.name))


@router.delete("/{passkey_id}", status_code=204, responses=errors(*_FRESH, NotFoundException))
async def remove_passkey(passkey_id: UUID, user: FreshUser, service: Service) -> None:
    """Remove one of your passkeys: nobody can sign in with it any more."""
    await service.remove(user.id, passkey_id)


@router.post("/signin/options", dependencies=[Depends(limit("60/minute"))], responses=errors(TooManyRequestsException))
async def begin_passkey_signin(service: Service) -> OptionsSchema:
    """Get what `navigator.credentials.get()` needs. Nobody has to say first who they are."""
    return OptionsSchema(options=await service.request_options())


@router.post(
    "/signin",
    dependencies=[Depends(limit("60/minute"))],
    responses=errors(InvalidPasskeyException, InvalidCredentialsException, TooManyRequestsException),
)
async def sign_in_with_passkey(
    payload: PasskeySigninSchema, request: Request, response: Response, db: DbSession, service: Service
) -> SigninAnswer:
    """Sign in with a passkey. It asks for a finger, a face or a PIN, and so stands for two factors."""
    user = await UserService(db).get(await service.owner(payload.credential))
    methods = ["pop", "mfa"]  # RFC 8176
    return await complete_signin(request, response, db, user, methods=methods, remember=payload.remember)

"""Routes to create, list and revoke one's API keys."""

from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from appkit import BaseUser, CurrentUser, DbSession, NotFoundException, Schema, SignedInPrincipal, errors, require
from appkit.contrib.api_keys.service import ApiKey, ApiKeyService, Scope, TooManyApiKeysException
from appkit.exceptions import EmailNotVerifiedException, ReauthenticationRequiredException, SessionRequiredException


class NewApiKeySchema(Schema, extra="forbid"):
    """A new API key."""

    name: str = Field(min_length=1, max_length=100)
    scopes: list[Scope] | None = Field(default=None, min_length=1, max_length=100)
    """The key's scopes; null for everything that you may do."""
    days: int | None = Field(default=90, ge=1, le=3650)
    """How many days the key is valid; null for a key that is valid until you revoke it."""


class ApiKeySchema(Schema):
    """One of your API keys."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    valid: bool
    """False when the key has expired, or when your account has a new password or was signed out everywhere."""

    @classmethod
    def of(cls, row: ApiKey, user: BaseUser, **more: Any) -> Self:
        """Build it from the key's row and its owner."""
        unexpired = row.expires_at is None or row.expires_at > datetime.now(UTC)
        valid = unexpired and row.security_version == user.security_version
        values = {name: getattr(row, name, None) for name in cls.model_fields}
        return cls.model_validate({**values, "valid": valid, **more})


class CreatedApiKeySchema(ApiKeySchema):
    """A new API key. The key itself is shown only now."""

    key: str


router = APIRouter(prefix="/auth/api-keys", tags=["auth"])
# An API key outlasts the sign-in session, so the sign-in must be recent and the e-mail address verified.
FreshUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]


@router.get("", responses=errors(SessionRequiredException))
async def list_api_keys(user: CurrentUser, _: SignedInPrincipal, db: DbSession) -> list[ApiKeySchema]:
    """List your API keys."""
    return [ApiKeySchema.of(row, user) for row in await ApiKeyService(db).all(user.id)]


@router.post(
    "",
    status_code=201,
    responses=errors(ReauthenticationRequiredException, EmailNotVerifiedException, TooManyApiKeysException),
)
async def create_api_key(payload: NewApiKeySchema, user: FreshUser, db: DbSession) -> CreatedApiKeySchema:
    """Create an API key for a program. It is shown only now: store it where only the program can read it."""
    row, key = await ApiKeyService(db).create(user, payload.name, scopes=payload.scopes, days=payload.days)
    return CreatedApiKeySchema.of(row, user, key=key)


@router.delete("/{api_key_id}", status_code=204, responses=errors(SessionRequiredException, NotFoundException))
async def revoke_api_key(api_key_id: UUID, user: CurrentUser, _: SignedInPrincipal, db: DbSession) -> None:
    """Revoke one of your API keys, with immediate effect."""
    await ApiKeyService(db).revoke(user.id, api_key_id)

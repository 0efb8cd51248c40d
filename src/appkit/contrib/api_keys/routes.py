"""Looking after one's keys."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from appkit import BaseUser, CurrentUser, DbSession, Schema, SignedInPrincipal, errors, require
from appkit.contrib.api_keys.service import ApiKey, ApiKeyService, Scope, TooManyApiKeysException, now
from appkit.exceptions import (
    EmailNotVerifiedException,
    NotFoundException,
    ReauthenticationRequiredException,
    SessionRequiredException,
    UnauthorizedException,
)


class NewApiKeySchema(Schema, extra="forbid"):
    """Someone makes a key."""

    name: str = Field(min_length=1, max_length=100)
    scopes: list[Scope] | None = Field(default=None, min_length=1, max_length=100)
    """What it is good for; null is everything that you may do."""
    days: int | None = Field(default=90, ge=1, le=3650)
    """How long it is good; null is until you revoke it."""


class ApiKeySchema(Schema):
    """A key, as its owner sees it."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    valid: bool
    """Whether it opens anything still."""

    @classmethod
    def of(cls, row: ApiKey, user: BaseUser, **more: Any) -> Self:
        """As its row has it, and its owner's."""
        valid = row.security_version == user.security_version and (row.expires_at is None or row.expires_at > now())
        values = {name: getattr(row, name, None) for name in cls.model_fields}
        return cls.model_validate({**values, "valid": valid, **more})


class CreatedApiKeySchema(ApiKeySchema):
    """A key that was just made."""

    key: str
    """The key itself, which is shown this once."""


router = APIRouter(prefix="/auth/api-keys", tags=["auth"])
# A session that was left open must not become a way in for good, nor an account with an address that isn't theirs.
FreshUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]


@router.get("", responses=errors(UnauthorizedException, SessionRequiredException))
async def list_api_keys(user: CurrentUser, _: SignedInPrincipal, db: DbSession) -> list[ApiKeySchema]:
    """Your keys."""
    return [ApiKeySchema.of(row, user) for row in await ApiKeyService(db).all(user.id)]


@router.post(
    "",
    status_code=201,
    responses=errors(
        UnauthorizedException, ReauthenticationRequiredException, EmailNotVerifiedException, TooManyApiKeysException
    ),
)
async def create_api_key(payload: NewApiKeySchema, user: FreshUser, db: DbSession) -> CreatedApiKeySchema:
    """Make a key for a program. It is shown this once: keep it where only the program reads it."""
    row, key = await ApiKeyService(db).create(user, payload.name, scopes=payload.scopes, days=payload.days)
    return CreatedApiKeySchema.of(row, user, key=key)


@router.delete(
    "/{api_key_id}",
    status_code=204,
    responses=errors(UnauthorizedException, SessionRequiredException, NotFoundException),
)
async def revoke_api_key(api_key_id: UUID, user: CurrentUser, _: SignedInPrincipal, db: DbSession) -> None:
    """Make one of your keys void, at once."""
    await ApiKeyService(db).revoke(user.id, api_key_id)

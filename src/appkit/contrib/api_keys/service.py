"""ApiKeyService: create, verify and revoke API keys. Also their table, events and settings."""

import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Final
from uuid import UUID
from zlib import crc32

from pydantic import Field
from sqlalchemy import ColumnElement, ForeignKey, String, delete, exists, func, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseService, BaseTableModel, BaseUser, Event, SettingsGroup
from appkit.exceptions import ConflictException, NotFoundException, UnauthorizedException, UnprocessableException

MAX_KEYS: Final = 50
"""How many keys a user may have."""
LAST_USED_PRECISION: Final = timedelta(minutes=1)
"""How precise `last_used_at` is: a write for each request would be too expensive."""
_PREFIX: Final = 11
_LENGTH: Final = 51  # "ak_", 40 hexadecimal digits, and a checksum of 8.

Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")]  # RFC 6749, 3.3


class InvalidApiKeyException(UnauthorizedException):
    """The API key is unknown, revoked or expired, or its owner's account is closed or has a new password."""

    internal_code = 40175
    detail = "This API key is invalid, expired or revoked."


class TooManyApiKeysException(ConflictException):
    """The user has the maximum number of API keys."""

    internal_code = 40975
    detail = f"You have {MAX_KEYS} API keys, the maximum. Revoke one that you don't need."


class ApiKeysSettings(SettingsGroup):
    """API keys for programs."""

    scopes: tuple[Scope, ...] = ()
    """The scopes that a key may have, as in `["posts:read"]`; unset, any."""


class ApiKey(BaseTableModel):
    """An API key, with which a program acts as its owner. Revoking it deletes the row."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    security_version: Mapped[int]
    """The owner's version when the key was created. Ending all of a user's sessions also voids the user's keys."""
    name: Mapped[str] = mapped_column(String(100))
    """The name that the owner gave the key."""
    prefix: Mapped[str] = mapped_column(String(_PREFIX))
    """The first characters of the key, by which the owner recognises it."""
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 in hexadecimal, which is enough for 160 random bits; the key itself is shown once and not stored."""
    scopes: Mapped[list[str] | None]
    """What the key may do; None is everything that its owner may do."""
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ApiKeyCreated(Event):
    """A user created an API key."""

    user_id: UUID
    api_key_id: UUID


class ApiKeyRevoked(Event):
    """A user revoked an API key."""

    user_id: UUID
    api_key_id: UUID


class ApiKeyService(BaseService):
    """API keys of users."""

    async def all(self, user_id: UUID) -> list[ApiKey]:
        """The API keys of a user, newest first, void and expired ones included."""
        rows = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
        return list(await self.db.scalars(rows))

    async def create(
        self, user: BaseUser, name: str, *, scopes: list[str] | None = None, days: int | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key, and return its row and the key itself, which can't be read again.

        Args:
            user: The owner.
            name: The name that the owner gives the key.
            scopes: What the key may do; None is everything that its owner may do.
            days: How many days the key is valid; None means until it is revoked.

        Raises:
            UnprocessableException: When a scope is not in `API_KEYS_SCOPES`.
            TooManyApiKeysException: When the user has 50 keys.
        """
        known = self.settings.group(ApiKeysSettings).scopes
        if known and (unknown := set(scopes or ()) - set(known)):
            raise UnprocessableException(f"There is no scope {min(unknown)}. Use one of {', '.join(known)}.")
        count = select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user.id)
        if (await self.db.scalar(count) or 0) >= MAX_KEYS:
            raise TooManyApiKeysException
        key = new_key()
        row = ApiKey(
            user_id=user.id,
            security_version=user.security_version,
            name=name,
            prefix=key[:_PREFIX],
            key_hash=_hash(key),
            scopes=scopes,
            expires_at=None if days is None else now() + timedelta(days=days),
        )
        await self.save(row)
        self.emit(ApiKeyCreated(user_id=user.id, api_key_id=row.id))
        return row, key

    async def revoke(self, user_id: UUID, api_key_id: UUID) -> None:
        """Revoke a user's API key.

        Raises:
            NotFoundException: When the user has no such key.
        """
        mine = delete(ApiKey).where(ApiKey.id == api_key_id, ApiKey.user_id == user_id).returning(ApiKey.id)
        if await self.db.scalar(mine) is None:
            raise NotFoundException
        self.emit(ApiKeyRevoked(user_id=user_id, api_key_id=api_key_id))

    async def use(self, key: str) -> ApiKey:
        """The row of a key that a request sent. Records its use, at most once a minute.

        Raises:
            InvalidApiKeyException: When the key is invalid, expired or void.
        """
        at = now()
        unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > at)
        found = select(ApiKey).where(ApiKey.key_hash == _hash(key), unexpired, self._has_owner())
        row = await self.db.scalar(found) if is_well_formed(key) else None
        if row is None:
            raise InvalidApiKeyException
        if row.last_used_at is None or row.last_used_at < at - LAST_USED_PRECISION:
            await self.db.commit()  # In a read transaction, SQLite refuses to write after others have written.
            await self.db.execute(update(ApiKey).where(ApiKey.id == row.id).values(last_used_at=at))
        return row

    def _has_owner(self) -> ColumnElement[bool]:
        """Whether the owner's account is open, and its security version is still the one from the key's creation."""
        user = self.user_model
        return exists().where(user.id == ApiKey.user_id, user.security_version == ApiKey.security_version, user.is_open)


def new_key() -> str:
    """A new key: 160 random bits, and a checksum by which secret scanners recognise a key."""
    body = secrets.token_hex(20)
    return f"ak_{body}{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    """Whether length and checksum are right, checked without the database."""
    body, checksum = key[3:-8], key[-8:]
    return len(key) == _LENGTH and compare_digest(_checksum(body).encode(), checksum.encode())


def _checksum(body: str) -> str:
    return f"{crc32(body.encode()):08x}"


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def now() -> datetime:
    """Current time, UTC-aware."""
    return datetime.now(UTC)

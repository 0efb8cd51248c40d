"""ApiKeyService: create, verify and revoke API keys. Also their table, errors, events and settings."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Final
from uuid import UUID
from zlib import crc32

from pydantic import Field
from sqlalchemy import ColumnElement, ForeignKey, String, exists, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AppContext, BaseService, BaseTableModel, BaseUser, Event, Repository, SettingsGroup
from appkit.exceptions import ConflictException, NotFoundException, UnauthorizedException, UnprocessableException

MAX_KEYS: Final = 50  # For each user.
LAST_USED_PRECISION: Final = timedelta(minutes=1)  # A write for each request would be too slow.
_WRITES: Final = "appkit-api-key-use"
_PREFIX: Final = 11
_LENGTH: Final = 51  # "ak_", 40 hexadecimal digits, and a checksum of 8.

_logger: Final = logging.getLogger(__name__)

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
    """The scopes that a key may have, as in `["posts:read"]`. If unset, a key may have any scope."""


class ApiKey(BaseTableModel):
    """An API key. A program uses it to act as the key's owner. Revoking the key deletes the row."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    security_version: Mapped[int]
    """The owner's security version when the key was created. When the version rises, the key is void."""
    name: Mapped[str] = mapped_column(String(100))
    """The name that the owner gave the key."""
    prefix: Mapped[str] = mapped_column(String(_PREFIX))
    """The first characters of the key. The owner recognises the key by them."""
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 in hexadecimal. No salt is needed, because a key has 160 random bits. The key itself is not stored."""
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

    async def all(self, user_id: UUID) -> Sequence[ApiKey]:
        """The API keys of a user, newest first. They include void and expired keys."""
        return await Repository[ApiKey](self.db).list(ApiKey.user_id == user_id, order=[ApiKey.id.desc()])

    async def create(
        self, user: BaseUser, name: str, *, scopes: list[str] | None = None, days: int | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key, and return its row and the key itself, which can't be read again.

        Without `scopes`, the key may do everything that its owner may do. Without `days`, it never expires.

        Raises:
            UnprocessableException: When a scope is not in `API_KEYS_SCOPES`.
            TooManyApiKeysException: When the user has 50 keys.
        """
        known = self.settings.group(ApiKeysSettings).scopes
        if known and (unknown := set(scopes or ()) - set(known)):
            raise UnprocessableException(f"There is no scope {min(unknown)}. Use one of {', '.join(known)}.")
        if await Repository[ApiKey](self.db).count(ApiKey.user_id == user.id) >= MAX_KEYS:
            raise TooManyApiKeysException
        key = new_key()
        row = ApiKey(
            user_id=user.id,
            security_version=user.security_version,
            name=name,
            prefix=key[:_PREFIX],
            key_hash=_hash(key),
            scopes=scopes,
            expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
        )
        await self.save(row)
        self.emit(ApiKeyCreated(user_id=user.id, api_key_id=row.id))
        return row, key

    async def revoke(self, user_id: UUID, api_key_id: UUID) -> None:
        """Revoke a user's API key.

        Raises:
            NotFoundException: When the user has no such key.
        """
        if not await Repository[ApiKey](self.db).delete_where(ApiKey.id == api_key_id, ApiKey.user_id == user_id):
            raise NotFoundException
        self.emit(ApiKeyRevoked(user_id=user_id, api_key_id=api_key_id))

    async def use(self, key: str) -> ApiKey:
        """The row of a key that a request sent.

        Raises:
            InvalidApiKeyException: When the key is invalid, expired or void.
        """
        unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > datetime.now(UTC))
        found = select(ApiKey).where(ApiKey.key_hash == _hash(key), unexpired, self._has_owner())
        row = await self.db.scalar(found) if is_well_formed(key) else None
        if row is None:
            raise InvalidApiKeyException
        return row

    def _has_owner(self) -> ColumnElement[bool]:
        """Whether the owner's account is open, and has the same security version as when the key was created."""
        user = self.user_model
        return exists().where(user.id == ApiKey.user_id, user.security_version == ApiKey.security_version, user.is_open)


def record_use(app: AppContext, key: ApiKey) -> None:
    """Update `last_used_at` if it is older than a minute. Of concurrent uses, one is written.

    The write is an asyncio task of its own, so the request neither waits for a writer nor fails.
    """
    now, seen = datetime.now(UTC), key.last_used_at

    async def write() -> bool:
        try:
            async with app.database.session() as db:
                await db.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=now))
        except Exception:
            _logger.warning("Could not record the last use of an API key. Trying again in a minute.", exc_info=True)
        return True

    if seen is None or seen < now - LAST_USED_PRECISION:
        # A request that has read the row before the write has the same `seen`, and finds the value in the cache.
        once = app.cache.get_or_set(f"{_WRITES}:{key.id}:{seen}", write, bool, ttl=60)
        writes = app.resources.setdefault(ApiKey, set())  # The app waits for these tasks before it stops.
        writes.add(task := asyncio.create_task(once, name=_WRITES))
        task.add_done_callback(writes.discard)


def new_key() -> str:
    """A new key: 160 random bits, and a checksum that lets secret scanners recognise a key."""
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

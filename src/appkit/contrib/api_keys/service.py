"""ApiKeyService: making keys, recognising them, and making them void."""

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

MOST: Final = 50
"""How many keys somebody may have."""
SEEN: Final = timedelta(minutes=1)
"""How exactly it is known when a key was last used: a write for each request would cost more than it tells."""
_SHOWN: Final = 11

Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")]  # RFC 6749, 3.3


class InvalidApiKeyException(UnauthorizedException):
    """A program's key is unknown, revoked, past its time, or its owner's account is closed or has a new password."""

    internal_code = 40175
    detail = "This key is not valid, or no longer."


class TooManyApiKeysException(ConflictException):
    """Someone has as many keys as anybody may have."""

    internal_code = 40975
    detail = f"You have {MOST} keys. Revoke one that you don't need."


class ApiKeysSettings(SettingsGroup):
    """Keys for programs."""

    scopes: tuple[Scope, ...] = ()
    """What a key may be made for, as in `["posts:read"]`; unless set, anything."""


class ApiKey(BaseTableModel):
    """A key that a program speaks for its owner with. The row goes when it is revoked."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    security_version: Mapped[int]
    """The owner's when it was made: what ends their sessions makes their keys void, too."""
    name: Mapped[str] = mapped_column(String(100))
    """What its owner calls it."""
    prefix: Mapped[str] = mapped_column(String(_SHOWN))
    """How it begins, to tell it from others."""
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 in hexadecimal, which is enough for 160 random bits; the key itself is shown once and never kept."""
    scopes: Mapped[list[str] | None]
    """What it is good for; None is everything that its owner may do."""
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ApiKeyCreated(Event):
    """Someone made a key."""

    user_id: UUID
    api_key_id: UUID


class ApiKeyRevoked(Event):
    """Someone revoked a key of theirs."""

    user_id: UUID
    api_key_id: UUID


class ApiKeyService(BaseService):
    """Somebody's keys."""

    async def all(self, user_id: UUID) -> list[ApiKey]:
        """Somebody's keys, the youngest first; those that are void are among them, so that they see why."""
        rows = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc())
        return list(await self.db.scalars(rows))

    async def create(
        self, user: BaseUser, name: str, *, scopes: list[str] | None = None, days: int | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key, and return it beside its row: nobody can read it again.

        Args:
            user: Whose it is.
            name: What they call it.
            scopes: What it is good for; None is everything that they may do.
            days: How long it is good; None is until they revoke it.

        Raises:
            UnprocessableException: When a scope is none of `API_KEYS_SCOPES`.
            TooManyApiKeysException: When they have 50.
        """
        known = self.settings.group(ApiKeysSettings).scopes
        if known and (unknown := set(scopes or ()) - set(known)):
            raise UnprocessableException(f"There is no scope {min(unknown)}. There are {', '.join(known)}.")
        count = select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user.id)
        if (await self.db.scalar(count) or 0) >= MOST:
            raise TooManyApiKeysException
        key = new_key()
        row = ApiKey(
            user_id=user.id,
            security_version=user.security_version,
            name=name,
            prefix=key[:_SHOWN],
            key_hash=_hash(key),
            scopes=scopes,
            expires_at=None if days is None else now() + timedelta(days=days),
        )
        await self.save(row)
        self.emit(ApiKeyCreated(user_id=user.id, api_key_id=row.id))
        return row, key

    async def revoke(self, user_id: UUID, api_key_id: UUID) -> None:
        """Make somebody's key void.

        Raises:
            NotFoundException: When they have no such key.
        """
        mine = delete(ApiKey).where(ApiKey.id == api_key_id, ApiKey.user_id == user_id).returning(ApiKey.id)
        if await self.db.scalar(mine) is None:
            raise NotFoundException
        self.emit(ApiKeyRevoked(user_id=user_id, api_key_id=api_key_id))

    async def use(self, key: str) -> ApiKey:
        """The row of a key that a program sent; that it was used is written down, once a minute.

        Raises:
            InvalidApiKeyException: When it is not valid.
        """
        at = now()
        live = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > at)
        found = select(ApiKey).where(ApiKey.key_hash == _hash(key), live, self._has_owner())
        row = await self.db.scalar(found) if is_well_formed(key) else None
        if row is None:
            raise InvalidApiKeyException
        if row.last_used_at is None or row.last_used_at < at - SEEN:
            await self.db.commit()  # On SQLite, a reader that writes after others did would be refused.
            await self.db.execute(update(ApiKey).where(ApiKey.id == row.id).values(last_used_at=at))
        return row

    def _has_owner(self) -> ColumnElement[bool]:
        """Whether the owner's account is open, and nothing made its sessions void since the key was made."""
        user = self.user_model
        return exists().where(user.id == ApiKey.user_id, user.security_version == ApiKey.security_version, user.is_open)


def new_key() -> str:
    """160 random bits, and a checksum by which a scanner for leaked secrets tells a key from other words."""
    body = secrets.token_hex(20)
    return f"ak_{body}{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    """Whether it may be a key at all, which is known without the database."""
    body, checksum = key[3:-8], key[-8:]
    return len(key) == 51 and compare_digest(_checksum(body).encode(), checksum.encode())  # noqa: PLR2004 - 3 + 40 + 8


def _checksum(body: str) -> str:
    return f"{crc32(body.encode()):08x}"


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def now() -> datetime:
    """The present."""
    return datetime.now(UTC)

"""Rows behind signing in: sessions, and one-time tokens. Apart from BaseUser, for they need its table."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from appkit.repository.base import BaseTableModel


class AuthSession(BaseTableModel):
    """One sign-in on one device, for as long as its refresh tokens are good.

    There is no secret in it: a refresh token is signed, and only its number is kept.
    """

    __table_args__ = (Index(None, "user_id", "revoked_at"), Index(None, "expires_at"))

    # Random, for it is public, and says nothing about when somebody signed in.
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4, sort_order=-1)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    security_version: Mapped[int]
    """The user's, at the time; a session with an older one is over."""
    refresh_seq: Mapped[int] = mapped_column(default=0)
    """The number of the refresh token that is good now."""
    rotated_at: Mapped[datetime | None]
    authenticated_at: Mapped[datetime]
    """When they last proved who they are, for what asks for a recent proof."""
    amr: Mapped[list[str]] = mapped_column(default=list)
    """How they proved it (RFC 8176)."""
    last_seen_at: Mapped[datetime | None]
    """Written when tokens are refreshed."""
    idle_expires_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    remember: Mapped[bool] = mapped_column(default=False)
    kind: Mapped[Literal["browser", "bearer"]] = mapped_column(default="browser")
    ip: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(String(256))
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str | None] = mapped_column(String(64))


class AuthToken(BaseTableModel):
    """A link or code that works once: to verify an address, to set a password, and the like."""

    __table_args__ = (Index(None, "user_id", "purpose"), Index(None, "expires_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4, sort_order=-1)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    purpose: Mapped[str] = mapped_column(String(32))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 in hexadecimal; the token itself is never kept."""
    email: Mapped[str | None] = mapped_column(String(320))
    """The address it was sent to, or, for a change of address, the one it will become."""
    security_version: Mapped[int]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What whoever made it wants to know when it is used."""
    attempts: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime]
    consumed_at: Mapped[datetime | None]

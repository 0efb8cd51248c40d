"""Tables of sign-in sessions and one-time tokens. They aren't in `user.py`, because they reference the user table."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from appkit.repository.base import BaseTableModel


class AuthSession(BaseTableModel):
    """A sign-in session: one sign-in on one device, until its refresh tokens expire.

    It holds no secret: refresh tokens are signed, and only their number is stored.
    """

    __table_args__ = (Index(None, "user_id", "revoked_at"), Index(None, "expires_at"))

    # Random, because it is public and must not reveal the time of the sign-in.
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4, sort_order=-1)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    security_version: Mapped[int]
    """The user's security version at the sign-in. If the user has a newer one, the session has ended."""
    refresh_seq: Mapped[int] = mapped_column(default=0)
    """The number of the refresh token that is valid now."""
    rotated_at: Mapped[datetime | None]
    authenticated_at: Mapped[datetime]
    """When the user last authenticated, for actions that require a recent authentication."""
    amr: Mapped[list[str]] = mapped_column(default=list)
    """How the user authenticated (RFC 8176)."""
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
    """A link or code that works once, such as a link to verify an e-mail address or to reset a password."""

    __table_args__ = (Index(None, "user_id", "purpose"), Index(None, "expires_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4, sort_order=-1)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    purpose: Mapped[str] = mapped_column(String(32))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 in hexadecimal; the token itself is never stored."""
    email: Mapped[str | None] = mapped_column(String(320))
    """The e-mail address that the token was sent to. For a change of e-mail address, this is the new one."""
    security_version: Mapped[int]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Data that the code which made the token needs when the token is used."""
    attempts: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime]
    consumed_at: Mapped[datetime | None]

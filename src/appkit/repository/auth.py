"""Tables of sign-in sessions and one-time tokens."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from appkit.repository.base import BaseTableModel


class AuthSession(BaseTableModel):
    """A sign-in session: one sign-in on one device.

    The row has no secret. Refresh tokens are signed, and only the number of the latest one is stored.
    """

    __table_args__ = (Index(None, "user_id", "revoked_at"), Index(None, "expires_at"))

    # A random id, because the id is public and must not reveal the time of the sign-in.
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4, sort_order=-1)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    security_version: Mapped[int]
    """The user's security version at the sign-in. A newer version in the user's row ends the session."""
    refresh_seq: Mapped[int] = mapped_column(default=0)
    """The number of the latest refresh token."""
    rotated_at: Mapped[datetime | None]
    authenticated_at: Mapped[datetime]
    """When the user last authenticated, for actions that require a recent authentication."""
    amr: Mapped[list[str]] = mapped_column(default=list)
    """How the user authenticated (RFC 8176)."""
    last_seen_at: Mapped[datetime | None]
    """Updated when tokens are refreshed."""
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
    """SHA-256 in hexadecimal. The token itself is never stored."""
    email: Mapped[str | None] = mapped_column(String(320))
    """The e-mail address that the token was sent to. To change an e-mail address, this is the new e-mail address."""
    security_version: Mapped[int]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Data of the code that issued the token. The code gets the data back when the token is used."""
    attempts: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime]
    consumed_at: Mapped[datetime | None]

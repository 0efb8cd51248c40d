"""Which accounts elsewhere belong to whom, and what is under way."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseTableModel


class OAuthAccount(BaseTableModel):
    """An account elsewhere that somebody signs in with.

    It is known by what never changes, the provider's own number for it, and never by an address, which
    somebody else may have next year (OWASP ASVS 6.8.1).
    """

    __tablename__ = "oauth_account"
    __table_args__ = (UniqueConstraint("provider", "subject"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(255))  # OpenID Connect Core, 2: at most 255 characters.
    email: Mapped[str | None] = mapped_column(String(320))
    """The address there, when it was linked; to show which account it is."""


class OAuthFlow(BaseTableModel):
    """Somebody who went to a provider and has yet to come back. The row goes when they do."""

    __tablename__ = "oauth_flow"

    state_hash: Mapped[str] = mapped_column(String(64), unique=True)
    browser_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 of what the cookie holds: nobody else's browser may come back instead."""
    provider: Mapped[str] = mapped_column(String(50))
    nonce: Mapped[str | None] = mapped_column(String(64))
    code_verifier: Mapped[str] = mapped_column(String(128))
    next: Mapped[str] = mapped_column(String(500))
    """Where they want to go then, on our own pages."""
    remember: Mapped[bool]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    """Who links an account; None where somebody signs in."""
    expires_at: Mapped[datetime] = mapped_column(index=True)

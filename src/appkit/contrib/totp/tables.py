"""What is kept of somebody's authenticator app, and of the codes for when it is lost."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseTableModel, EncryptedString


class Totp(BaseTableModel):
    """Somebody's authenticator app."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), unique=True)
    secret: Mapped[str] = mapped_column(EncryptedString)
    confirmed_at: Mapped[datetime | None]
    """When they showed that the app works; until then it is never asked for."""
    last_step: Mapped[int] = mapped_column(default=0)
    """The 30 seconds of the latest code that was accepted: no code of then or before is good again."""


class RecoveryCode(BaseTableModel):
    """A code that is good once, in place of one from the app. Its row goes when it is used."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 in hexadecimal; the code itself is shown once and never kept."""

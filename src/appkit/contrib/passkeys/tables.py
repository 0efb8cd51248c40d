"""What is kept of passkeys: public keys, of which nobody can make a private one."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseTableModel


class Passkey(BaseTableModel):
    """A passkey of somebody's, on a device, in a password manager or on a security key."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1023), unique=True)  # WebAuthn, 4: at most 1023 bytes.
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int]
    """How often it signed, as it says itself; one that is synchronised always says 0."""
    name: Mapped[str] = mapped_column(String(100))
    """What its owner calls it."""
    transports: Mapped[list[str]] = mapped_column(default=list)
    """How the browser reaches it, which helps it to ask for the right one."""
    last_used_at: Mapped[datetime | None]


class PasskeyChallenge(BaseTableModel):
    """What an authenticator is asked to sign, once. The row goes when it has."""

    challenge: Mapped[bytes] = mapped_column(LargeBinary(64), unique=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    """Who adds a passkey; None where somebody signs in, for who it is shows only then."""
    expires_at: Mapped[datetime] = mapped_column(index=True)

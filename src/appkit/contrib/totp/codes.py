"""TOTP codes (RFC 6238) and recovery codes: how they are generated, shown and verified."""

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Final

from pydantic import Field

from appkit import Schema
from appkit.contrib import required_by

with required_by("totp"):
    import pyotp
    import segno

STEP: Final = 30
"""Seconds for which an app shows one code."""
DIGITS: Final = 6

# No letters that look like another letter or a digit.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS: Final = 4
_GROUP: Final = 6  # 24 characters are 118 bits: unguessable, so an unsalted hash is enough (OWASP ASVS 6.5.2).


class SetupSchema(Schema):
    """What an authenticator app needs. The user scans the QR code, or types the secret."""

    secret: str = Field(repr=False)
    url: str = Field(repr=False)
    """A link that opens the app on a phone."""
    qr: str = Field(repr=False)
    """The URL as a QR code, for the `src` of an `<img>`."""


def new_setup(*, account: str, issuer: str) -> SetupSchema:
    """A secret of 160 bits (RFC 4226, 4). The app shows the names of the account and the issuer."""
    secret = pyotp.random_base32()
    url = pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)
    return SetupSchema(secret=secret, url=url, qr=segno.make_qr(url).svg_data_uri(scale=4))


def accepted_step(secret: str, code: str, at: datetime, *, tolerance: int) -> int | None:
    """The time step (of 30 seconds) that a code belongs to; None when the code is wrong or expired.

    `tolerance` is how many earlier codes are accepted too.
    """
    totp, step = pyotp.TOTP(secret), int(at.timestamp()) // STEP
    for accepted in range(step, step - tolerance - 1, -1):
        if secrets.compare_digest(totp.generate_otp(accepted).encode(), code.encode()):
            return accepted
    return None


def now() -> datetime:
    """Current time, UTC-aware."""
    return datetime.now(UTC)


def new_recovery_code() -> str:
    """A single-use code to write down."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def recovery_hash(code: str) -> str:
    """SHA-256 of a recovery code. Spaces, dashes and capitals are ignored."""
    letters = "".join(character for character in code.lower() if character in _ALPHABET)
    return hashlib.sha256(letters.encode()).hexdigest()

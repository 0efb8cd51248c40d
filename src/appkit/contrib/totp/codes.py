"""TOTP codes (RFC 6238) and recovery codes: generated, shown and verified."""

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Final

from appkit.exceptions import AppKitError

try:
    import pyotp
    import segno
except ImportError as exc:
    raise AppKitError(
        "The plugin totp needs pyotp and segno, which are not installed. "
        "Install them: pip install 'fastapi-appkit[totp]'."
    ) from exc

STEP: Final = 30
"""Seconds for which an app shows one code."""
DIGITS: Final = 6

# No letters that look like another letter or a digit.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS: Final = 4
_GROUP: Final = 6  # 24 characters are 118 bits: unguessable, so an unsalted hash is enough (OWASP ASVS 6.5.2).


def now() -> datetime:
    """Current time, UTC-aware."""
    return datetime.now(UTC)


def new_secret() -> str:
    """A secret to share with an authenticator app: 160 bits in base32 (RFC 4226, 4)."""
    return pyotp.random_base32()


def otpauth_url(secret: str, *, account: str, issuer: str) -> str:
    """The URL that an authenticator app reads from the QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def qr_code(url: str) -> str:
    """The URL as a QR code, for the `src` of an `<img>`."""
    return segno.make_qr(url).svg_data_uri(scale=4)


def accepted_step(secret: str, code: str, at: datetime, *, tolerance: int) -> int | None:
    """The time step (of 30 seconds) that a code belongs to, or None when it is wrong or expired.

    Args:
        secret: A secret from `new_secret`.
        code: The code as typed.
        at: The current time.
        tolerance: How many earlier codes are accepted besides the current one.
    """
    totp, step = pyotp.TOTP(secret), int(at.timestamp()) // STEP
    for accepted in range(step, step - tolerance - 1, -1):
        if secrets.compare_digest(totp.generate_otp(accepted).encode(), code.encode()):
            return accepted
    return None


def new_recovery_code() -> str:
    """A single-use code to write down."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def recovery_hash(code: str) -> str:
    """SHA-256 of a recovery code. Spaces, dashes and capitals are ignored."""
    letters = "".join(character for character in code.lower() if character in _ALPHABET)
    return hashlib.sha256(letters.encode()).hexdigest()

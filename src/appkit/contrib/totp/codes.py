"""Codes: those of an authenticator app, which change every 30 seconds (RFC 6238), and those for who has lost it."""

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
"""Seconds that a code is shown."""
DIGITS: Final = 6

# No letter that could be taken for another one, nor for a digit.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS: Final = 4
_GROUP: Final = 6  # 24 characters are 118 bits: too many to guess, so that a plain hash will do (OWASP ASVS 6.5.2).


def now() -> datetime:
    """The present."""
    return datetime.now(UTC)


def new_secret() -> str:
    """What an authenticator app and we both know: 160 bits in base32 (RFC 4226, 4)."""
    return pyotp.random_base32()


def otpauth_url(secret: str, *, account: str, issuer: str) -> str:
    """What an authenticator app reads out of the QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def qr_code(url: str) -> str:
    """A picture of the URL, as the `src` of an `<img>`."""
    return segno.make_qr(url).svg_data_uri(scale=4)


def accepted_step(secret: str, code: str, at: datetime, *, tolerance: int) -> int | None:
    """The number of the 30 seconds that a code belongs to, or None when it is wrong or past.

    Args:
        secret: As `new_secret` made it.
        code: As it was typed.
        at: The present.
        tolerance: How many codes before the one that is shown are good too.
    """
    totp, step = pyotp.TOTP(secret), int(at.timestamp()) // STEP
    for accepted in range(step, step - tolerance - 1, -1):
        if secrets.compare_digest(totp.generate_otp(accepted).encode(), code.encode()):
            return accepted
    return None


def new_recovery_code() -> str:
    """A code to write down, good once."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def recovery_hash(code: str) -> str:
    """What is kept of a recovery code; however it was typed, spaces, dashes and capitals don't count."""
    letters = "".join(character for character in code.lower() if character in _ALPHABET)
    return hashlib.sha256(letters.encode()).hexdigest()

"""What a password must be, after NIST SP 800-63B-4 (3.1.1.2): long enough, and not among the first that are tried."""

from collections.abc import Collection
from functools import cache
from importlib.resources import files

MAX_LENGTH = 128
MAX_BYTES = 1024


def is_readable(password: str) -> bool:
    """Whether this can be anybody's password: not absurdly long, UTF-8 encodable, and without NUL."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:  # A lone surrogate, which JSON can spell and UTF-8 can't.
        return False
    return len(password) <= MAX_LENGTH and size <= MAX_BYTES and "\0" not in password


def complaints(password: str, *, min_length: int, forbidden: Collection[str] = ()) -> list[str]:
    """Why this password is not acceptable, in sentences for the person who chose it; empty when it is.

    Args:
        password: As it was typed: nothing is trimmed or normalised, and every character counts.
        min_length: Characters it needs.
        forbidden: What it must not be, whatever the case: the address, the app's name.
    """
    found = []
    if len(password) < min_length:
        found.append(f"Use at least {min_length} characters.")
    if len(password) > MAX_LENGTH:
        found.append(f"Use at most {MAX_LENGTH} characters.")
    elif not is_readable(password):
        found.append("Leave out characters that can't be sent as text.")
    if password.casefold() in {word.casefold() for word in forbidden}:
        found.append("Don't use your e-mail address or the app's name.")
    if password.lower() in common_passwords():
        found.append("Choose another: this password is among the first that are tried.")
    return found


@cache
def common_passwords() -> frozenset[str]:
    """The 5,000 commonest passwords of eight characters and more, in lower case (OWASP ASVS 6.2.4)."""
    text = files("appkit.domain").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))

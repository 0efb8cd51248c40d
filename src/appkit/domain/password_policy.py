"""The password policy: minimum length, and no common passwords (NIST SP 800-63B-4, 3.1.1.2)."""

from collections.abc import Collection
from functools import cache
from importlib.resources import files

MAX_LENGTH = 128
MAX_BYTES = 1024


def is_readable(password: str) -> bool:
    """Whether a password can be hashed: it is not too long, can be encoded as UTF-8, and contains no NUL."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:  # JSON can contain a lone surrogate, and UTF-8 can't.
        return False
    return len(password) <= MAX_LENGTH and size <= MAX_BYTES and "\0" not in password


def complaints(password: str, *, min_length: int, forbidden: Collection[str] = ()) -> list[str]:
    """The reasons why a password is refused, as sentences for the user. The password isn't trimmed or normalised.

    The password may not equal a `forbidden` word, such as the e-mail address or the app's name, in any letter case.
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
    """The 5,000 most common passwords of eight characters and more, in lower case (OWASP ASVS 6.2.4)."""
    text = files("appkit.domain").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))

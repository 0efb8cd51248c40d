"""Keys: one secret in the settings, and a key of its own for each purpose."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from appkit.exceptions import AppKitError


def derive(secret: bytes, purpose: str, *, length: int = 32) -> bytes:
    """A key for one purpose from a secret for all: HKDF-SHA256 (RFC 5869) of at most one block.

    Keys of different purposes tell nothing about each other, nor about the secret.
    """
    extracted = hmac.digest(b"appkit", secret, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")[:length]


@dataclass(frozen=True)
class Key:
    """What one of the settings' secrets signs with.

    Args:
        id: Four public bytes, by which a token names its key.
        access: Signs access tokens.
        refresh: Signs refresh tokens.
        device: Signs what a browser is known by.
    """

    id: bytes
    access: bytes = field(repr=False)
    refresh: bytes = field(repr=False)
    device: bytes = field(repr=False)


class KeyRing:
    """The keys of an app: the first signs, all verify, so that a secret can be replaced without signing people out.

    Raises:
        AppKitError: When there is no secret.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets:
            raise AppKitError("There is no secret to sign tokens with. Set AUTH_SECRET_KEYS.")
        keys = [
            Key(derive(s, "id", length=4), derive(s, "access"), derive(s, "refresh"), derive(s, "device"))
            for s in secrets
        ]
        self.current = keys[0]
        self._keys = {key.id: key for key in keys}

    def get(self, key_id: bytes) -> Key | None:
        """The key that a token names."""
        return self._keys.get(key_id)


def sign(key: bytes, payload: bytes) -> bytes:
    """The payload with its MAC (HMAC-SHA256) behind it."""
    return payload + hmac.digest(key, payload, hashlib.sha256)


def verify(key: bytes, signed: bytes) -> bool:
    """Whether a signed payload's MAC is right, in constant time."""
    payload = signed[:-32]
    return hmac.compare_digest(sign(key, payload), signed)

"""Keys that sign tokens and cookies. Each key has one purpose, and is derived from a secret in the settings."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from appkit.exceptions import AppKitError


def derive(secret: bytes, purpose: str, *, length: int = 32) -> bytes:
    """Derive the key for one purpose from a secret, with HKDF-SHA256 (RFC 5869). `length` is limited to 32 bytes.

    A key reveals nothing about the secret and the keys of other purposes.
    """
    extracted = hmac.digest(b"appkit", secret, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")[:length]


@dataclass(frozen=True)
class Key:
    """The signing keys of one secret in `AUTH_SECRET_KEYS`: for access tokens, refresh tokens and device cookies."""

    id: bytes
    """Four public bytes. Each token contains the id of its key."""
    access: bytes = field(repr=False)
    refresh: bytes = field(repr=False)
    device: bytes = field(repr=False)


class KeyRing:
    """An app's signing keys. The first key signs, and all keys verify, so users stay signed in after a new secret.

    Raises:
        AppKitError: When there is no secret.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets:
            raise AppKitError("Signing tokens needs a secret. Set AUTH_SECRET_KEYS.")
        keys = [
            Key(derive(s, "id", length=4), derive(s, "access"), derive(s, "refresh"), derive(s, "device"))
            for s in secrets
        ]
        self.current = keys[0]
        self._keys = {key.id: key for key in keys}

    def get(self, key_id: bytes) -> Key | None:
        """The key with this id, if there is one."""
        return self._keys.get(key_id)


def sign(key: bytes, payload: bytes) -> bytes:
    """Return the payload, followed by its MAC (HMAC-SHA256)."""
    return payload + hmac.digest(key, payload, hashlib.sha256)


def verify(key: bytes, signed: bytes) -> bool:
    """Whether the MAC of a signed payload is correct. The comparison takes constant time."""
    payload = signed[:-32]
    return hmac.compare_digest(sign(key, payload), signed)

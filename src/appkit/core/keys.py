"""Keys: derived from the secrets in the settings, one for each purpose, to sign tokens and cookies with."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from appkit.exceptions import AppKitError


def derive(secret: bytes, purpose: str, *, length: int = 32) -> bytes:
    """Derive the key for one purpose from a secret: HKDF-SHA256 (RFC 5869), one block at most.

    A key reveals nothing about the secret, nor about the keys of other purposes.
    """
    extracted = hmac.digest(b"appkit", secret, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")[:length]


@dataclass(frozen=True)
class Key:
    """The signing keys of one secret in `AUTH_SECRET_KEYS`.

    Args:
        id: Four public bytes, by which a token names the secret that signed it.
        access: Signs access tokens.
        refresh: Signs refresh tokens.
        device: Signs device cookies.
    """

    id: bytes
    access: bytes = field(repr=False)
    refresh: bytes = field(repr=False)
    device: bytes = field(repr=False)


class KeyRing:
    """An app's signing keys: the first signs, all verify. So a secret can be rotated without signing users out.

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
        """The key with the id that a token names."""
        return self._keys.get(key_id)


def sign(key: bytes, payload: bytes) -> bytes:
    """The payload, followed by its MAC (HMAC-SHA256)."""
    return payload + hmac.digest(key, payload, hashlib.sha256)


def verify(key: bytes, signed: bytes) -> bool:
    """Whether the MAC of a signed payload is right. The comparison takes constant time."""
    payload = signed[:-32]
    return hmac.compare_digest(sign(key, payload), signed)

"""Encryption of column values. The database and its backups don't reveal them. Needs the extra `crypto`."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence

from appkit.core.keys import derive
from appkit.exceptions import AppKitError


class Cipher:
    """Encrypts with a key of the first secret, and decrypts with a key of any secret in `AUTH_SECRET_KEYS`.

    The format is Fernet: AES-128-CBC and HMAC-SHA256.

    Raises:
        AppKitError: When there is no secret, or the package cryptography isn't installed.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        try:
            from cryptography.fernet import Fernet, InvalidToken, MultiFernet
        except ImportError as exc:
            raise AppKitError(
                "Encryption needs cryptography, which is not installed. "
                "Install it: pip install 'fastapi-appkit[crypto]'."
            ) from exc
        if not secrets:
            raise AppKitError("Encryption needs a secret. Set AUTH_SECRET_KEYS.")
        self._fernet = MultiFernet([Fernet(urlsafe_b64encode(derive(secret, "encryption"))) for secret in secrets])
        self._invalid = InvalidToken

    def encrypt(self, value: str) -> str:
        """Encrypt a value. Encrypting the same value again gives another result."""
        return self._fernet.encrypt(value.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """Decrypt a value.

        Raises:
            AppKitError: When none of the secrets encrypted the value, or the value was altered.
        """
        try:
            return self._fernet.decrypt(encrypted.encode()).decode()
        except self._invalid:
            raise AppKitError(
                "No secret in AUTH_SECRET_KEYS decrypts this value. Add the secret that encrypted the value."
            ) from None

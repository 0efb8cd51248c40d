"""Encryption of column values, so that a database and its backups don't reveal them (extra `crypto`)."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence

from appkit.core.keys import derive
from appkit.exceptions import AppKitError


class Cipher:
    """Encrypts with the first secret and decrypts with any of them (Fernet: AES-128-CBC and HMAC-SHA256).

    Args:
        secrets: The secrets in `AUTH_SECRET_KEYS`. The encryption keys are derived from them, for this purpose only.

    Raises:
        AppKitError: When there is no secret, or `cryptography` isn't installed.
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
        """Encrypt a value. The result differs each time, even for the same value."""
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
                "No secret in AUTH_SECRET_KEYS decrypts this value. Add the secret again that encrypted it."
            ) from None

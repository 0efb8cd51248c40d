"""Encryption of what a database, its backups and its logs must not tell (extra `crypto`)."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence

from appkit.core.keys import derive
from appkit.exceptions import AppKitError


class Cipher:
    """Encrypts with the first secret and decrypts with all (Fernet: AES-128-CBC and HMAC-SHA256).

    Args:
        secrets: As in `AUTH_SECRET_KEYS`; the keys are derived from them, and are good for nothing else.

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
            raise AppKitError("There is no secret to encrypt with. Set AUTH_SECRET_KEYS.")
        self._fernet = MultiFernet([Fernet(urlsafe_b64encode(derive(secret, "encryption"))) for secret in secrets])
        self._invalid = InvalidToken

    def encrypt(self, value: str) -> str:
        """The value, which only these secrets give back; another text each time."""
        return self._fernet.encrypt(value.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """The value again.

        Raises:
            AppKitError: When none of the secrets encrypted it, or somebody changed it.
        """
        try:
            return self._fernet.decrypt(encrypted.encode()).decode()
        except self._invalid:
            raise AppKitError(
                "No secret in AUTH_SECRET_KEYS decrypts this. Put the one back that it was encrypted with."
            ) from None

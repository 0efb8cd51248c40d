"""Secrets: the check whether a secret is strong enough, and the secret that is generated for development."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from appkit.exceptions import AppKitError

MIN_SECRET_BYTES = 32
"""The minimum for an HMAC-SHA256 key (RFC 7518, section 3.2)."""

# A random secret practically never contains one of these long words, or so few different characters.
_PLACEHOLDER_WORDS = ("change", "default", "example", "generate", "insecure", "password", "replace", "secret")
_MIN_DISTINCT = 8


def new_secret() -> str:
    """Generate a secret of 48 random bytes, as text."""
    return secrets.token_urlsafe(48)


def secret_problems(keys: Sequence[str]) -> list[str]:
    """The reasons why these secrets are too weak, as sentences. They name the variable, but never a value."""
    if not keys:
        return ['AUTH_SECRET_KEYS is missing. Set it to a JSON list with a secret from "appkit secret".']
    problems = []
    if any(len(key.encode()) < MIN_SECRET_BYTES for key in keys):
        problems.append(f"AUTH_SECRET_KEYS has a secret of fewer than {MIN_SECRET_BYTES} bytes.")
    if any(map(_is_placeholder, keys)):
        problems.append("AUTH_SECRET_KEYS has a placeholder instead of a random secret.")
    if len(set(keys)) < len(keys):
        problems.append("AUTH_SECRET_KEYS has the same secret twice.")
    return problems


def development_secret(directory: Path = Path(".appkit")) -> bytes:
    """Read the secret in `directory`. The first process generates the secret, and all others share it.

    Raises:
        AppKitError: When the secret can't be stored, or is too short.
    """
    path = directory / "secret"
    try:
        if not path.exists():
            _create(path)
        key = path.read_bytes().strip()
    except OSError as exc:
        raise AppKitError(
            f"The development secret can't be stored in {path} ({exc.strerror}). Set AUTH_SECRET_KEYS."
        ) from exc
    if len(key) < MIN_SECRET_BYTES:
        raise AppKitError(f"{path} has fewer than {MIN_SECRET_BYTES} bytes. Delete the file to generate a new secret.")
    return key


def _is_placeholder(key: str) -> bool:
    return len(set(key)) < _MIN_DISTINCT or any(word in key.lower() for word in _PLACEHOLDER_WORDS)


def _create(path: Path) -> None:
    """Write a secret to a temporary file, and hard-link this file to the path. No process can read half a secret.

    If another process has created the path before, its secret stays.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n")
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(new_secret())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()

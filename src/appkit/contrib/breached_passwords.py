"""Refuse passwords that are known from data breaches, by asking Have I Been Pwned.

Turn it on with `AppKit(plugins=[breached_passwords])`, and install `fastapi-appkit[breached-passwords]`.
"""

import hashlib
import logging
import ssl
from functools import cache

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from appkit import BaseService, Event, SettingsGroup, hookimpl
from appkit.exceptions import AppKitError

try:
    import httpx2
except ImportError as exc:
    raise AppKitError(
        "The plugin breached_passwords needs httpx2, which is not installed. "
        "Install it: pip install 'fastapi-appkit[breached-passwords]'."
    ) from exc

_PREFIX = 5  # Hexadecimal digits of the hash that are sent; several hundred known passwords share them.
_logger = logging.getLogger(__name__)


class BreachedPasswordsSettings(SettingsGroup):
    """Refusing passwords that are known from data breaches."""

    url: str = "https://api.pwnedpasswords.com/range/"
    """The API to ask: this one, or your own copy."""
    timeout: float = Field(default=1.0, gt=0)
    """Seconds to wait for the answer; after that, the password is accepted."""
    least: int = Field(default=1, ge=1)
    """How many times a password must have been seen in breaches to be refused."""


class BreachCheckFailed(Event):
    """The API could not be asked, so a password was accepted unchecked."""

    reason: str


class BreachService(BaseService):
    """Looks passwords up in the breach API."""

    async def is_breached(self, password: str) -> bool:
        """Whether a password is known from a breach. Without an answer in time: False, and a `BreachCheckFailed` event.

        Only the first five digits of the password's SHA-1 leave the app, and the answer is padded. Neither the API nor
        an eavesdropper learns the password or whether it is known.
        """
        own = self.settings.group(BreachedPasswordsSettings)
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        try:
            async with httpx2.AsyncClient(verify=_tls(), timeout=own.timeout) as client:
                answer = await client.get(f"{own.url}{digest[:_PREFIX]}", headers={"Add-Padding": "true"})
            return _count(answer.raise_for_status().text, digest[_PREFIX:]) >= own.least
        except (httpx2.HTTPError, ValueError) as exc:
            reason = type(exc).__name__
            _logger.warning("Breached-password check failed: %s. The password was accepted unchecked.", reason)
            self.emit(BreachCheckFailed(reason=reason))
            return False


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read `BREACHED_PASSWORDS_…`."""
    return {"breached_passwords": BreachedPasswordsSettings}


@hookimpl
async def check_password(password: str, db: AsyncSession) -> list[str]:
    """Refuse a password that is known from a breach."""
    if await BreachService(db).is_breached(password):
        return ["This password is known from a data breach. Choose another one, and change it wherever you use it."]
    return []


def _count(lines: str, suffix: str) -> int:
    """How many times the password was seen; padding lines say 0."""
    counts = dict(line.strip().split(":") for line in lines.splitlines() if line.strip())
    return int(counts.get(suffix, 0))


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # Cached, because it reads hundreds of certificates.

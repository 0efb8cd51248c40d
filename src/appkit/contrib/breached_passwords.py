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
from appkit.contrib import required_by

with required_by("breached_passwords"):
    import httpx2

_PREFIX = 5  # The number of hexadecimal digits that are sent. Several hundred breached passwords share these digits.
_logger = logging.getLogger(__name__)


class BreachedPasswordsSettings(SettingsGroup):
    """Refusing passwords that are known from data breaches."""

    url: str = "https://api.pwnedpasswords.com/range/"
    """The URL of the API. Set it to use your own copy of the API."""
    timeout: float = Field(default=1.0, gt=0)
    """Seconds to wait for the API. Without an answer, the password is accepted."""
    least: int = Field(default=1, ge=1)
    """How many times a password must have been seen in breaches to be refused."""


class BreachCheckFailed(Event):
    """The API gave no valid answer, so a password was accepted unchecked."""

    reason: str


class BreachService(BaseService):
    """Looks passwords up in the breach API."""

    async def is_breached(self, password: str) -> bool:
        """Whether a password is known from a breach. If the API fails, returns False and emits `BreachCheckFailed`.

        Only the first five digits of the password's SHA-1 are sent, and the response is padded. So neither the API nor
        an eavesdropper learns the password, or whether it is known.
        """
        own = self.settings.group(BreachedPasswordsSettings)
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        try:
            async with httpx2.AsyncClient(verify=_tls(), timeout=own.timeout) as client:
                answer = await client.get(f"{own.url}{digest[:_PREFIX]}", headers={"Add-Padding": "true"})
            lines = answer.raise_for_status().text.split()  # Each line is SUFFIX:COUNT. Padding has the count 0.
            return int(dict(line.split(":") for line in lines).get(digest[_PREFIX:], 0)) >= own.least
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


@cache  # Creating a context reads hundreds of certificates.
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()

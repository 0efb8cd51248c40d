"""Passwords that are known from breaches are refused, as Have I Been Pwned knows them.

Turn it on with `AppKit(plugins=[breached_passwords])`, and install `fastapi-appkit[breached-passwords]`.
"""

import hashlib
import logging
import ssl
from functools import cache

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from appkit import BaseService, BaseUser, Event, SettingsGroup, hookimpl
from appkit.exceptions import AppKitError

try:
    import httpx2
except ImportError as exc:
    raise AppKitError(
        "The plugin breached_passwords needs httpx2, which is not installed. "
        "Install it: pip install 'fastapi-appkit[breached-passwords]'."
    ) from exc

_PREFIX = 5  # Hexadecimal digits of the hash, which some hundreds of the known passwords share.
_logger = logging.getLogger(__name__)


class BreachedPasswordsSettings(SettingsGroup):
    """Passwords that are known from breaches."""

    url: str = "https://api.pwnedpasswords.com/range/"
    """Who is asked: this, or a copy of your own."""
    timeout: float = Field(default=1.0, gt=0)
    """Seconds to wait for the answer, after which the password is taken."""
    least: int = Field(default=1, ge=1)
    """How often a password must have been seen to be refused."""


class BreachCheckFailed(Event):
    """It could not be asked whether a password is known, so it was taken; this says nothing about the password."""

    reason: str


class BreachService(BaseService):
    """Asks which passwords are known."""

    async def is_breached(self, password: str) -> bool:
        """Whether a password is known. Where nobody answers in time, it is not, and an event says so.

        Only the first five digits of its SHA-1 leave the app, and the answer is padded, so that neither who answers
        nor who listens learns which password it was, or whether it is known.
        """
        own = self.settings.group(BreachedPasswordsSettings)
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        try:
            async with httpx2.AsyncClient(verify=_tls(), timeout=own.timeout) as client:
                answer = await client.get(f"{own.url}{digest[:_PREFIX]}", headers={"Add-Padding": "true"})
            return _count(answer.raise_for_status().text, digest[_PREFIX:]) >= own.least
        except (httpx2.HTTPError, ValueError) as exc:
            reason = type(exc).__name__
            _logger.warning("Known passwords could not be looked up: %s. This one was taken.", reason)
            self.emit(BreachCheckFailed(reason=reason))
            return False


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """`BREACHED_PASSWORDS_…`."""
    return {"breached_passwords": BreachedPasswordsSettings}


@hookimpl
async def check_password(password: str, user: BaseUser | None, db: AsyncSession) -> list[str]:  # noqa: ARG001 - any user
    """Refuse a password that is known."""
    if await BreachService(db).is_breached(password):
        return ["This password is known from a data breach. Choose another one, and change it wherever you use it."]
    return []


def _count(lines: str, suffix: str) -> int:
    """How often the password was seen; lines that pad the answer say 0."""
    counts = dict(line.strip().split(":") for line in lines.splitlines() if line.strip())
    return int(counts.get(suffix, 0))


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # Made once: it reads hundreds of certificates.

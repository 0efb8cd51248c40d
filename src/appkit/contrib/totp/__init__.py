"""A second factor: signing in asks for a code from an authenticator app, or for a recovery code.

Turn it on with `AppKit(plugins=[totp])`, and install `fastapi-appkit[totp]`.
"""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from appkit import BaseUser, Challenge, SettingsGroup, hookimpl
from appkit.contrib.totp.routes import router
from appkit.contrib.totp.service import TotpService, TotpSettings


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """`TOTP_…`."""
    return {"totp": TotpSettings}


@hookimpl
def register_routers() -> list[APIRouter]:
    """The routes under `/auth/mfa`."""
    return [router]


@hookimpl
async def before_signin(user: BaseUser, methods: Sequence[str], db: AsyncSession) -> Challenge | None:
    """Ask for a code, unless the person proved already in two ways who they are, as with a passkey."""
    if "mfa" in methods or not await TotpService(db).is_enabled(user.id):
        return None
    return Challenge(["totp", "recovery_code"])

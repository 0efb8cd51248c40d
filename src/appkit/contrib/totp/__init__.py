"""Two-factor authentication: signing in needs a code from an authenticator app, or a recovery code.

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
    """Read `TOTP_…`."""
    return {"totp": TotpSettings}


@hookimpl
def register_routers() -> list[APIRouter]:
    """Serve `/auth/mfa`."""
    return [router]


@hookimpl
async def before_signin(user: BaseUser, methods: Sequence[str], db: AsyncSession) -> Challenge | None:
    """Require a code, unless the sign-in already has two factors. A passkey counts as two factors."""
    if "mfa" in methods or not await TotpService(db).is_enabled(user.id):
        return None
    return Challenge(["totp", "recovery_code"])

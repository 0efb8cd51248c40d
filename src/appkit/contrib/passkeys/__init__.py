"""Sign in with passkeys (WebAuthn): a fingerprint, a face or a PIN instead of a password.

Turn it on with `AppKit(plugins=[passkeys])`, and install `fastapi-appkit[passkeys]`.
"""

from fastapi import APIRouter

from appkit import AppKitError, Settings, SettingsGroup, hookimpl
from appkit.contrib.passkeys.routes import router
from appkit.contrib.passkeys.service import PasskeysSettings


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read `PASSKEYS_…`."""
    return {"passkeys": PasskeysSettings}


@hookimpl
def register_routers(settings: Settings) -> list[APIRouter]:
    """Serve `/auth/passkeys`.

    Raises:
        AppKitError: When `FRONTEND_URL` is missing in production.
    """
    if settings.production and settings.frontend.url is None:
        raise AppKitError("The plugin passkeys needs FRONTEND_URL in production. Set it: passkeys belong to its host.")
    return [router]

"""Signing in with a passkey: a finger, a face or a PIN, and no password that anybody could steal.

Turn it on with `AppKit(plugins=[passkeys])`, and install `fastapi-appkit[passkeys]`.
"""

from fastapi import APIRouter

from appkit import AppKitError, Settings, SettingsGroup, hookimpl
from appkit.contrib.passkeys.routes import router
from appkit.contrib.passkeys.service import PasskeysSettings


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """`PASSKEYS_…`."""
    return {"passkeys": PasskeysSettings}


@hookimpl
def register_routers(settings: Settings) -> list[APIRouter]:
    """The routes under `/auth/passkeys`.

    Raises:
        AppKitError: When nothing says which pages may use them.
    """
    if settings.production and settings.frontend.url is None:
        raise AppKitError("The plugin passkeys needs FRONTEND_URL in production: passkeys belong to its host.")
    return [router]

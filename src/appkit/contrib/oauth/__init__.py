"""Signing in with an account elsewhere: Google, GitHub, or whoever speaks OpenID Connect.

Turn it on with `AppKit(plugins=[oauth])`, and install `fastapi-appkit[oauth]`. `OAUTH_PROVIDERS` says which.
"""

from fastapi import APIRouter

from appkit import AppKitError, Settings, SettingsGroup, hookimpl
from appkit.contrib.oauth.providers import OAuthSettings, Providers
from appkit.contrib.oauth.routes import router


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """`OAUTH_…`."""
    return {"oauth": OAuthSettings}


@hookimpl
def register_routers(settings: Settings) -> list[APIRouter]:
    """The routes under `/auth/oauth`.

    Raises:
        AppKitError: When providers would not find the way back, or we not to them.
    """
    if settings.production and settings.frontend.url is None:
        raise AppKitError("The plugin oauth needs FRONTEND_URL in production: providers send people back there.")
    Providers(settings.group(OAuthSettings))
    return [router]

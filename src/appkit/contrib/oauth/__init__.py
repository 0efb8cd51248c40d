"""Sign in with Google, GitHub or another OpenID Connect provider.

Turn it on with `AppKit(plugins=[oauth])`, install `fastapi-appkit[oauth]`, and set `OAUTH_PROVIDERS`.
"""

from fastapi import APIRouter

from appkit import AppKitError, Settings, SettingsGroup, hookimpl
from appkit.contrib.oauth.providers import OAuthSettings, Providers
from appkit.contrib.oauth.routes import router


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read `OAUTH_…`."""
    return {"oauth": OAuthSettings}


@hookimpl
def register_routers(settings: Settings) -> list[APIRouter]:
    """Serve `/auth/oauth`.

    Raises:
        AppKitError: When `FRONTEND_URL` is missing in production, or a provider has no issuer.
    """
    if settings.production and settings.frontend.url is None:
        raise AppKitError("The plugin oauth needs FRONTEND_URL in production. Set it: providers redirect to it.")
    Providers(settings.group(OAuthSettings))
    return [router]

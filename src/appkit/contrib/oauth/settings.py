"""Settings of the plugin: `OAUTH_…`."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from appkit import SettingsGroup


class ProviderSettings(SettingsGroup):
    """An app of ours, as a provider knows it."""

    client_id: str
    client_secret: SecretStr
    issuer: str = ""
    """The provider's URL, under which it says all else (OpenID Connect Discovery). Google's and GitHub's are known;
    of a GitHub Enterprise Server it is the address."""
    scope: str = "openid email"

    @field_validator("issuer")
    @classmethod
    def _is_encrypted(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if issuer and parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1"}:
            raise ValueError("An issuer starts with https://, unless it is this machine's own")
        return issuer


class OAuthSettings(SettingsGroup):
    """Signing in with accounts elsewhere."""

    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    """JSON of the providers, by the names that they have in our URLs:
    `{"google": {"client_id": "…", "client_secret": "…"}}`."""
    signin_page: str = "/signin"
    """Where people land who were not signed in, with `#error=` or `#challenge=` behind it."""

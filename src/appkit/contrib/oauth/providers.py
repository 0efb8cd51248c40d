"""OAuth providers: their settings, the authorization request, and the identity that a provider returns."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from appkit import AppContext, SettingsGroup
from appkit.contrib import required_by
from appkit.exceptions import AppKitError, BadRequestException

with required_by("oauth"):
    from authlib.integrations.starlette_client import OAuthError, StarletteOAuth2App
    from httpx2 import HTTPError
    from joserfc.errors import JoseError

_logger = logging.getLogger(__name__)
_GITHUB: Final = "https://github.com"
_ISSUERS: Final = {"google": "https://accounts.google.com", "github": _GITHUB}
_FAILURES: Final = (OAuthError, HTTPError, JoseError, ValueError, KeyError, TypeError, RuntimeError)

# Only asymmetric algorithms prove that the provider signed. The app itself knows the client secret, the key of an HMAC.
_ALGORITHMS: Final = [f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)] + ["Ed25519"]


class ProviderSettings(SettingsGroup):
    """The app's registration at one provider."""

    client_id: str
    client_secret: SecretStr
    issuer: str = ""
    """The provider's URL, from which its metadata is read (OpenID Connect Discovery). Google and GitHub need no
    issuer. For GitHub Enterprise Server, set the server's URL."""
    scope: str = "openid email"

    @field_validator("issuer")
    @classmethod
    def _is_encrypted(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if issuer and parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1"}:
            raise ValueError("An issuer must start with https://, except on localhost and 127.0.0.1")
        return issuer


class OAuthSettings(SettingsGroup):
    """Signing in with OAuth providers."""

    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    """The providers as JSON, by their names in the app's URLs:
    `{"google": {"client_id": "…", "client_secret": "…"}}`."""
    signin_page: str = "/signin"
    """The page to redirect to when a sign-in fails (`#error=`) or needs a second factor (`#challenge=`)."""


class ProviderFailedException(BadRequestException):
    """The provider did not answer, refused the sign-in, or gave an answer that could not be verified."""

    internal_code = 40071
    detail = "The provider could not sign you in. Try again."


@dataclass(frozen=True)
class Authorization:
    """An authorization request: the URL to redirect to, and the values that the callback needs."""

    url: str
    state: str
    code_verifier: str
    nonce: str | None


@dataclass(frozen=True)
class Identity:
    """The person who signed in at a provider."""

    subject: str
    """The provider's id of the person. It never changes."""
    email: str | None
    email_verified: bool


class OpenIDProvider:
    """An OpenID Connect provider: the authorization code flow, with PKCE and a nonce.

    Raises:
        AppKitError: When the issuer is neither set nor known.
    """

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self.name = name
        self._settings = settings
        self._issuer = settings.issuer or _ISSUERS.get(name, "")
        if not self._issuer:
            raise AppKitError(f"OAUTH_PROVIDERS: the provider {name!r} needs an issuer, as in https://id.example.com.")
        self._app = self._connect()

    async def start(self, redirect_uri: str) -> Authorization:
        """Create an authorization request that returns to `redirect_uri`.

        Raises:
            ProviderFailedException: When the provider's metadata can't be fetched.
        """
        with self._log_failures():
            values = await self._app.create_authorization_url(redirect_uri)
        return Authorization(values["url"], values["state"], values["code_verifier"], values.get("nonce"))

    async def finish(self, code: str, redirect_uri: str, *, code_verifier: str, nonce: str | None) -> Identity:
        """Exchange the callback's code for the identity of the person who signed in.

        Raises:
            ProviderFailedException: When the code or the provider's answer is invalid.
        """
        with self._log_failures():
            token = await self._app.fetch_access_token(
                code=code, redirect_uri=redirect_uri, code_verifier=code_verifier
            )
            return await self._identify(token, nonce)

    def _connect(self) -> StarletteOAuth2App:
        return self._create(server_metadata_url=f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")

    def _create(self, *, scope: str | None = None, **endpoints: str) -> StarletteOAuth2App:
        return StarletteOAuth2App(
            None,
            self.name,
            client_id=self._settings.client_id,
            client_secret=self._settings.client_secret.get_secret_value(),
            client_kwargs={"scope": scope or self._settings.scope, "code_challenge_method": "S256", "timeout": 10},
            **endpoints,
        )

    async def _identify(self, token: dict[str, Any], nonce: str | None) -> Identity:
        metadata = await self._app.load_server_metadata()
        if metadata["issuer"] != self._issuer:  # OpenID Connect Discovery, 4.3.
            raise ValueError(f"The metadata names the issuer {metadata['issuer']!r} instead of {self._issuer!r}.")
        metadata["id_token_signing_alg_values_supported"] = _ALGORITHMS
        required = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
            "sub": {"essential": True},
        }
        claims = await self._app.parse_id_token(token, nonce, required)
        return Identity(str(claims["sub"]), claims.get("email"), claims.get("email_verified") is True)

    @contextmanager
    def _log_failures(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as exc:
            _logger.warning("OAuth provider %r failed: %r", self.name, exc)
            raise ProviderFailedException from exc


class GitHubProvider(OpenIDProvider):
    """GitHub. It issues no ID tokens, so the identity comes from its API."""

    def _connect(self) -> StarletteOAuth2App:
        return self._create(
            scope="user:email",
            authorize_url=f"{self._issuer}/login/oauth/authorize",
            access_token_url=f"{self._issuer}/login/oauth/access_token",
            api_base_url="https://api.github.com/" if self._issuer == _GITHUB else f"{self._issuer}/api/v3/",
        )

    async def _identify(self, token: dict[str, Any], nonce: str | None) -> Identity:  # noqa: ARG002 - only ID tokens have a nonce
        profile = (await self._app.get("user", token=token)).raise_for_status().json()
        emails = (await self._app.get("user/emails", token=token)).raise_for_status().json()
        primary: dict[str, Any] = next((each for each in emails if each["primary"]), {})
        return Identity(str(profile["id"]), primary.get("email"), primary.get("verified") is True)


class Providers(dict[str, OpenIDProvider]):
    """The providers of one app, by their names in the app's URLs.

    Raises:
        AppKitError: When the issuer of a provider is neither set nor known.
    """

    def __init__(self, settings: OAuthSettings) -> None:
        for name, provider in settings.providers.items():
            self[name] = (GitHubProvider if name == "github" else OpenIDProvider)(name, provider)

    @classmethod
    def of(cls, app: AppContext) -> "Providers":
        """The providers of this app, created on first use."""
        if cls not in app.resources:
            app.resources[cls] = cls(app.settings.group(OAuthSettings))
        providers: Providers = app.resources[cls]
        return providers

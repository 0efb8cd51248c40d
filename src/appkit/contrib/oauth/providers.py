"""Providers: where people have accounts, and what they say of somebody who signed in there."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from appkit import AppContext, SettingsGroup
from appkit.exceptions import AppKitError, BadRequestException, NotFoundException

try:
    from authlib.integrations.starlette_client import OAuthError, StarletteOAuth2App
    from httpx2 import HTTPError
    from joserfc.errors import JoseError
except ImportError as exc:
    raise AppKitError(
        "The plugin oauth needs authlib and httpx2, which are not installed. "
        "Install them: pip install 'fastapi-appkit[oauth]'."
    ) from exc

_logger = logging.getLogger(__name__)
_GITHUB: Final = "https://github.com"
_ISSUERS: Final = {"google": "https://accounts.google.com", "github": _GITHUB}
_FAILURES: Final = (OAuthError, HTTPError, JoseError, ValueError, KeyError, TypeError, RuntimeError)

# By keys that only the provider has: what nobody signed proves nothing, nor what we could have signed ourselves.
_ALGORITHMS: Final = [f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)] + ["Ed25519"]


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


class ProviderFailedException(BadRequestException):
    """The person or their provider said no, or the provider did not answer, or with something that proves nothing."""

    internal_code = 40071
    detail = "Signing in there did not work. Try again."


@dataclass(frozen=True)
class Authorization:
    """Where to send somebody, and what to remember until they are back."""

    url: str
    state: str
    code_verifier: str
    nonce: str | None


@dataclass(frozen=True)
class Identity:
    """Somebody, as a provider knows them."""

    subject: str
    """Its own number for them, which never changes."""
    email: str | None
    email_verified: bool


class OpenIDProvider:
    """One that speaks OpenID Connect: the authorization code flow, with PKCE and a nonce.

    Raises:
        AppKitError: When it isn't known where it is.
    """

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self.name = name
        self._settings = settings
        self._issuer = settings.issuer or _ISSUERS.get(name, "")
        if not self._issuer:
            raise AppKitError(f"OAUTH_PROVIDERS: the provider {name!r} needs its issuer, as in https://id.example.com.")
        self._app = self._connect()

    async def begin(self, redirect_uri: str) -> Authorization:
        """Where to send somebody.

        Raises:
            ProviderFailedException: When the provider doesn't say.
        """
        with self._failing():
            made = await self._app.create_authorization_url(redirect_uri)
        return Authorization(made["url"], made["state"], made["code_verifier"], made.get("nonce"))

    async def finish(self, code: str, redirect_uri: str, *, code_verifier: str, nonce: str | None) -> Identity:
        """Who came back with a code.

        Raises:
            ProviderFailedException: When the code is worth nothing, or what the provider says of them.
        """
        with self._failing():
            token = await self._app.fetch_access_token(
                code=code, redirect_uri=redirect_uri, code_verifier=code_verifier
            )
            return await self._identify(token, nonce)

    def _connect(self) -> StarletteOAuth2App:
        return self._create(server_metadata_url=f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")

    def _create(self, *, scope: str | None = None, **where: str) -> StarletteOAuth2App:
        return StarletteOAuth2App(
            None,
            self.name,
            client_id=self._settings.client_id,
            client_secret=self._settings.client_secret.get_secret_value(),
            client_kwargs={
                "scope": scope or self._settings.scope,
                "code_challenge_method": "S256",
                "timeout": 10,
            },
            **where,
        )

    async def _identify(self, token: dict[str, Any], nonce: str | None) -> Identity:
        metadata = await self._app.load_server_metadata()
        if metadata["issuer"] != self._issuer:  # OpenID Connect Discovery, 4.3.
            raise ValueError(f"It calls itself {metadata['issuer']!r}, and not {self._issuer!r}.")
        metadata["id_token_signing_alg_values_supported"] = _ALGORITHMS
        claims = await self._app.parse_id_token(
            token,
            nonce,
            {
                "iss": {"essential": True, "value": self._issuer},
                "aud": {"essential": True, "value": self._settings.client_id},
                "sub": {"essential": True},
            },
        )
        return Identity(str(claims["sub"]), claims.get("email"), claims.get("email_verified") is True)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as exc:
            _logger.warning("The OAuth provider %r failed: %r", self.name, exc)
            raise ProviderFailedException from exc


class GitHubProvider(OpenIDProvider):
    """GitHub, which knows OAuth but no ID tokens, so that it is asked who somebody is."""

    def _connect(self) -> StarletteOAuth2App:
        api = "https://api.github.com/" if self._issuer == _GITHUB else f"{self._issuer}/api/v3/"
        return self._create(
            scope="user:email",
            authorize_url=f"{self._issuer}/login/oauth/authorize",
            access_token_url=f"{self._issuer}/login/oauth/access_token",
            api_base_url=api,
        )

    async def _identify(self, token: dict[str, Any], nonce: str | None) -> Identity:  # noqa: ARG002 - it has none
        person = (await self._app.get("user", token=token)).raise_for_status().json()
        emails = (await self._app.get("user/emails", token=token)).raise_for_status().json()
        primary: dict[str, Any] = next((each for each in emails if each["primary"]), {})
        return Identity(str(person["id"]), primary.get("email"), primary.get("verified") is True)


class Providers:
    """The providers of one app, by the names that they have in our URLs.

    Raises:
        AppKitError: When it isn't known where one of them is.
    """

    def __init__(self, settings: OAuthSettings) -> None:
        self._all = {
            name: (GitHubProvider if name == "github" else OpenIDProvider)(name, provider)
            for name, provider in settings.providers.items()
        }

    @classmethod
    def of(cls, app: AppContext) -> "Providers":
        """The app's own, made when they are first needed."""
        if cls not in app.resources:
            app.resources[cls] = cls(app.settings.group(OAuthSettings))
        providers: Providers = app.resources[cls]
        return providers

    def names(self) -> list[str]:
        """What they are called."""
        return list(self._all)

    def get(self, name: str) -> OpenIDProvider:
        """The one with this name.

        Raises:
            NotFoundException: When there is none.
        """
        if name not in self._all:
            raise NotFoundException
        return self._all[name]

"""Principals and devices of requests, and the results of a sign-in: tokens or a challenge."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from appkit.repository.user import BaseUser

Kind = Literal["browser", "bearer"]
"""Whether a browser keeps the tokens of a sign-in session in cookies, or a program keeps them as bearer tokens."""


class Device(NamedTuple):
    """The origin of a sign-in, by which users recognise their sign-in sessions."""

    ip: str | None = None
    user_agent: str | None = None


UNKNOWN_DEVICE: Final = Device()


class Principal(BaseModel):
    """The user of a request. A plugin's `authenticate()` returns a `Principal(user_id=key.user_id, scopes=…)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: UUID
    scopes: frozenset[str] | None = None
    """The scopes of the credentials; None allows everything that the user may do."""
    methods: list[str] = []
    """How the user authenticated (RFC 8176): `pwd` for a password, and `mfa` after more than one factor."""
    authenticated_at: datetime | None = None
    """When the user last authenticated; None for an API key, which never counts as a recent proof."""
    expires_at: datetime | None = None

    @property
    def mfa(self) -> bool:
        """Whether the user authenticated with more than one factor."""
        return "mfa" in self.methods

    @property
    def claims(self) -> Mapping[str, Any]:
        """Other claims of the access token, including those of plugins."""
        return self.model_extra or {}


def _split(scopes: object) -> object:
    return frozenset(scopes.split()) if isinstance(scopes, str) else scopes


class SessionPrincipal(Principal):
    """The principal of an access token: a user who signed in, and their sign-in session."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", populate_by_name=True)

    user_id: UUID = Field(alias="sub", strict=False)
    session_id: UUID = Field(alias="sid", strict=False)
    security_version: int = Field(alias="sv")
    """Raised by every change that ends the user's sign-in sessions, such as a new password."""
    # A plugin's token_claims() may set the scopes, as one string with spaces (RFC 9068, 2.2.3).
    scopes: Annotated[frozenset[str] | None, BeforeValidator(_split)] = Field(default=None, alias="scope")
    methods: list[str] = Field(alias="amr")
    authenticated_at: datetime = Field(alias="auth_time", strict=False)
    expires_at: datetime = Field(alias="exp", strict=False)


@dataclass(frozen=True, kw_only=True)
class TokenPair:
    """The tokens of a sign-in session."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: datetime
    """When the access token expires."""
    max_age: int | None
    """For how many seconds a browser keeps the tokens; None means until the browser is closed."""


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A completed sign-in: the user and the tokens of their new sign-in session."""

    user: BaseUser
    kind: Kind
    tokens: TokenPair


@dataclass(frozen=True, kw_only=True)
class PendingSignIn:
    """A sign-in that needs another factor."""

    challenge: str = field(repr=False)
    """A token for `AuthService.complete`. The token works once."""
    factors: list[str]
    """The factors that can complete the sign-in, such as `totp`."""

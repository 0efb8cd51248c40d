"""Principals: who a request comes from, as far as its credentials say; and what people hold who signed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Principal(BaseModel):
    """Who a request comes from. A plugin's `authenticate()` makes one: `Principal(user_id=key.user_id, scopes=…)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: UUID
    scopes: frozenset[str] | None = None
    """What the credentials are good for; None is everything that the person may do."""
    methods: list[str] = []
    """How the person proved who they are (RFC 8176): `pwd` for a password, and `mfa` where it was more than one."""
    authenticated_at: datetime | None = None
    """When they last did; None for a program's key, which is never a recent proof."""
    expires_at: datetime | None = None

    @property
    def mfa(self) -> bool:
        """Whether the person proved who they are in more than one way."""
        return "mfa" in self.methods

    @property
    def claims(self) -> Mapping[str, Any]:
        """What else an access token says, plugins' claims among it."""
        return self.model_extra or {}


def _split(scopes: object) -> object:
    return frozenset(scopes.split()) if isinstance(scopes, str) else scopes


class SessionPrincipal(Principal):
    """Who an access token speaks for: somebody who signed in, and the session that this began."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", populate_by_name=True)

    user_id: UUID = Field(alias="sub", strict=False)
    session_id: UUID = Field(alias="sid", strict=False)
    security_version: int = Field(alias="sv")
    """Raised with every change that ends the user's sessions, such as a new password."""
    # One string with spaces (RFC 9068, 2.2.3), where a plugin's token_claims() says it.
    scopes: Annotated[frozenset[str] | None, BeforeValidator(_split)] = Field(default=None, alias="scope")
    methods: list[str] = Field(alias="amr")
    authenticated_at: datetime = Field(alias="auth_time", strict=False)
    expires_at: datetime = Field(alias="exp", strict=False)


@dataclass(frozen=True, kw_only=True)
class TokenPair:
    """What a person who signed in holds.

    Args:
        access: Sent with every request.
        refresh: Exchanged for the next pair, once.
        expires_at: When the access token does.
        max_age: Seconds that a browser keeps the pair; None means until it is closed.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: datetime
    max_age: int | None

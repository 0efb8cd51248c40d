"""The bodies of requests and responses of the passkey routes."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from appkit import Schema

Credential = Annotated[dict[str, Any], Field(description="`credential.toJSON()` of the browser's credential.")]


class NewPasskeySchema(Schema, extra="forbid"):
    """A new passkey."""

    name: str = Field(min_length=1, max_length=100)
    """A name by which the user recognises the passkey."""
    credential: Credential


class PasskeySigninSchema(Schema, extra="forbid"):
    """A passkey to sign in with."""

    credential: Credential
    remember: bool = False
    """Whether the user stays signed in after the browser is closed."""


class OptionsSchema(Schema):
    """Options to pass to `PublicKeyCredential.parseCreationOptionsFromJSON()` or `parseRequestOptionsFromJSON()`."""

    options: dict[str, Any]


class PasskeySchema(Schema):
    """One of your passkeys."""

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None

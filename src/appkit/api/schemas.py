"""Schemas: what comes in and goes out as JSON."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from appkit.domain.emails import parse_email
from appkit.domain.passwords import MAX_LENGTH, is_readable
from appkit.repository.auth import AuthSession
from appkit.service.principals import Principal


class Schema(BaseModel):
    """A body that is sent or received; one that is sent can be made from a row: `PostSchema.model_validate(post)`."""

    model_config = ConfigDict(from_attributes=True)


class InputSchema(Schema):
    """A body that is received: what it doesn't name is refused, so that nobody sets a column that wasn't offered."""

    model_config = ConfigDict(extra="forbid")


def _check_email(text: str) -> str:
    return parse_email(text).address


def _check_password(password: SecretStr) -> SecretStr:
    if not is_readable(password.get_secret_value()):
        raise ValueError(f"Use at most {MAX_LENGTH} characters, and none that can't be sent as text.")
    return password


Email = Annotated[str, AfterValidator(_check_email)]
"""An address, normalised."""

OneTimeToken = Annotated[SecretStr, AfterValidator(_check_password)]
"""A token out of a mail, which no repr and no log line shows."""

Password = Annotated[SecretStr, AfterValidator(_check_password)]
"""A password, which no repr and no log line shows."""


class SignupSchema(InputSchema):
    """Someone makes an account."""

    email: Email
    password: Password


class SigninSchema(SignupSchema):
    """Someone signs in."""

    remember: bool = False
    """Whether to stay signed in when the browser is closed."""


class UserSchema(Schema):
    """Somebody, as they see themselves."""

    id: UUID
    email: str
    is_superuser: bool
    email_verified: bool
    created_at: datetime


class ChallengeSchema(Schema):
    """What somebody whose password was right has to do besides, before they are signed in."""

    mfa_required: Literal[True] = True
    challenge: str
    """Sent back with the proof, within ten minutes."""
    factors: list[str]
    """What it may be, as in `totp`."""


class SignoutSchema(InputSchema):
    """Someone signs out, perhaps before they were signed in."""

    challenge: OneTimeToken | None = None
    """What signing in had answered, for somebody who gives it up."""


class UserQuery(InputSchema):
    """Which users to list."""

    q: Annotated[str | None, Field(max_length=320, description="What their address contains, whatever its case.")] = (
        None
    )
    active: Annotated[bool | None, Field(description="Only those who may sign in, or may not.")] = None
    superuser: Annotated[bool | None, Field(description="Only superusers, or the others.")] = None
    verified: Annotated[bool | None, Field(description="Only those whose address is verified, or isn't.")] = None
    cursor: Annotated[str | None, Field(description="The `next_cursor` of the page before; none for the first.")] = None
    size: Annotated[int, Field(ge=1, le=200, description="How many at the most.")] = 50


class UserAdminSchema(UserSchema):
    """Somebody, as superusers see them."""

    is_active: bool
    last_signin_at: datetime | None


class AccessSchema(Schema):
    """How long the access is good that was just refreshed."""

    expires_at: datetime


class SessionSchema(Schema):
    """A device that somebody is signed in on."""

    id: UUID
    current: bool
    """Whether it is the one that asks."""
    ip: str | None
    user_agent: str | None
    remember: bool
    created_at: datetime
    last_seen_at: datetime
    """When it last signed in or refreshed its tokens, which a device in use does every few minutes."""
    expires_at: datetime

    @classmethod
    def of(cls, session: AuthSession, principal: Principal) -> Self:
        """As its row has it, for whoever asks."""
        return cls(
            id=session.id,
            current=session.id == getattr(principal, "session_id", None),
            ip=session.ip,
            user_agent=session.user_agent,
            remember=session.remember,
            created_at=session.created_at,
            last_seen_at=session.last_seen_at or session.created_at,
            expires_at=min(session.idle_expires_at, session.expires_at),
        )


class ReauthSchema(InputSchema):
    """Someone proves again who they are."""

    password: Password


class PasswordChangeSchema(InputSchema):
    """Someone changes their password."""

    current: Password
    new: Password


class EmailSchema(InputSchema):
    """Someone names an address, to have a mail sent there."""

    email: Email


class TokenSchema(InputSchema):
    """Someone followed a link in a mail."""

    token: OneTimeToken


class ResetSchema(TokenSchema):
    """Someone sets a new password by a link in a mail."""

    new: Password


class RefreshSchema(InputSchema):
    """A program renews its tokens."""

    refresh_token: OneTimeToken


class BearerSchema(Schema):
    """The tokens of a program, named as in RFC 6749, 5.1."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # Its name, and no secret.
    expires_at: datetime
    """When the access token does."""

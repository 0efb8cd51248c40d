"""Schemas: the JSON bodies of the built-in routes, and the base classes `Schema` and `InputSchema`."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from appkit.domain.emails import parse_email
from appkit.domain.password_policy import MAX_LENGTH, is_readable
from appkit.repository.auth import AuthSession
from appkit.service.principals import Principal


class Schema(BaseModel):
    """Base class of request and response bodies. `PostSchema.model_validate(post)` makes a response from a row."""

    model_config = ConfigDict(from_attributes=True)


class InputSchema(Schema):
    """Base class of request bodies. Unknown fields are refused, because clients must not set other columns."""

    model_config = ConfigDict(extra="forbid")


def _check_password(password: SecretStr) -> SecretStr:
    if not is_readable(password.get_secret_value()):
        raise ValueError(f"Use at most {MAX_LENGTH} characters. Leave out characters that can't be sent as text.")
    return password


Email = Annotated[str, AfterValidator(lambda text: parse_email(text).address)]
"""An e-mail address, normalised."""

OneTimeToken = Annotated[SecretStr, AfterValidator(_check_password)]
"""A token from a mail, hidden in reprs and logs."""

Password = Annotated[SecretStr, AfterValidator(_check_password)]
"""A password, hidden in reprs and logs."""


class SignupSchema(InputSchema):
    """Body to sign up."""

    email: Email
    password: Password


class SigninSchema(SignupSchema):
    """Body to sign in."""

    remember: bool = False
    """Whether to stay signed in after the browser is closed."""


class UserSchema(Schema):
    """A user, as shown to this user."""

    id: UUID
    email: str
    is_superuser: bool
    email_verified: bool
    created_at: datetime


class ChallengeSchema(Schema):
    """The password was correct, and another factor is needed to sign in."""

    mfa_required: Literal[True] = True
    challenge: str
    """Send the challenge with the other factor within ten minutes."""
    factors: list[str]
    """The factors to choose from, such as `totp`."""


class SignoutSchema(InputSchema):
    """Body to sign out, or to cancel a sign-in that waits for another factor."""

    challenge: OneTimeToken | None = None
    """The challenge of the sign-in to cancel."""


class UserQuery(InputSchema):
    """Filters and pagination of the list of users."""

    q: Annotated[str | None, Field(max_length=320, description="A part of the e-mail address, in any case.")] = None
    active: Annotated[bool | None, Field(description="Only enabled users, or only disabled ones.")] = None
    superuser: Annotated[bool | None, Field(description="Only superusers, or only other users.")] = None
    verified: Annotated[bool | None, Field(description="Only verified users, or only unverified ones.")] = None
    cursor: Annotated[str | None, Field(description="The `next_cursor` of the previous page.")] = None
    size: Annotated[int, Field(ge=1, le=200, description="The largest number of users.")] = 50


class UserAdminSchema(UserSchema):
    """A user, as shown to superusers."""

    is_active: bool
    last_signin_at: datetime | None


class AccessSchema(Schema):
    """The end of a refreshed access token's lifetime."""

    expires_at: datetime


class SessionSchema(Schema):
    """A sign-in session: a device that a user is signed in on."""

    id: UUID
    current: bool
    """Whether this request belongs to the session."""
    ip: str | None
    user_agent: str | None
    remember: bool
    created_at: datetime
    last_seen_at: datetime
    """The last sign-in or token refresh. A device in use refreshes its tokens every few minutes."""
    expires_at: datetime

    @classmethod
    def of(cls, session: AuthSession, principal: Principal) -> Self:
        """Build the body from a row, for the principal of the request."""
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
    """Body to enter the password again."""

    password: Password


class PasswordChangeSchema(InputSchema):
    """Body to change the password."""

    current: Password
    new: Password


class EmailSchema(InputSchema):
    """Body with the e-mail address that gets a mail."""

    email: Email


class TokenSchema(InputSchema):
    """Body with the token of a mailed link."""

    token: OneTimeToken


class ResetSchema(TokenSchema):
    """Body to set a new password with a mailed link."""

    new: Password


class RefreshSchema(InputSchema):
    """Body to refresh a program's tokens."""

    refresh_token: OneTimeToken


class BearerSchema(Schema):
    """The tokens of a program, with the field names of RFC 6749, 5.1."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # The token's type, not a secret.
    expires_at: datetime
    """When the access token expires."""

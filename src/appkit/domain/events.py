"""Events: the base class `Event`, and the events that appkit's services emit about accounts and sign-in."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from appkit.exceptions import AppKitError


class Event(BaseModel):
    """Base class of events. Name them in the past tense, and give them ids.

    An event is delivered to subscribers of exactly its class after its transaction has committed. Pass ids instead of
    rows, because a row may have changed by the time a subscriber runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


def event_name(event: type[Event]) -> str:
    """The stored name of an event class, such as `shop.events:OrderPaid`. A script's module has its file's name."""
    module = event.__module__
    if module == "__main__":
        module = Path(inspect.getfile(event)).stem
    return f"{module}:{event.__qualname__}"


def find_event(name: str) -> type[Event]:
    """Find the event class with this name; the package may differ in the process that wrote the name.

    Raises:
        AppKitError: When this process has no such class, or several.
    """
    known = {event_name(event): event for event in _subclasses(Event)}  # After a reload, the newest class.
    if name in known:
        return known[name]
    near = [event for other, event in known.items() if other.rpartition(".")[2] == name.rpartition(".")[2]]
    if len(near) != 1:
        raise AppKitError(f"There is no event class {name}. Import its module, or undo its renaming.")
    return near[0]


def _subclasses(event: type[Event]) -> Iterator[type[Event]]:
    for child in event.__subclasses__():
        yield child
        yield from _subclasses(child)


class UserCreated(Event):
    """An account was created, by sign-up or otherwise."""

    user_id: UUID
    is_superuser: bool


class UserSignedUp(Event):
    """A user signed up. With `AUTH_SIGNUP_MODE=private` they are not signed in yet."""

    user_id: UUID


class UserSignedIn(Event):
    """A user signed in, which started a sign-in session."""

    user_id: UUID
    session_id: UUID


class SigninFailed(Event):
    """A sign-in failed: wrong password, unknown address or disabled account."""

    user_id: UUID | None
    """The account with this address, if there is one."""
    ip: str | None


class GuessingSuspected(Event):
    """So many sign-ins failed in the whole app that somebody may be trying stolen passwords.

    It is emitted once per period of the counter. No request is refused because of it.
    """

    failures: int
    seconds: int


class RateLimited(Event):
    """A rate limit refused a request; emitted once per period of the limit."""

    action: str
    """The limited action: `signin`, or a route such as `POST /api/search`."""
    ip: str
    user_id: UUID | None
    """The signed-in user, if any."""


class SigninChallenged(Event):
    """A user's password was correct, and a plugin asks for another factor."""

    user_id: UUID
    ip: str | None


class UserSignedOut(Event):
    """A user signed out."""

    user_id: UUID
    session_id: UUID


class RefreshReplayed(Event):
    """A refresh token was used again, so it may be stolen. Its sign-in session was revoked."""

    user_id: UUID
    session_id: UUID


class SessionRevoked(Event):
    """A user revoked one of their other sign-in sessions, or a superuser did."""

    user_id: UUID
    session_id: UUID
    by: UUID | None
    """The user or superuser who revoked it; None for the command line."""


class UserReauthenticated(Event):
    """A signed-in user entered their password again."""

    user_id: UUID
    session_id: UUID


class PasswordRefused(Event):
    """A signed-in user was asked for their password again, and entered a wrong one."""

    user_id: UUID
    session_id: UUID


class PasswordChanged(Event):
    """A user changed their password, which ended their other sign-in sessions."""

    user_id: UUID


class PasswordResetRequested(Event):
    """Somebody requested a link to set a new password; there may be no account."""

    email: str


class PasswordReset(Event):
    """A user set a new password with a mailed link, which ended all their sign-in sessions."""

    user_id: UUID


class EmailVerificationRequested(Event):
    """A user requested another link to verify their e-mail address."""

    user_id: UUID


class EmailVerified(Event):
    """A user verified their e-mail address."""

    user_id: UUID


class AccountTakenOver(Event):
    """A user took over an account with an unverified address by proving that the address is theirs.

    The account's password and sign-in sessions became invalid, because they may have been somebody else's.
    """

    user_id: UUID


class EmailChangeRequested(Event):
    """A user asked to change their e-mail address; the new one is not verified yet."""

    user_id: UUID
    email: str


class EmailChanged(Event):
    """A user changed their e-mail address."""

    user_id: UUID
    old_email: str


class SignupRepeated(Event):
    """Somebody signed up with an address that has an account already. The response didn't reveal it."""

    email: str


class UserDisabled(Event):
    """A user was disabled, which ended their sign-in sessions."""

    user_id: UUID
    by: UUID | None
    """The superuser who did it; None for the command line, here as below."""


class UserEnabled(Event):
    """A disabled user was enabled."""

    user_id: UUID
    by: UUID | None


class UserPromoted(Event):
    """A user became a superuser."""

    user_id: UUID
    by: UUID | None


class UserDemoted(Event):
    """A user is no longer a superuser."""

    user_id: UUID
    by: UUID | None


class PasswordResetForced(Event):
    """A superuser removed a user's password, which ended their sign-in sessions. They get a link to set one."""

    user_id: UUID
    by: UUID | None


class UserDeleted(Event):
    """A user deleted their account. Delete now what else the app keeps about them."""

    user_id: UUID
    email: str
    """The e-mail address of the deleted account."""


class UserExported(Event):
    """A user exported their data."""

    user_id: UUID

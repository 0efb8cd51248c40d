"""Events: the base class `Event`, and the events that appkit's services emit about accounts and sign-in."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from appkit.exceptions import AppKitError


class Event(BaseModel):
    """Base class of events. Name an event in the past tense: `OrderPaid`.

    After the transaction has committed, an event is delivered to the subscribers of its class. Subscribers of a base
    class don't get it. Pass ids instead of rows, because a row may have changed by the time a subscriber runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


def event_name(event: type[Event]) -> str:
    """The stored name of an event class, such as `shop.events:OrderPaid`. A script's file name replaces `__main__`."""
    module = event.__module__
    if module == "__main__":
        module = Path(inspect.getfile(event)).stem
    return f"{module}:{event.__qualname__}"


def find_event(name: str) -> type[Event]:
    """Find the event class with this name. If there is none, find it in a module of the same name elsewhere.

    Raises:
        AppKitError: When there is no such class, or several such modules have one.
    """
    known = {event_name(event): event for event in _subclasses(Event)}  # The newest class wins after a reload.
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


class _UserEvent(Event):
    """Base class of the events about one account."""

    user_id: UUID


class _SessionEvent(_UserEvent):
    """Base class of the events about one sign-in session."""

    session_id: UUID


class _AdminEvent(_UserEvent):
    """Base class of the events about an account that a superuser changed."""

    by: UUID | None
    """The superuser; None for the command line."""


class UserCreated(_UserEvent):
    """An account was created, by sign-up or otherwise."""

    is_superuser: bool


class UserSignedUp(_UserEvent):
    """A user signed up. With `AUTH_SIGNUP_MODE=private`, the user is not signed in yet."""


class UserSignedIn(_SessionEvent):
    """A user signed in. A sign-in session started."""


class SigninFailed(Event):
    """A sign-in failed: wrong password, unknown e-mail address or disabled account."""

    user_id: UUID | None
    """The account with the e-mail address, if there is one."""
    ip: str | None


class GuessingSuspected(Event):
    """Many sign-ins failed in the whole app, so somebody may be trying stolen passwords. No request is refused.

    The event is emitted once per period of the counter.
    """

    failures: int
    seconds: int


class RateLimited(Event):
    """A rate limit refused a request. The event is emitted once per period of the limit."""

    action: str
    """The limited action: `signin`, or a route such as `POST /api/search`."""
    ip: str
    user_id: UUID | None
    """The signed-in user, if there is one."""


class SigninChallenged(_UserEvent):
    """A user's password was correct, and a plugin asks for a second factor."""

    ip: str | None


class UserSignedOut(_SessionEvent):
    """A user signed out."""


class RefreshReplayed(_SessionEvent):
    """An old refresh token was used again, so it may be stolen. Its sign-in session was revoked."""


class SessionRevoked(_SessionEvent):
    """A user, a superuser or the command line revoked a sign-in session. Signing out emits `UserSignedOut`."""

    by: UUID | None
    """The user or superuser; None for the command line."""


class UserReauthenticated(_SessionEvent):
    """A signed-in user entered their password again."""


class PasswordRefused(_SessionEvent):
    """A signed-in user had to enter their password again, and entered a wrong password."""


class PasswordChanged(_UserEvent):
    """A user changed their password. Their other sign-in sessions ended."""


class PasswordResetRequested(Event):
    """Somebody requested a link to set a new password. There may be no account with this e-mail address."""

    email: str


class PasswordReset(_UserEvent):
    """A user set a new password with a mailed link. All their sign-in sessions ended."""


class EmailVerificationRequested(_UserEvent):
    """A user requested another link to verify their e-mail address."""


class EmailVerified(_UserEvent):
    """A user verified their e-mail address."""


class AccountTakenOver(_UserEvent):
    """A user proved that an unverified e-mail address is theirs, and took over the account with this address.

    The password and the sign-in sessions became invalid, because they may have been somebody else's.
    """


class EmailChangeRequested(_UserEvent):
    """A user asked to change their e-mail address. The new address is not verified yet."""

    email: str


class EmailChanged(_UserEvent):
    """A user changed their e-mail address."""

    old_email: str


class SignupRepeated(Event):
    """Somebody signed up with an e-mail address that has an account. The response didn't reveal the account."""

    email: str


class UserDisabled(_AdminEvent):
    """A user was disabled. Their sign-in sessions ended."""


class UserEnabled(_AdminEvent):
    """A disabled user was enabled."""


class UserPromoted(_AdminEvent):
    """A user became a superuser."""


class UserDemoted(_AdminEvent):
    """A user is no longer a superuser."""


class PasswordResetForced(_AdminEvent):
    """A superuser removed a user's password and ended all sign-in sessions. A link to set a new one was mailed."""


class UserDeleted(_UserEvent):
    """A user deleted their account. Subscribe to this event to delete the user's other data."""

    email: str
    """The e-mail address that the account had."""


class UserExported(_UserEvent):
    """A user exported their data."""

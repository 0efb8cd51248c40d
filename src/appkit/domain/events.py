"""What happened: facts that services emit and tasks subscribe to."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from appkit.exceptions import AppKitError


class Event(BaseModel):
    """Something that happened, in the past tense, with the ids of whom it concerns.

    An event is delivered after its transaction has committed, to subscribers of exactly its class.
    Give it ids rather than rows: by the time a subscriber runs, the row may have changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


def event_name(event: type[Event]) -> str:
    """What rows call a class: `shop.events:OrderPaid`. A script's module is named after its file."""
    module = event.__module__
    if module == "__main__":
        module = Path(inspect.getfile(event)).stem
    return f"{module}:{event.__qualname__}"


def find_event(name: str) -> type[Event]:
    """The class of this name; its package may be another than in the process that wrote the name.

    Raises:
        AppKitError: When this process has no such class, or several.
    """
    known = {event_name(event): event for event in _subclasses(Event)}  # The newest, where a module was reloaded.
    if name in known:
        return known[name]
    near = [event for other, event in known.items() if other.rpartition(".")[2] == name.rpartition(".")[2]]
    if len(near) != 1:
        raise AppKitError(f"This process knows no event {name}. Was it renamed, or is its module not imported?")
    return near[0]


def _subclasses(event: type[Event]) -> Iterator[type[Event]]:
    for child in event.__subclasses__():
        yield child
        yield from _subclasses(child)


class UserCreated(Event):
    """There is a new account, however it came about."""

    user_id: UUID
    is_superuser: bool


class UserSignedUp(Event):
    """Someone made an account for themselves; under `AUTH_SIGNUP_MODE=private` they are not signed in yet."""

    user_id: UUID


class UserSignedIn(Event):
    """Someone proved who they are, which began a session."""

    user_id: UUID
    session_id: UUID


class SigninFailed(Event):
    """Someone gave a wrong password, or an account's that may not be used."""

    user_id: UUID | None
    """Whose address it was, if anybody's."""
    ip: str | None


class GuessingSuspected(Event):
    """Sign-ins failed all over the app, more often than people mistype: somebody may be trying stolen passwords.

    It is said once in the time that they are counted in, and nobody is turned away for it.
    """

    failures: int
    seconds: int


class RateLimited(Event):
    """Someone did something too often and was turned away; said once in the time that they are counted in."""

    action: str
    """What, as the limit calls it: `signin`, or a route as in `POST /api/search`."""
    ip: str
    user_id: UUID | None
    """Who, where they were signed in."""


class SigninChallenged(Event):
    """Someone's password was right, and they have yet to prove themselves in another way."""

    user_id: UUID
    ip: str | None


class UserSignedOut(Event):
    """Someone ended a session of theirs."""

    user_id: UUID
    session_id: UUID


class RefreshReplayed(Event):
    """A refresh token was used a second time, so that it may be stolen; its session has been revoked."""

    user_id: UUID
    session_id: UUID


class SessionRevoked(Event):
    """Someone ended a session from another one of theirs, or an administrator did."""

    user_id: UUID
    session_id: UUID
    by: UUID | None
    """Who did; None at the command line."""


class UserReauthenticated(Event):
    """Someone signed in proved again who they are."""

    user_id: UUID
    session_id: UUID


class PasswordRefused(Event):
    """Someone signed in was asked for their password again, and gave a wrong one."""

    user_id: UUID
    session_id: UUID


class PasswordChanged(Event):
    """Someone gave their account a new password, which ended their sessions but the one they did it in."""

    user_id: UUID


class PasswordResetRequested(Event):
    """Someone asked for a link to set a new password; whether there is an account is not known yet."""

    email: str


class PasswordReset(Event):
    """Someone set a new password by a link in a mail, which ended all of their sessions."""

    user_id: UUID


class EmailVerificationRequested(Event):
    """Someone asked for another link to verify their address."""

    user_id: UUID


class EmailVerified(Event):
    """Someone proved that their address is theirs."""

    user_id: UUID


class AccountClaimed(Event):
    """Someone proved that an account's address is theirs, which had not been verified before.

    Its password and its sessions, which may have been somebody else's, are void.
    """

    user_id: UUID


class EmailChangeRequested(Event):
    """Someone asked to use another address, which they have yet to prove is theirs."""

    user_id: UUID
    email: str


class EmailChanged(Event):
    """Someone's address is another one now."""

    user_id: UUID
    old_email: str


class SignupRepeated(Event):
    """Someone tried to sign up with an address that has an account, which the answer did not tell them."""

    email: str


class UserDisabled(Event):
    """Someone was locked out, which ended their sessions."""

    user_id: UUID
    by: UUID | None
    """Who did it; None at the command line, here as below."""


class UserEnabled(Event):
    """Someone may sign in again."""

    user_id: UUID
    by: UUID | None


class UserPromoted(Event):
    """Someone became a superuser."""

    user_id: UUID
    by: UUID | None


class UserDemoted(Event):
    """Someone is no longer a superuser."""

    user_id: UUID
    by: UUID | None


class PasswordResetForced(Event):
    """Someone's password was taken away, which ended their sessions: they have to set a new one by a link in a mail."""

    user_id: UUID
    by: UUID | None


class UserDeleted(Event):
    """Someone deleted their account. What an app keeps about them elsewhere is to go now."""

    user_id: UUID
    email: str
    """Where they could be reached."""


class UserExported(Event):
    """Someone took a copy of what is kept about them."""

    user_id: UUID

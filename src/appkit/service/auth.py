"""AuthService: signing up, in and out, and keeping people signed in."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, case, exists, select, update

from appkit.domain.emails import parse_email
from appkit.domain.events import (
    GuessingSuspected,
    RefreshReplayed,
    SigninFailed,
    SignupRepeated,
    UserSignedOut,
    UserSignedUp,
)
from appkit.exceptions import (
    EmailTakenException,
    InvalidCredentialsException,
    RefreshReplayedException,
    SessionRevokedException,
    SignupClosedException,
    TooManyRequestsException,
    UnauthorizedException,
)
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.repository.context import AppContext, app_context
from appkit.repository.user import BaseUser
from appkit.service.principals import Principal, SessionPrincipal, TokenPair
from appkit.service.sessions import FRESH, QUIET, UNKNOWN_DEVICE, Device, Kind, belongs, is_live
from appkit.service.signins import PendingSignIn, SignIn, SigninKeeper
from appkit.service.users import UserService

FAILURES_BY_ALL: Final = "1000/5 minutes"


class AuthService(SigninKeeper):
    """Sessions, and the tokens that speak for them."""

    async def signup(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE, replaces: Collection[str | None] = ()
    ) -> SignIn | PendingSignIn:
        """Make an account, and sign its owner in.

        Args:
            email: The address; accounts differ by more than its case.
            password: As it was typed.
            device: Where the person is.
            replaces: Tokens that the device held until now; their sessions end.

        Raises:
            SignupClosedException: When the app takes no sign-ups.
            EmailTakenException: When there is one with this address, however its case.
            UnprocessableException: When the address or the password is not acceptable.
            ServiceUnavailableException: When too many people are signing in at once.
        """
        if self.settings.auth.signup_mode == "closed":
            raise SignupClosedException
        user = await UserService(self.db).create(email, password)
        self.emit(UserSignedUp(user_id=user.id))
        return await self.admit(user, methods=["pwd"], device=device, replaces=replaces)

    async def signup_verified(self, email: str) -> BaseUser:
        """Make an account without a password, for somebody of whom it is known that the address is theirs.

        Raises:
            SignupClosedException: When the app takes no sign-ups.
            EmailTakenException: When there is one with this address, however its case.
            UnprocessableException: When the address is not acceptable.
        """
        if self.settings.auth.signup_mode == "closed":
            raise SignupClosedException
        user = await UserService(self.db).create(email, None, verified=True)
        self.emit(UserSignedUp(user_id=user.id))
        return user

    async def signup_privately(self, email: str, password: str) -> None:
        """Make an account, and tell nobody but the address's owner whether there was one (OWASP ASVS 6.3.8).

        A mail says how to go on: both cases cost one hash and one event. Call it in a transaction of its own,
        for a taken address rolls that back.

        Raises:
            UnprocessableException: When the address or the password is not acceptable.
            ServiceUnavailableException: When too many people are signing in at once.
        """
        try:
            user = await UserService(self.db).create(email, password)
        except EmailTakenException:
            await self.db.rollback()
            self.emit(SignupRepeated(email=email))
        else:
            self.emit(UserSignedUp(user_id=user.id))

    async def signin(
        self,
        email: str,
        password: str,
        *,
        remember: bool = False,
        kind: Kind = "browser",
        device: Device = UNKNOWN_DEVICE,
        replaces: Collection[str | None] = (),
    ) -> SignIn | PendingSignIn:
        """Begin a session for whoever knows the password, unless a plugin asks them for more.

        Looks the account up, ends that transaction unless the caller had begun it, and hashes: nobody waits for
        a connection, nor for SQLite's writer, while Argon2 runs.

        Args:
            email: The address, in any case.
            password: As it was typed.
            remember: Whether the session outlives the browser.
            kind: Whether a browser keeps the tokens, or a program.
            device: Where the person is.
            replaces: Tokens that the device held until now; their sessions end (OWASP ASVS 7.2.4).

        Raises:
            InvalidCredentialsException: For an unknown address, a wrong password or a disabled account alike, and,
                under `AUTH_SIGNUP_MODE=private`, for an address that is not verified.
            ServiceUnavailableException: When too many people are signing in at once.
        """
        passwords = self._security.passwords
        passwords.check()
        begun = self.db.in_transaction()
        seen = await self._look_up(email)
        hashed = seen.hashed_password if seen else None
        known = await passwords.verify(hashed, password)
        # In private mode, who just signed up would learn from anything else whether they could.
        private = self.settings.auth.signup_mode == "private"
        if seen is None or hashed is None or not known or not seen.is_open or (private and not seen.email_verified):
            self.emit(SigninFailed(user_id=None if seen is None else seen.id, ip=device.ip))
            await self._watch_failures()
            if not begun:
                await self.db.commit()  # The exception would roll it back.
            raise InvalidCredentialsException
        if passwords.is_outdated(hashed):
            await self._rehash(seen, await passwords.hash(password))
        return await self.admit(seen, methods=["pwd"], remember=remember, kind=kind, device=device, replaces=replaces)

    async def signout(self, *tokens: str | None) -> None:
        """End the sessions of these tokens, of either kind, past their time or not; without any, do nothing."""
        if not (held := self._security.tokens.session_ids(*tokens)):
            return
        for session_id, user_id in await self._revoke(AuthSession.id.in_(held), "signed_out"):
            self.emit(UserSignedOut(user_id=user_id, session_id=session_id))

    async def refresh(self, token: str) -> TokenPair:
        """Exchange a refresh token for the next pair.

        For `AUTH_REFRESH_GRACE` seconds the same token gives the same successor again, for answers that got lost
        and for tabs that asked at once. After that someone else must have used it, and the session ends.

        Raises:
            UnauthorizedException: When the token isn't ours.
            SessionRevokedException: When its session has ended.
            RefreshReplayedException: When it had been used; the session's end is committed before.
        """
        session_id, seq = self._security.tokens.read_refresh(token)
        now = utcnow()
        rotated = await self._rotate(session_id, seq, now)
        found = await self.db.execute(
            select(AuthSession, self._users)
            .join(self._users, self._belongs)
            .where(AuthSession.id == session_id, is_live(now)),
            execution_options=FRESH,
        )
        if (row := found.one_or_none()) is None:
            raise SessionRevokedException
        session, user = row
        grace = timedelta(seconds=self.settings.auth.refresh_grace)
        rotated_at = now if rotated else session.rotated_at  # None where nothing may be repeated.
        repeated = session.refresh_seq == seq + 1 and rotated_at is not None and now - rotated_at < grace
        if not rotated and not repeated:
            await self._revoke(AuthSession.id == session_id, "refresh_replayed")
            self.emit(RefreshReplayed(user_id=user.id, session_id=session_id))
            await self.db.commit()  # The exception rolls the rest back, and this must stay.
            raise RefreshReplayedException
        return self._issue(user, session)

    async def user(self, principal: Principal) -> BaseUser:
        """The person a request comes from, as long as their session is live.

        Raises:
            SessionRevokedException: When it isn't, or the account is disabled, deleted, or has a new password.
            UnauthorizedException: The same for somebody whom a plugin recognised, without a session.
        """
        if not isinstance(principal, SessionPrincipal):
            found = await self.db.scalar(select(self._users).where(self._users.id == principal.user_id, self._is_open))
            if found is None:
                raise UnauthorizedException
            return found
        found = await self.db.scalar(
            _Owner.of(app_context(self.db)).statement,
            {
                "session_id": principal.session_id,
                "security_version": principal.security_version,
                "user_id": principal.user_id,
                "now": utcnow(),
            },
        )
        if found is None:
            raise SessionRevokedException
        return found

    async def _watch_failures(self) -> None:
        """Count a failed sign-in of anybody's, and say so when there are more than people make."""
        from appkit.core.limits import parse_rule  # With a library that who only reads tables needn't import.

        try:
            await self.limiter.hit(FAILURES_BY_ALL, "signin failures")
        except TooManyRequestsException as exc:
            if exc.news:
                rule = parse_rule(FAILURES_BY_ALL)
                self.emit(GuessingSuspected(failures=rule.amount, seconds=rule.get_expiry()))

    async def _look_up(self, email: str) -> BaseUser | None:
        try:
            key = parse_email(email).key
        except ValueError:
            return None
        begun = self.db.in_transaction()
        found = await self.db.scalar(select(self._users).where(self._users.email_key == key), execution_options=FRESH)
        if not begun:
            await self.db.commit()
        return found

    async def _rehash(self, seen: BaseUser, renewed: str) -> None:
        """Keep the password with today's costs, unless it was changed since it was looked up."""
        user = self._users
        await self.db.execute(
            update(user)
            .where(user.id == seen.id, user.hashed_password == seen.hashed_password)
            .values(hashed_password=renewed, updated_at=user.updated_at),
            execution_options=QUIET,
        )

    async def _rotate(self, session_id: UUID, seq: int, now: datetime) -> bool:
        """Count the session on, if it stands where the token does: of many at once, one succeeds."""
        auth = self.settings.auth
        idle = case(
            (AuthSession.remember, now + timedelta(seconds=auth.remember_idle_ttl)),
            else_=now + timedelta(seconds=auth.session_idle_ttl),
        )
        rotated = await self.db.scalar(
            update(AuthSession)
            .where(
                AuthSession.id == session_id,
                AuthSession.refresh_seq == seq,
                is_live(now),
                exists().where(self._belongs),
            )
            .values(refresh_seq=seq + 1, rotated_at=now, last_seen_at=now, idle_expires_at=idle)
            .returning(AuthSession.id),
            execution_options=QUIET,
        )
        return rotated is not None


class _Owner:
    """Who has a live session: a statement that is built once for each app, for that takes as long as to run it."""

    @classmethod
    def of(cls, context: AppContext) -> "_Owner":
        if cls not in context.resources:
            context.resources[cls] = cls(context.user_model)
        owner: _Owner = context.resources[cls]
        return owner

    def __init__(self, user: type[BaseUser]) -> None:
        self.statement = (
            select(user)
            .join(AuthSession, belongs(user))
            .where(
                AuthSession.id == bindparam("session_id"),
                AuthSession.security_version == bindparam("security_version"),
                AuthSession.user_id == bindparam("user_id"),
                is_live(bindparam("now", type_=AuthSession.expires_at.type)),
            )
        )

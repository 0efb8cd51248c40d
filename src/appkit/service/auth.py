"""AuthService: signing up, in and out, keeping people signed in, and knowing who asks."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, exists, select, update

from appkit.domain.emails import parse_email
from appkit.domain.events import RefreshReplayed, UserSignedIn, UserSignedOut, UserSignedUp
from appkit.exceptions import InvalidCredentialsException, RefreshReplayedException, SessionRevokedException
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService
from appkit.service.security import Security
from appkit.service.tokens import Principal, TokenPair
from appkit.service.users import UserService

# The rows are read anew after an UPDATE, so SQLAlchemy needn't find out which of them it holds.
_QUIET = {"synchronize_session": False}
_FRESH = {"populate_existing": True}


class Device(NamedTuple):
    """Where a sign-in comes from, so that people recognise their sessions."""

    ip: str | None = None
    user_agent: str | None = None


UNKNOWN_DEVICE = Device()


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A person who just signed in, and what they hold from now on."""

    user: BaseUser
    tokens: TokenPair


class AuthService(BaseService):
    """Sessions, and the tokens that speak for them."""

    async def signup(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE, replaces: Collection[str | None] = ()
    ) -> SignIn:
        """Make an account, and sign its owner in.

        Args:
            email: The address; accounts differ by more than its case.
            password: As it was typed.
            device: Where the person is.
            replaces: Tokens that the device held until now; their sessions end.

        Raises:
            EmailTakenException: When there is one with this address, however its case.
            UnprocessableException: When the address or the password is not acceptable.
            ServiceUnavailableException: When too many people are signing in at once.
        """
        user = await UserService(self.db).create(email, password)
        self.emit(UserSignedUp(user_id=user.id))
        session = await self._begin(user, remember=False, device=device, replaces=replaces)
        return SignIn(user=user, tokens=self._issue(user, session))

    async def signin(
        self,
        email: str,
        password: str,
        *,
        remember: bool = False,
        device: Device = UNKNOWN_DEVICE,
        replaces: Collection[str | None] = (),
    ) -> SignIn:
        """Begin a session for whoever knows the password.

        Looks the account up, ends that transaction unless the caller had begun it, and hashes: nobody waits for
        a connection, nor for SQLite's writer, while Argon2 runs.

        Args:
            email: The address, in any case.
            password: As it was typed.
            remember: Whether the session outlives the browser.
            device: Where the person is.
            replaces: Tokens that the device held until now; their sessions end (OWASP ASVS 7.2.4).

        Raises:
            InvalidCredentialsException: For an unknown address, a wrong password or a disabled account alike.
            ServiceUnavailableException: When too many people are signing in at once.
        """
        passwords = self._security.passwords
        passwords.check()
        seen = await self._look_up(email)
        known = await passwords.verify(seen.hashed_password if seen else None, password)
        if seen is None or not known:
            raise InvalidCredentialsException
        renewed = await passwords.hash(password) if passwords.is_outdated(seen.hashed_password) else None
        user = await self._confirm(seen, renewed)
        session = await self._begin(user, remember=remember, device=device, replaces=replaces)
        self.emit(UserSignedIn(user_id=user.id, session_id=session.id))
        return SignIn(user=user, tokens=self._issue(user, session))

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
            .where(AuthSession.id == session_id, _is_live(now)),
            execution_options=_FRESH,
        )
        if (row := found.one_or_none()) is None:
            raise SessionRevokedException
        session, user = row
        grace = timedelta(seconds=self.settings.auth.refresh_grace)
        repeated = session.refresh_seq == seq + 1 and now - (session.rotated_at or now) < grace
        if not rotated and not repeated:
            await self._revoke(AuthSession.id == session_id, "refresh_replayed")
            self.emit(RefreshReplayed(user_id=user.id, session_id=session_id))
            await self.db.commit()  # The exception rolls the rest back, and this must stay.
            raise RefreshReplayedException
        return self._issue(user, session)

    async def user(self, principal: Principal) -> BaseUser:
        """The person an access token speaks for, as long as their session is live.

        Raises:
            SessionRevokedException: When it isn't, or the account is disabled, deleted, or has a new password.
        """
        found = await self.db.scalar(
            select(self._users)
            .join(AuthSession, self._belongs)
            .where(
                AuthSession.id == principal.session_id,
                AuthSession.security_version == principal.security_version,
                AuthSession.user_id == principal.user_id,
                _is_live(utcnow()),
            )
        )
        if found is None:
            raise SessionRevokedException
        return found

    @property
    def _users(self) -> type[BaseUser]:
        return app_context(self.db).user_model

    @property
    def _security(self) -> Security:
        return Security.of(app_context(self.db))

    @property
    def _belongs(self) -> ColumnElement[bool]:
        """Whether a session is a user's, and neither was voided since it began."""
        user = self._users
        return and_(
            user.id == AuthSession.user_id,
            user.security_version == AuthSession.security_version,
            self._is_open,
        )

    @property
    def _is_open(self) -> ColumnElement[bool]:
        """Whether an account may be used."""
        return and_(self._users.is_active, self._users.deleted_at.is_(None))

    async def _look_up(self, email: str) -> Any:
        user = self._users
        try:
            key = parse_email(email).key
        except ValueError:
            return None
        begun = self.db.in_transaction()
        found = await self.db.execute(
            select(user.id, user.hashed_password, user.security_version).where(user.email_key == key)
        )
        row = found.one_or_none()
        if not begun:
            await self.db.commit()
        return row

    async def _confirm(self, seen: Any, renewed: str | None) -> BaseUser:
        """Take the account as it was when it was looked up: not disabled since, and with the same password."""
        user = self._users
        values: dict[str, Any] = {"last_signin_at": utcnow(), "updated_at": user.updated_at}
        if renewed is not None:
            unchanged = user.hashed_password == seen.hashed_password
            values["hashed_password"] = case((unchanged, renewed), else_=user.hashed_password)
        confirmed: BaseUser | None = await self.db.scalar(
            update(user)
            .where(user.id == seen.id, user.security_version == seen.security_version, self._is_open)
            .values(values)
            .returning(user),
            execution_options=_QUIET | _FRESH,
        )
        if confirmed is None:
            raise InvalidCredentialsException
        return confirmed

    async def _begin(
        self, user: BaseUser, *, remember: bool, device: Device, replaces: Collection[str | None]
    ) -> AuthSession:
        if held := self._security.tokens.session_ids(*replaces):
            await self._revoke(AuthSession.id.in_(held), "replaced")
        now, auth = utcnow(), self.settings.auth
        idle, total = (
            (auth.remember_idle_ttl, auth.remember_ttl) if remember else (auth.session_idle_ttl, auth.session_ttl)
        )
        session = await self.save(
            AuthSession(
                user_id=user.id,
                security_version=user.security_version,
                authenticated_at=now,
                amr=["pwd"],
                remember=remember,
                idle_expires_at=now + timedelta(seconds=idle),
                expires_at=now + timedelta(seconds=total),
                ip=device.ip and device.ip[:45],  # A proxy may pass on whatever it was sent.
                user_agent=device.user_agent and device.user_agent[:256],
            )
        )
        surplus = (
            select(AuthSession.id)
            .where(AuthSession.user_id == user.id, AuthSession.id != session.id, _is_live(now))
            .order_by(AuthSession.created_at.desc())
            .offset(auth.max_sessions - 1)
        )
        await self._revoke(AuthSession.id.in_(surplus), "too_many")
        return session

    def _issue(self, user: BaseUser, session: AuthSession) -> TokenPair:
        return self._security.tokens.issue(user, session, dict(self.plugins.collect("token_claims", user=user)))

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
                _is_live(now),
                exists().where(self._belongs),
            )
            .values(refresh_seq=seq + 1, rotated_at=now, last_seen_at=now, idle_expires_at=idle)
            .returning(AuthSession.id),
            execution_options=_QUIET,
        )
        return rotated is not None

    async def _revoke(self, which: ColumnElement[bool], reason: str) -> Collection[Any]:
        """End live sessions; answers with the ids of those and of their users."""
        revoked = await self.db.execute(
            update(AuthSession)
            .where(which, AuthSession.revoked_at.is_(None))
            .values(revoked_at=utcnow(), revoked_reason=reason)
            .returning(AuthSession.id, AuthSession.user_id),
            execution_options=_QUIET,
        )
        return revoked.all()


def _is_live(now: datetime) -> ColumnElement[bool]:
    return and_(AuthSession.revoked_at.is_(None), AuthSession.expires_at > now, AuthSession.idle_expires_at > now)

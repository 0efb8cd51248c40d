"""People's sessions: begun, shown, renewed and ended. What every rule about being signed in stands on."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from appkit.domain.events import SessionRevoked
from appkit.exceptions import NotFoundException, SessionRevokedException
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService
from appkit.service.principals import SessionPrincipal, TokenPair
from appkit.service.security import Security

# The rows are read anew after an UPDATE, so SQLAlchemy needn't find out which of them it holds.
QUIET: Final = {"synchronize_session": False}
FRESH: Final = {"populate_existing": True}


KEPT: Final = timedelta(days=30)
"""How long what is worthless is kept, for whoever has to find out what happened."""


class Device(NamedTuple):
    """Where a sign-in comes from, so that people recognise their sessions."""

    ip: str | None = None
    user_agent: str | None = None


Kind = Literal["browser", "bearer"]
"""Whether a browser keeps a session's tokens, or a program."""

UNKNOWN_DEVICE: Final = Device()


def is_live(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Whether a session is still good at this moment, as far as its own row says."""
    return and_(AuthSession.revoked_at.is_(None), AuthSession.expires_at > now, AuthSession.idle_expires_at > now)


def belongs(user: type[BaseUser]) -> ColumnElement[bool]:
    """Whether a session is a user's, and neither was voided since it began."""
    return and_(user.id == AuthSession.user_id, user.security_version == AuthSession.security_version, is_open(user))


def is_open(user: type[BaseUser]) -> ColumnElement[bool]:
    """Whether an account may be used."""
    return and_(user.is_active, user.deleted_at.is_(None))


class SessionKeeper(BaseService):
    """What services that begin or end sessions share."""

    @property
    def _users(self) -> type[BaseUser]:
        return app_context(self.db).user_model

    @property
    def _security(self) -> Security:
        return Security.of(app_context(self.db))

    @property
    def _belongs(self) -> ColumnElement[bool]:
        return belongs(self._users)

    @property
    def _is_open(self) -> ColumnElement[bool]:
        """Whether an account may be used."""
        return is_open(self._users)

    async def _begin(
        self,
        user: BaseUser,
        *,
        methods: Sequence[str],
        remember: bool,
        kind: Kind,
        device: Device,
        replaces: Collection[str | None],
    ) -> AuthSession:
        await self._drop(replaces)
        now, auth = utcnow(), self.settings.auth
        idle, total = (
            (auth.remember_idle_ttl, auth.remember_ttl) if remember else (auth.session_idle_ttl, auth.session_ttl)
        )
        session = await self.save(
            AuthSession(
                user_id=user.id,
                security_version=user.security_version,
                authenticated_at=now,
                amr=list(methods),
                remember=remember,
                kind=kind,
                idle_expires_at=now + timedelta(seconds=idle),
                expires_at=now + timedelta(seconds=total),
                ip=device.ip and device.ip[:45],  # A proxy may pass on whatever it was sent.
                user_agent=device.user_agent and device.user_agent[:256],
            )
        )
        surplus = (
            select(AuthSession.id)
            .where(AuthSession.user_id == user.id, AuthSession.id != session.id, is_live(now))
            .order_by(AuthSession.created_at.desc())
            .offset(auth.max_sessions - 1)
        )
        await self._revoke(AuthSession.id.in_(surplus), "too_many")
        return session

    async def _drop(self, tokens: Collection[str | None]) -> None:
        """End the sessions that a device held until now."""
        if held := self._security.tokens.session_ids(*tokens):
            await self._revoke(AuthSession.id.in_(held), "replaced")

    def _issue(self, user: BaseUser, session: AuthSession) -> TokenPair:
        return self._security.tokens.issue(user, session, dict(self.plugins.collect("token_claims", user=user)))

    async def _renew(self, principal: SessionPrincipal, user: BaseUser) -> TokenPair:
        """Note that somebody proved again who they are, and give them the next pair.

        The pair before is dead: unlike after a refresh, there is no time in which it may be used again.

        Raises:
            SessionRevokedException: When the session has ended meanwhile.
        """
        now = utcnow()
        session = await self.db.scalar(
            update(AuthSession)
            .where(
                AuthSession.id == principal.session_id,
                AuthSession.user_id == user.id,
                AuthSession.security_version == principal.security_version,
                is_live(now),
            )
            .values(
                authenticated_at=now,
                last_seen_at=now,
                refresh_seq=AuthSession.refresh_seq + 1,
                rotated_at=None,
                security_version=user.security_version,
            )
            .returning(AuthSession),
            execution_options=QUIET | FRESH,
        )
        if session is None:
            raise SessionRevokedException
        return self._issue(user, session)

    async def _revoke(self, which: ColumnElement[bool], reason: str) -> Collection[Any]:
        """End live sessions; answers with the ids of those and of their users."""
        revoked = await self.db.execute(
            update(AuthSession)
            .where(which, AuthSession.revoked_at.is_(None))
            .values(revoked_at=utcnow(), revoked_reason=reason)
            .returning(AuthSession.id, AuthSession.user_id),
            execution_options=QUIET,
        )
        return revoked.all()


class SessionService(SessionKeeper):
    """The devices that somebody is signed in on."""

    async def live(self, user_id: UUID) -> Sequence[AuthSession]:
        """Somebody's live sessions, the one seen last first."""
        seen = func.coalesce(AuthSession.last_seen_at, AuthSession.created_at)
        found = await self.db.scalars(
            select(AuthSession)
            .join(self._users, self._belongs)
            .where(AuthSession.user_id == user_id, is_live(utcnow()))
            .order_by(seen.desc(), AuthSession.id)
        )
        return found.all()

    async def revoke(self, session_id: UUID, *, owner_id: UUID) -> None:
        """End one session: its tokens are worth nothing from this moment on.

        Raises:
            NotFoundException: When the owner has no such live session; whether somebody else has is not said.
        """
        which = and_(AuthSession.id == session_id, AuthSession.user_id == owner_id, is_live(utcnow()))
        if not await self._end(which, by=owner_id):
            raise NotFoundException

    async def revoke_others(self, principal: SessionPrincipal) -> None:
        """End all of somebody's sessions but the one they ask from."""
        others = and_(AuthSession.user_id == principal.user_id, AuthSession.id != principal.session_id)
        await self._end(others, by=principal.user_id)

    async def revoke_all(self, user_id: UUID, *, by: UUID | None = None) -> None:
        """End all of somebody's sessions, by themselves, by a superuser, or with None at the command line."""
        await self._end(AuthSession.user_id == user_id, by=by)

    async def purge(self) -> int:
        """Delete the sessions and the one-time tokens that have been worthless for a month; says how many."""
        before = utcnow() - KEPT
        expired = or_(AuthSession.expires_at < before, AuthSession.idle_expires_at < before)
        over = or_(expired, AuthSession.revoked_at < before)
        sessions = await self.db.execute(
            delete(AuthSession).where(over).returning(AuthSession.id), execution_options=QUIET
        )
        tokens = await self.db.execute(
            delete(AuthToken).where(AuthToken.expires_at < before).returning(AuthToken.id), execution_options=QUIET
        )
        return len(sessions.all()) + len(tokens.all())

    async def _end(self, which: ColumnElement[bool], *, by: UUID | None) -> bool:
        ended = await self._revoke(which, "revoked")
        for session_id, user_id in ended:
            self.emit(SessionRevoked(user_id=user_id, session_id=session_id, by=by))
        return bool(ended)

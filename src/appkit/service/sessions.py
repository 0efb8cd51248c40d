"""SessionService: starts, checks, lists, refreshes and revokes sign-in sessions."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, delete, exists, func, or_, select, update

from appkit.domain.events import RefreshReplayed, SessionRevoked
from appkit.exceptions import (
    NotFoundException,
    RefreshReplayedException,
    SessionRevokedException,
    UnauthorizedException,
)
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.base import FRESH, QUIET, BaseService
from appkit.service.hashing import Security
from appkit.service.principals import Device, Kind, Principal, SessionPrincipal, TokenPair

KEPT: Final = timedelta(days=30)
"""How long ended sign-in sessions and expired tokens are kept, so that incidents can be investigated."""


def is_live(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """SQL: whether a sign-in session is neither revoked nor expired."""
    return and_(AuthSession.revoked_at.is_(None), AuthSession.expires_at > now, AuthSession.idle_expires_at > now)


def belongs(user: type[BaseUser]) -> ColumnElement[bool]:
    """SQL: whether a sign-in session is this user's, the account is open, and the security version matches."""
    return and_(user.id == AuthSession.user_id, user.security_version == AuthSession.security_version, user.is_open)


class SessionService(BaseService):
    """The sign-in sessions of users."""

    async def begin(
        self,
        user: BaseUser,
        *,
        methods: Sequence[str],
        remember: bool,
        kind: Kind,
        device: Device,
        replaces: Collection[str | None],
    ) -> AuthSession:
        """Start a sign-in session. See `AuthService.admit`, which checks the account and asks the plugins first."""
        await self.end_replaced(replaces)
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
                ip=device.ip and device.ip[:45],  # A proxy may forward anything here.
                user_agent=device.user_agent and device.user_agent[:256],
            )
        )
        surplus = (
            select(AuthSession.id)
            .where(AuthSession.user_id == user.id, AuthSession.id != session.id, is_live(now))
            .order_by(AuthSession.created_at.desc())
            .offset(auth.max_sessions - 1)
        )
        await self.end(AuthSession.id.in_(surplus), "too_many")
        return session

    def issue(self, user: BaseUser, session: AuthSession) -> TokenPair:
        """Issue the tokens of a sign-in session, with the claims of plugins."""
        claims = dict(self.plugins.collect("token_claims", user=user))
        return self._security.tokens.issue(user, session, claims)

    async def user(self, principal: Principal) -> BaseUser:
        """The user of a principal, if the sign-in session is live.

        Raises:
            SessionRevokedException: When the session ended, or the account is disabled, deleted, or has a new password.
            UnauthorizedException: When the account of a plugin's principal is disabled or deleted.
        """
        if not isinstance(principal, SessionPrincipal):
            user = self.user_model
            found = await self.db.scalar(select(user).where(user.id == principal.user_id, user.is_open))
            if found is None:
                raise UnauthorizedException
            return found
        found = await self.db.scalar(
            _live_user(self.user_model),
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

    async def refresh(self, token: str) -> TokenPair:
        """Exchange a refresh token for the next pair.

        For `AUTH_REFRESH_GRACE` seconds, the same token can be exchanged again, and gives the same refresh token. A
        response can get lost, and several tabs may refresh at the same moment. A later exchange may be theft, and
        ends the sign-in session.

        Raises:
            UnauthorizedException: When the token is not valid.
            SessionRevokedException: When the sign-in session has ended.
            RefreshReplayedException: When the token was used before. This ends the sign-in session, and commits.
        """
        session_id, seq = self._security.tokens.read_refresh(token)
        now, user_model = utcnow(), self.user_model
        rotated = await self._rotate(session_id, seq, now)
        found = await self.db.execute(
            select(AuthSession, user_model)
            .join(user_model, belongs(user_model))
            .where(AuthSession.id == session_id, is_live(now)),
            execution_options=FRESH,
        )
        if (row := found.one_or_none()) is None:
            raise SessionRevokedException
        session, user = row
        grace = timedelta(seconds=self.settings.auth.refresh_grace)
        rotated_at = now if rotated else session.rotated_at  # None: no old token is accepted.
        repeated = session.refresh_seq == seq + 1 and rotated_at is not None and now - rotated_at < grace
        if not rotated and not repeated:
            await self.end(AuthSession.id == session_id, "refresh_replayed")
            self.emit(RefreshReplayed(user_id=user.id, session_id=session_id))
            await self.db.commit()  # Otherwise the exception would roll back the end of the session.
            raise RefreshReplayedException
        return self.issue(user, session)

    async def renew(self, principal: SessionPrincipal, user: BaseUser) -> TokenPair:
        """Record that a signed-in user authenticated again, and issue the next pair.

        The previous refresh token becomes invalid immediately. Unlike `refresh`, this allows no grace period.

        Raises:
            SessionRevokedException: When the sign-in session has ended.
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
        return self.issue(user, session)

    async def live(self, user_id: UUID) -> Sequence[AuthSession]:
        """The live sign-in sessions of a user, the most recently used first."""
        seen = func.coalesce(AuthSession.last_seen_at, AuthSession.created_at)
        found = await self.db.scalars(
            select(AuthSession)
            .join(self.user_model, belongs(self.user_model))
            .where(AuthSession.user_id == user_id, is_live(utcnow()))
            .order_by(seen.desc(), AuthSession.id)
        )
        return found.all()

    async def revoke(self, session_id: UUID, *, owner_id: UUID) -> None:
        """End one sign-in session of a user. Its tokens are no longer accepted.

        Raises:
            NotFoundException: When this user has no live sign-in session with this id.
        """
        which = and_(AuthSession.id == session_id, AuthSession.user_id == owner_id, is_live(utcnow()))
        if not await self._revoke(which, by=owner_id):
            raise NotFoundException

    async def revoke_others(self, principal: SessionPrincipal) -> None:
        """End all sign-in sessions of a user except the current one."""
        others = and_(AuthSession.user_id == principal.user_id, AuthSession.id != principal.session_id)
        await self._revoke(others, by=principal.user_id)

    async def revoke_all(self, user_id: UUID, *, by: UUID | None = None) -> None:
        """End all sign-in sessions of a user. `by` is the user or superuser who did this; None for the command line."""
        await self._revoke(AuthSession.user_id == user_id, by=by)

    async def end(self, which: ColumnElement[bool], reason: str) -> Collection[Any]:
        """End sign-in sessions without an event; returns their ids and the ids of their users."""
        ended = await self.db.execute(
            update(AuthSession)
            .where(which, AuthSession.revoked_at.is_(None))
            .values(revoked_at=utcnow(), revoked_reason=reason)
            .returning(AuthSession.id, AuthSession.user_id),
            execution_options=QUIET,
        )
        return ended.all()

    async def end_replaced(self, tokens: Collection[str | None]) -> None:
        """End the sign-in sessions of a device's previous tokens."""
        if held := self._security.tokens.session_ids(*tokens):
            await self.end(AuthSession.id.in_(held), "replaced")

    async def purge(self) -> int:
        """Delete sign-in sessions and one-time tokens that ended a month ago; returns how many."""
        before = utcnow() - KEPT
        expired = or_(AuthSession.expires_at < before, AuthSession.idle_expires_at < before)
        over = or_(expired, AuthSession.revoked_at < before)
        sessions = delete(AuthSession).where(over).returning(AuthSession.id)
        tokens = delete(AuthToken).where(AuthToken.expires_at < before).returning(AuthToken.id)
        purged = 0
        for rows in (sessions, tokens):
            purged += len((await self.db.scalars(rows, execution_options=QUIET)).all())
        return purged

    @property
    def _security(self) -> Security:
        return Security.of(app_context(self.db))

    async def _revoke(self, which: ColumnElement[bool], *, by: UUID | None) -> bool:
        ended = await self.end(which, "revoked")
        for session_id, user_id in ended:
            self.emit(SessionRevoked(user_id=user_id, session_id=session_id, by=by))
        return bool(ended)

    async def _rotate(self, session_id: UUID, seq: int, now: datetime) -> bool:
        """Advance the refresh number if the token has the current number. Of concurrent requests, only one succeeds."""
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
                exists().where(belongs(self.user_model)),
            )
            .values(refresh_seq=seq + 1, rotated_at=now, last_seen_at=now, idle_expires_at=idle)
            .returning(AuthSession.id),
            execution_options=QUIET,
        )
        return rotated is not None


@cache
def _live_user(user: type[BaseUser]) -> Select[BaseUser]:
    """The statement that reads the user of a live sign-in session. Building a statement takes as long as running it."""
    return (
        select(user)
        .join(AuthSession, belongs(user))
        .where(
            AuthSession.id == bindparam("session_id"),
            AuthSession.security_version == bindparam("security_version"),
            AuthSession.user_id == bindparam("user_id"),
            is_live(bindparam("now", type_=AuthSession.expires_at.type)),
        )
    )

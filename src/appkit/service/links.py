"""LinkService: tokens that work once, for links in mails and for what takes several steps."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from secrets import token_urlsafe
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, select, update

from appkit.exceptions import InvalidTokenException
from appkit.repository.auth import AuthToken
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService


class LinkService(BaseService):
    """One-time tokens of somebody's. Each has a purpose, which may be a plugin's own, and is good for nothing else.

    They are void when the account is disabled or gets a new password. Only their SHA-256 is kept: 32 random bytes
    can't be guessed from it, so no salt is needed.
    """

    async def make(
        self,
        user: BaseUser,
        purpose: str,
        *,
        ttl: int,
        email: str | None = None,
        data: Mapping[str, Any] | None = None,
        others: bool = False,
    ) -> str:
        """Make a token, with which older ones of this purpose are void.

        Args:
            user: Whose it is; lock the row, so that of two made at once one is good.
            purpose: What it is for, in up to 32 characters.
            ttl: Seconds that it is good for.
            email: The address that it proves or that is to become the user's; the present one unless given.
            data: What to know when it is used; nothing secret, for it is kept as it is.
            others: Whether older ones stay good.
        """
        if not others:
            await self.void(user.id, AuthToken.purpose == purpose)
        token = token_urlsafe(32)
        await self.save(
            AuthToken(
                user_id=user.id,
                purpose=purpose,
                token_hash=_hash(token),
                email=email or user.email,
                security_version=user.security_version,
                expires_at=utcnow() + timedelta(seconds=ttl),
                data=dict(data or {}),
            )
        )
        return token

    async def owner(self, token: str, purpose: str) -> BaseUser:
        """Whose token it is, without using it up.

        Raises:
            InvalidTokenException: When it is not, or no longer, good for this.
        """
        user = self._users
        whose = select(AuthToken.user_id).where(self._is_good(token, purpose))
        found = await self.db.scalar(select(user).where(user.id.in_(whose)))
        if found is None:
            raise InvalidTokenException
        return found

    async def consume(self, token: str, purpose: str) -> AuthToken:
        """Use a token up: of many at once, one succeeds.

        Raises:
            InvalidTokenException: When it is not, or no longer, good for this.
        """
        consumed: AuthToken | None = await self.db.scalar(
            update(AuthToken).where(self._is_good(token, purpose)).values(consumed_at=utcnow()).returning(AuthToken),
            execution_options={"synchronize_session": False, "populate_existing": True},
        )
        if consumed is None:
            raise InvalidTokenException
        return consumed

    async def attempt(self, token: str, purpose: str, *, limit: int) -> BaseUser:
        """Count a try at something that a token allows only so often, and say whose token it is.

        Commits, so that a try still counts when it fails, and is counted before it is known to: of many at once,
        no more than `limit` are let through.

        Raises:
            InvalidTokenException: When it is not, or no longer, good for this, or was tried too often.
        """
        tried = await self.db.scalar(
            update(AuthToken)
            .where(self._is_good(token, purpose), AuthToken.attempts < limit)
            .values(attempts=AuthToken.attempts + 1)
            .returning(AuthToken.user_id),
            execution_options={"synchronize_session": False},
        )
        await self.db.commit()
        if tried is None:
            raise InvalidTokenException
        return await self.owner(token, purpose)

    async def void(self, user_id: UUID, *which: ColumnElement[bool]) -> None:
        """Make somebody's tokens worthless."""
        await self.db.execute(
            update(AuthToken)
            .where(AuthToken.user_id == user_id, AuthToken.consumed_at.is_(None), *which)
            .values(consumed_at=utcnow()),
            execution_options={"synchronize_session": False},
        )

    @property
    def _users(self) -> type[BaseUser]:
        return app_context(self.db).user_model

    def _is_good(self, token: str, purpose: str) -> ColumnElement[bool]:
        user: Any = self._users
        return and_(
            AuthToken.token_hash == _hash(token),
            AuthToken.purpose == purpose,
            AuthToken.consumed_at.is_(None),
            AuthToken.expires_at > utcnow(),
            exists().where(
                user.id == AuthToken.user_id,
                user.security_version == AuthToken.security_version,
                user.is_active,
                user.deleted_at.is_(None),
            ),
        )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

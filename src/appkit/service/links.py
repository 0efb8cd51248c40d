"""LinkService: tokens that work once, for links in mails."""

import hashlib
from datetime import timedelta
from secrets import token_urlsafe
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, select, update

from appkit.exceptions import InvalidTokenException
from appkit.repository.auth import AuthToken
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService

Purpose = Literal["verify_email", "reset_password", "change_email"]
"""What a token is for; it is good for nothing else."""


class LinkService(BaseService):
    """One-time tokens. Only their SHA-256 is kept: 32 random bytes can't be guessed from it, so no salt is needed."""

    async def make(self, user: BaseUser, purpose: Purpose, *, ttl: int, email: str | None = None) -> str:
        """Make a token, with which older ones of this purpose are void.

        Args:
            user: Whose it is; lock the row, so that of two made at once one is good.
            purpose: What it is for.
            ttl: Seconds that it is good for.
            email: The address that it proves or that is to become the user's; the present one unless given.
        """
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
            )
        )
        return token

    async def owner(self, token: str, purpose: Purpose) -> BaseUser:
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

    async def consume(self, token: str, purpose: Purpose) -> AuthToken:
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

    def _is_good(self, token: str, purpose: Purpose) -> ColumnElement[bool]:
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

"""LinkService: one-time tokens, for mailed links and for flows of several steps."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from secrets import token_urlsafe
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, select, update

from appkit.exceptions import InvalidTokenException
from appkit.repository.auth import AuthToken
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.base import FRESH, QUIET, BaseService

MAILED_AN_HOUR: Final = 10


class LinkService(BaseService):
    """One-time tokens of users. A token works only for its purpose. Plugins can use purposes of their own.

    Tokens become invalid when the account is disabled or gets a new password. The database keeps only the SHA-256 of a
    token. The hash needs no salt, because nobody can guess 32 random bytes.

    The methods raise `InvalidTokenException` for a token that is not valid for the purpose.
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
        """Create a token, and invalidate the user's older tokens with the same purpose.

        Args:
            user: The owner. Lock this user's row, so that only one of two concurrent tokens stays valid.
            purpose: A name of up to 32 characters for the use of the token.
            ttl: Lifetime in seconds.
            email: The e-mail address that the token proves; by default, the user's current address.
            data: Data to read when the token is used. Pass no secrets: the data is stored in plain text.
            others: Whether older tokens stay valid.
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

    async def has_enough(self, user: BaseUser, purpose: str, *, ttl: int) -> bool:
        """Whether no further link needs to be mailed: the mailbox got ten in an hour, and one lasts half of `ttl`.

        This limits the mails without keeping the owner out, because the mailbox always has a valid link. For that,
        create the tokens with `others=True`, and don't ask when a failed mail is retried.
        """
        now = utcnow()
        mine = {"user_id": user.id, "email": user.email, "security_version": user.security_version}
        found = (
            select(func.count(), func.max(AuthToken.expires_at))
            .filter_by(purpose=purpose, consumed_at=None, **mine)
            .where(AuthToken.created_at > now - timedelta(hours=1))
        )
        mailed, last = (await self.db.execute(found)).one()
        return bool(mailed >= MAILED_AN_HOUR and last > now + timedelta(seconds=ttl / 2))

    async def owner(self, token: str, purpose: str) -> BaseUser:
        """The owner of a token. The token can still be used afterwards."""
        user = self.user_model
        owner = select(AuthToken.user_id).where(self._is_valid(token, purpose))
        found = await self.db.scalar(select(user).where(user.id.in_(owner)))
        if found is None:
            raise InvalidTokenException
        return found

    async def consume(self, token: str, purpose: str) -> AuthToken:
        """Use a token. Of concurrent uses, only one succeeds."""
        consumed: AuthToken | None = await self.db.scalar(
            update(AuthToken).where(self._is_valid(token, purpose)).values(consumed_at=utcnow()).returning(AuthToken),
            execution_options=QUIET | FRESH,
        )
        if consumed is None:
            raise InvalidTokenException
        return consumed

    async def attempt(self, token: str, purpose: str, *, limit: int) -> BaseUser:
        """Count an attempt with a token, and return the token's owner.

        This method commits immediately, so that failed and concurrent attempts count too. After `limit` attempts, this
        method raises `InvalidTokenException`.
        """
        owner_id = await self.db.scalar(
            update(AuthToken)
            .where(self._is_valid(token, purpose), AuthToken.attempts < limit)
            .values(attempts=AuthToken.attempts + 1)
            .returning(AuthToken.user_id),
            execution_options=QUIET,
        )
        await self.db.commit()
        if owner_id is None:
            raise InvalidTokenException
        return await self.owner(token, purpose)

    async def void(self, user_id: UUID, *which: ColumnElement[bool]) -> None:
        """Invalidate a user's tokens, or only the tokens that match the conditions."""
        await self.db.execute(
            update(AuthToken)
            .where(AuthToken.user_id == user_id, AuthToken.consumed_at.is_(None), *which)
            .values(consumed_at=utcnow()),
            execution_options=QUIET,
        )

    def _is_valid(self, token: str, purpose: str) -> ColumnElement[bool]:
        user = self.user_model
        return and_(
            AuthToken.token_hash == _hash(token),
            AuthToken.purpose == purpose,
            AuthToken.consumed_at.is_(None),
            AuthToken.expires_at > utcnow(),
            exists().where(
                user.id == AuthToken.user_id, user.security_version == AuthToken.security_version, user.is_open
            ),
        )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

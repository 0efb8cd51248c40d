"""OAuthService: whose account elsewhere it is, and when two accounts may become one."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Final
from uuid import UUID

from sqlalchemy import delete, select

from appkit import AuthService, BaseService, BaseUser, Event, UserService
from appkit.contrib.oauth.providers import Authorization, Identity
from appkit.contrib.oauth.tables import OAuthAccount, OAuthFlow
from appkit.exceptions import (
    BadRequestException,
    ConflictException,
    EmailNotVerifiedException,
    NotFoundException,
)

TTL: Final = timedelta(minutes=10)
"""How long somebody may be away."""


class InvalidStateException(BadRequestException):
    """Somebody came back who was not sent, took too long, or was sent from another browser or to another provider."""

    internal_code = 40070
    detail = "This sign-in was begun elsewhere or took too long. Begin it again."


class AccountTakenException(ConflictException):
    """The account elsewhere belongs to somebody else here, or this person has another one there."""

    internal_code = 40970
    detail = "This account is linked already."


class OAuthLinked(Event):
    """Someone may sign in with an account elsewhere from now on."""

    user_id: UUID
    provider: str


class OAuthUnlinked(Event):
    """Someone may not sign in with an account elsewhere any more."""

    user_id: UUID
    provider: str


class OAuthService(BaseService):
    """People's accounts elsewhere."""

    async def linked(self, user_id: UUID) -> Sequence[OAuthAccount]:
        """Somebody's accounts elsewhere."""
        mine = select(OAuthAccount).where(OAuthAccount.user_id == user_id).order_by(OAuthAccount.provider)
        return (await self.db.scalars(mine)).all()

    async def unlink(self, user_id: UUID, provider: str) -> None:
        """Let somebody no longer sign in with an account elsewhere.

        Raises:
            NotFoundException: When they never could.
        """
        mine = delete(OAuthAccount).where(OAuthAccount.user_id == user_id, OAuthAccount.provider == provider)
        if await self.db.scalar(mine.returning(OAuthAccount.id)) is None:
            raise NotFoundException
        self.emit(OAuthUnlinked(user_id=user_id, provider=provider))

    async def depart(
        self,
        provider: str,
        authorization: Authorization,
        browser: str,
        *,
        next: str,  # noqa: A002 - its name in the URL
        remember: bool = False,
        user_id: UUID | None = None,
    ) -> None:
        """Remember somebody who goes to a provider.

        Args:
            provider: Which.
            authorization: What they are sent with.
            browser: The secret that their browser keeps.
            next: Where they want to be after.
            remember: Whether they want to stay signed in.
            user_id: Who they are, if it is to link an account.
        """
        now = datetime.now(UTC)
        await self.db.execute(delete(OAuthFlow).where(OAuthFlow.expires_at < now))
        await self.save(
            OAuthFlow(
                state_hash=_hash(authorization.state),
                browser_hash=_hash(browser),
                provider=provider,
                nonce=authorization.nonce,
                code_verifier=authorization.code_verifier,
                next=next,
                remember=remember,
                user_id=user_id,
                expires_at=now + TTL,
            )
        )

    async def arrive(self, provider: str, state: str, browser: str) -> OAuthFlow:
        """Whom we sent, now that they are back: once, in the same browser, and from where we sent them.

        Raises:
            InvalidStateException: When it isn't so.
        """
        found: OAuthFlow | None = await self.db.scalar(
            delete(OAuthFlow)
            .where(
                OAuthFlow.state_hash == _hash(state),
                OAuthFlow.browser_hash == _hash(browser),
                OAuthFlow.provider == provider,
                OAuthFlow.expires_at > datetime.now(UTC),
            )
            .returning(OAuthFlow)
        )
        if found is None:
            raise InvalidStateException
        return found

    async def link(self, user_id: UUID, provider: str, identity: Identity) -> None:
        """Let somebody who is signed in sign in with an account elsewhere, whatever its address.

        Raises:
            AccountTakenException: When it is somebody else's, or they have another one there.
        """
        known = select(OAuthAccount).where(
            OAuthAccount.provider == provider,
            (OAuthAccount.subject == identity.subject) | (OAuthAccount.user_id == user_id),
        )
        for account in await self.db.scalars(known):
            if (account.user_id, account.subject) != (user_id, identity.subject):
                raise AccountTakenException
            return
        await self._add(user_id, provider, identity)

    async def sign_in(self, provider: str, identity: Identity) -> BaseUser:
        """Whose account elsewhere it is; somebody who has none here gets one.

        Two accounts become one only if the provider says that the address is verified. If ours is not, then whoever
        made it may have waited for its owner to come this way: their password and their sessions are void.

        Raises:
            EmailNotVerifiedException: When the provider does not know whether the address is theirs.
            SignupClosedException: When they are new, and the app takes no sign-ups.
        """
        users = UserService(self.db)
        known = select(OAuthAccount.user_id).where(
            OAuthAccount.provider == provider, OAuthAccount.subject == identity.subject
        )
        if (user_id := await self.db.scalar(known)) is not None:
            return await users.get(user_id)
        if identity.email is None or not identity.email_verified:
            raise EmailNotVerifiedException("Verify your e-mail address there first.")
        user = await users.find(identity.email, lock=True)
        if user is None:
            user = await AuthService(self.db).signup_verified(identity.email)
        await users.take_over(user)
        await self._add(user.id, provider, identity)
        return user

    async def _add(self, user_id: UUID, provider: str, identity: Identity) -> None:
        await self.save(
            OAuthAccount(user_id=user_id, provider=provider, subject=identity.subject, email=identity.email)
        )
        self.emit(OAuthLinked(user_id=user_id, provider=provider))


def new_browser() -> str:
    """A secret for a browser to keep."""
    return token_urlsafe(32)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

"""OAuthService: OAuth flows, linked accounts, and signing in with them. Also their tables and events."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Final
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AuthService, BaseService, BaseTableModel, BaseUser, Event, UserService
from appkit.contrib.oauth.providers import Authorization, Identity
from appkit.exceptions import BadRequestException, ConflictException, EmailNotVerifiedException, NotFoundException

TTL: Final = timedelta(minutes=10)
"""How long a flow may take."""


class OAuthAccount(BaseTableModel):
    """A provider account that is linked to a user.

    It is identified by the provider's own id, never by an e-mail address, which may later belong to somebody else
    (OWASP ASVS 6.8.1).
    """

    __tablename__ = "oauth_account"
    __table_args__ = (UniqueConstraint("provider", "subject"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(255))  # OpenID Connect Core, 2: at most 255 characters.
    email: Mapped[str | None] = mapped_column(String(320))
    """The e-mail address at the provider when the account was linked; for display only."""


class OAuthFlow(BaseTableModel):
    """An OAuth flow that was started and isn't finished. Finishing it deletes the row."""

    __tablename__ = "oauth_flow"

    state_hash: Mapped[str] = mapped_column(String(64), unique=True)
    browser_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the cookie's value: only the browser that started the flow can finish it."""
    provider: Mapped[str] = mapped_column(String(50))
    nonce: Mapped[str | None] = mapped_column(String(64))
    code_verifier: Mapped[str] = mapped_column(String(128))
    next: Mapped[str] = mapped_column(String(500))
    """The page of this app to go to afterwards."""
    remember: Mapped[bool]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    """The user who links an account; None in a flow that signs in."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class InvalidStateException(BadRequestException):
    """The callback's `state` is unknown, expired or used, or belongs to another browser or provider."""

    internal_code = 40070
    detail = "This sign-in was started in another browser or took too long. Start again."


class AccountTakenException(ConflictException):
    """The provider account is linked to another user, or this user has linked another account of that provider."""

    internal_code = 40970
    detail = "This account is already linked, or you have linked another one of this provider."


class OAuthLinked(Event):
    """A provider account was linked to a user, who can sign in with it from now on."""

    user_id: UUID
    provider: str


class OAuthUnlinked(Event):
    """A provider account was unlinked; it no longer signs anybody in."""

    user_id: UUID
    provider: str


class OAuthService(BaseService):
    """OAuth flows and linked provider accounts."""

    async def linked(self, user_id: UUID) -> Sequence[OAuthAccount]:
        """The provider accounts that are linked to a user."""
        mine = select(OAuthAccount).where(OAuthAccount.user_id == user_id).order_by(OAuthAccount.provider)
        return (await self.db.scalars(mine)).all()

    async def unlink(self, user_id: UUID, provider: str) -> None:
        """Unlink a user's account at a provider.

        Raises:
            NotFoundException: When there is no such account.
        """
        mine = delete(OAuthAccount).where(OAuthAccount.user_id == user_id, OAuthAccount.provider == provider)
        if await self.db.scalar(mine.returning(OAuthAccount.id)) is None:
            raise NotFoundException
        self.emit(OAuthUnlinked(user_id=user_id, provider=provider))

    async def start_flow(
        self,
        provider: str,
        authorization: Authorization,
        browser: str,
        *,
        next_page: str,
        remember: bool = False,
        user_id: UUID | None = None,
    ) -> None:
        """Store a flow until its callback, and delete expired flows.

        Args:
            provider: The provider's name.
            authorization: The authorization request that `OpenIDProvider.start` created.
            browser: The secret in the browser's cookie.
            next_page: The page to go to afterwards.
            remember: Whether to stay signed in when the browser is closed.
            user_id: The user who links an account; None to sign in.
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
                next=next_page,
                remember=remember,
                user_id=user_id,
                expires_at=now + TTL,
            )
        )

    async def finish_flow(self, provider: str, state: str, browser: str) -> OAuthFlow:
        """Delete and return the flow of a callback: each `state` works once, in the browser that started the flow.

        Raises:
            InvalidStateException: When there is no such flow, or it has expired.
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
        """Link a provider account to a user who is signed in, even if the two e-mail addresses differ.

        Raises:
            AccountTakenException: When the account has another user, or the user has another account at this provider.
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
        """The user of a provider account. An unlinked one is linked to the user with its e-mail address, or a new user.

        Linking requires an e-mail address that the provider has verified. If it isn't verified in this app, an attacker
        may have created the user: the owner takes over the account, which voids its password and sign-in sessions.

        Raises:
            EmailNotVerifiedException: When the provider has not verified the address.
            SignupClosedException: When there is no such user yet, and sign-up is closed.
        """
        users = UserService(self.db)
        known = select(OAuthAccount.user_id).where(
            OAuthAccount.provider == provider, OAuthAccount.subject == identity.subject
        )
        if (user_id := await self.db.scalar(known)) is not None:
            return await users.get(user_id)
        if identity.email is None or not identity.email_verified:
            raise EmailNotVerifiedException("Verify your e-mail address with the provider first.")
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


def new_browser_secret() -> str:
    """A random value for the cookie that ties a flow to its browser."""
    return token_urlsafe(32)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

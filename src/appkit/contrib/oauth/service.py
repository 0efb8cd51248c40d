"""OAuthService: OAuth flows, linked accounts, and signing in with them. Also their tables, errors and events."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint, delete
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AuthService, BaseService, BaseTableModel, BaseUser, Event, Repository, UserService
from appkit.contrib.oauth.providers import Authorization, Identity
from appkit.exceptions import BadRequestException, ConflictException, EmailNotVerifiedException, NotFoundException

TTL: Final = 600  # Seconds that a flow may take.


class OAuthAccount(BaseTableModel):
    """A provider account that is linked to a user.

    The provider's own id identifies the account. An e-mail address could later belong to somebody else
    (OWASP ASVS 6.8.1).
    """

    __tablename__ = "oauth_account"
    __table_args__ = (UniqueConstraint("provider", "subject"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(255))  # OpenID Connect Core, 2: at most 255 characters.
    email: Mapped[str | None] = mapped_column(String(320))
    """The e-mail address at the provider when the account was linked. It is only displayed."""


class OAuthFlow(BaseTableModel):
    """An OAuth flow that was started and isn't finished. Finishing the flow deletes the row."""

    __tablename__ = "oauth_flow"

    state_hash: Mapped[str] = mapped_column(String(64), unique=True)
    browser_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the secret in the browser's cookie. Only the browser that started the flow can finish it."""
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
    detail = "This account is already linked, or you have linked another account of this provider."


class OAuthLinked(Event):
    """A provider account was linked to a user. From now on, the user can sign in with it."""

    user_id: UUID
    provider: str


class OAuthUnlinked(Event):
    """A provider account was unlinked. The user can no longer sign in with it."""

    user_id: UUID
    provider: str


class OAuthService(BaseService):
    """OAuth flows and linked provider accounts."""

    async def linked(self, user_id: UUID) -> Sequence[OAuthAccount]:
        """The provider accounts that are linked to a user, ordered by provider."""
        accounts = Repository[OAuthAccount](self.db)
        return await accounts.list(OAuthAccount.user_id == user_id, order=[OAuthAccount.provider])

    async def unlink(self, user_id: UUID, provider: str) -> None:
        """Unlink a user's account at a provider.

        Raises:
            NotFoundException: When there is no such account.
        """
        accounts = Repository[OAuthAccount](self.db)
        if not await accounts.delete_where(OAuthAccount.user_id == user_id, OAuthAccount.provider == provider):
            raise NotFoundException
        self.emit(OAuthUnlinked(user_id=user_id, provider=provider))

    async def start_flow(
        self, provider: str, started: Authorization, browser: str, *, page: str, remember: bool, user_id: UUID | None
    ) -> None:
        """Store a flow until its callback, and delete expired flows. `browser` is the secret in the cookie."""
        now = datetime.now(UTC)
        await self.db.execute(delete(OAuthFlow).where(OAuthFlow.expires_at < now))
        flow = OAuthFlow(
            state_hash=_hash(started.state),
            browser_hash=_hash(browser),
            provider=provider,
            nonce=started.nonce,
            code_verifier=started.code_verifier,
            next=page,
            remember=remember,
            user_id=user_id,
            expires_at=now + timedelta(seconds=TTL),
        )
        await self.save(flow)

    async def finish_flow(self, provider: str, state: str, browser: str) -> OAuthFlow:
        """Delete and return the flow of a callback. Each `state` works once, in the browser that started the flow.

        Raises:
            InvalidStateException: When there is no such flow, or the flow has expired.
        """
        started = delete(OAuthFlow).where(
            OAuthFlow.state_hash == _hash(state),
            OAuthFlow.browser_hash == _hash(browser),
            OAuthFlow.provider == provider,
            OAuthFlow.expires_at > datetime.now(UTC),
        )
        flow: OAuthFlow | None = await self.db.scalar(started.returning(OAuthFlow))
        if flow is None:
            raise InvalidStateException
        return flow

    async def link(self, user_id: UUID, provider: str, identity: Identity) -> None:
        """Link a provider account to a signed-in user, even if the two e-mail addresses differ.

        Raises:
            AccountTakenException: When the account has another user, or the user has another account at this provider.
        """
        known = await Repository[OAuthAccount](self.db).list(
            OAuthAccount.provider == provider,
            (OAuthAccount.subject == identity.subject) | (OAuthAccount.user_id == user_id),
        )
        if any((account.user_id, account.subject) != (user_id, identity.subject) for account in known):
            raise AccountTakenException
        if not known:
            await self._add(user_id, provider, identity)

    async def sign_in(self, provider: str, identity: Identity) -> BaseUser:
        """The user of a provider account. If no user is linked, the user with the same e-mail address is linked.

        If there is no such user, a user is created. Linking requires that the provider has verified the address.
        If this app has not verified the address, an attacker may have signed up with it. Then the user's password and
        sign-in sessions become invalid, and the owner of the address takes over the account.

        Raises:
            EmailNotVerifiedException: When the provider has not verified the e-mail address.
            SignupClosedException: When there is no such user, and sign-up is closed.
        """
        users = UserService(self.db)
        accounts = Repository[OAuthAccount](self.db)
        known = await accounts.first(OAuthAccount.provider == provider, OAuthAccount.subject == identity.subject)
        if known is not None:
            return await users.get(known.user_id)
        if identity.email is None or not identity.email_verified:
            raise EmailNotVerifiedException("Verify your e-mail address with the provider first.")
        user = await users.find(identity.email, lock=True)
        if user is None:
            user = await AuthService(self.db).signup_verified(identity.email)
        await users.take_over(user)
        await self._add(user.id, provider, identity)
        return user

    async def _add(self, user_id: UUID, provider: str, identity: Identity) -> None:
        account = OAuthAccount(user_id=user_id, provider=provider, subject=identity.subject, email=identity.email)
        await self.save(account)
        self.emit(OAuthLinked(user_id=user_id, provider=provider))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

"""PasswordService: users confirm, change and reset their password."""

from uuid import UUID

from appkit.domain.events import (
    PasswordChanged,
    PasswordRefused,
    PasswordReset,
    PasswordResetRequested,
    UserReauthenticated,
)
from appkit.exceptions import InvalidTokenException, WrongPasswordException
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService
from appkit.service.hashing import PasswordPool, Security
from appkit.service.links import LinkService
from appkit.service.principals import SessionPrincipal, TokenPair
from appkit.service.sessions import SessionService
from appkit.service.users import UserService


class PasswordService(BaseService):
    """The passwords of accounts.

    Call the methods outside a transaction. They then hold no connection while Argon2 runs, and don't block SQLite's
    writer. Each method that hashes or checks a password raises `ServiceUnavailableException` if too many passwords wait
    to be hashed.
    """

    async def confirm(self, principal: SessionPrincipal, user: BaseUser, password: str) -> TokenPair:
        """Record that a signed-in user entered their password again, and issue the next pair of tokens.

        Raises:
            WrongPasswordException: When the password is wrong.
            SessionRevokedException: When the sign-in session has ended.
        """
        await self._check_current(principal, user, password)
        tokens = await SessionService(self.db).renew(principal, user)
        self.emit(UserReauthenticated(user_id=user.id, session_id=principal.session_id))
        return tokens

    async def change(self, principal: SessionPrincipal, user: BaseUser, current: str, new: str) -> TokenPair:
        """Change a password, and issue the next pair of tokens. All other sign-in sessions of the user end.

        Raises:
            WrongPasswordException: When the current password is wrong, or was changed during this call.
            UnprocessableException: When the new password is not acceptable.
            SessionRevokedException: When the sign-in session has ended.
        """
        await self._check_current(principal, user, current)
        await UserService(self.db).check_password(new, user.email, user, field="new")
        hashed = await self._pool.hash(new)
        changed = await self._replace(user.id, user.security_version, hashed)
        if changed is None:
            raise WrongPasswordException
        self.emit(PasswordChanged(user_id=user.id))
        return await SessionService(self.db).renew(principal, changed)

    def request_reset(self, email: str) -> None:
        """Request a link to set a new password. A task looks up the account, so the response time reveals nothing."""
        self.emit(PasswordResetRequested(email=email))

    async def reset(self, token: str, new: str) -> BaseUser:
        """Set a new password with a mailed link, and end all sign-in sessions. The user is not signed in.

        The e-mail address then counts as verified, because the link was mailed to it.

        Raises:
            InvalidTokenException: When the link is used, expired or revoked.
            UnprocessableException: When the password is not acceptable. The link can be used again.
        """
        links, begun = LinkService(self.db), self.db.in_transaction()
        owner = await links.owner(token, "reset_password")
        if not begun:
            await self.db.commit()
        await UserService(self.db).check_password(new, owner.email, owner, field="new")
        hashed = await self._pool.hash(new)
        used = await links.consume(token, "reset_password")
        changed = await self._replace(used.user_id, used.security_version, hashed)
        if changed is None:
            raise InvalidTokenException
        if changed.email == used.email and changed.email_verified_at is None:
            changed.email_verified_at = utcnow()
        self.emit(PasswordReset(user_id=changed.id))
        return changed

    @property
    def _pool(self) -> PasswordPool:
        return Security.of(app_context(self.db)).passwords

    async def _check_current(self, principal: SessionPrincipal, user: BaseUser, password: str) -> None:
        begun = self.db.in_transaction()
        if not await self._pool.verify(user.hashed_password, password):
            self.emit(PasswordRefused(user_id=user.id, session_id=principal.session_id))
            if not begun:
                await self.db.commit()  # Otherwise the exception would roll back the event.
            raise WrongPasswordException

    async def _replace(self, user_id: UUID, security_version: int, hashed: str) -> BaseUser | None:
        """Store a new hash and end all sign-in sessions, if the account is open and has this security version."""
        values = {"hashed_password": hashed, "password_changed_at": utcnow(), "security_version": security_version + 1}
        return await UserService(self.db).update_if_current(user_id, security_version, **values)

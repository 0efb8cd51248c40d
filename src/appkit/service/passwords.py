"""PasswordService: asking for a password again, and giving an account a new one."""

from uuid import UUID

from sqlalchemy import update

from appkit.domain.events import (
    PasswordChanged,
    PasswordRefused,
    PasswordReset,
    PasswordResetRequested,
    UserReauthenticated,
)
from appkit.exceptions import InvalidTokenException, WrongPasswordException
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.links import LinkService
from appkit.service.principals import SessionPrincipal, TokenPair
from appkit.service.sessions import FRESH, QUIET, SessionKeeper
from appkit.service.users import UserService


class PasswordService(SessionKeeper):
    """What people prove themselves with.

    Nothing is read before hashing, so that nobody waits for a connection, nor for SQLite's writer, meanwhile.
    """

    async def confirm(self, principal: SessionPrincipal, user: BaseUser, password: str) -> TokenPair:
        """Note that someone signed in has proved again who they are.

        Raises:
            WrongPasswordException: When that is not their password.
            SessionRevokedException: When their session has ended meanwhile.
            ServiceUnavailableException: When too many passwords are being hashed.
        """
        await self._check_current(principal, user, password)
        tokens = await self._renew(principal, user)
        self.emit(UserReauthenticated(user_id=user.id, session_id=principal.session_id))
        return tokens

    async def change(self, principal: SessionPrincipal, user: BaseUser, current: str, new: str) -> TokenPair:
        """Give someone a new password, and with it the next pair; all their other sessions end.

        Args:
            principal: The session that goes on.
            user: Whose password it is, as they were when they were asked for it.
            current: The one they have.
            new: The one they chose.

        Raises:
            WrongPasswordException: When the current one is wrong, or has been changed meanwhile.
            UnprocessableException: When the new one is not acceptable.
            SessionRevokedException: When their session has ended meanwhile.
            ServiceUnavailableException: When too many passwords are being hashed.
        """
        await self._check_current(principal, user, current)
        await UserService(self.db).check_password(new, user.email, user, field="new")
        hashed = await self._security.passwords.hash(new)
        changed = await self._replace(user.id, user.security_version, hashed)
        if changed is None:
            raise WrongPasswordException
        self.emit(PasswordChanged(user_id=user.id))
        return await self._renew(principal, changed)

    def forget(self, email: str) -> None:
        """Ask for a link to set a new password; a task finds out whether there is somebody to send it to."""
        self.emit(PasswordResetRequested(email=email))

    async def reset(self, token: str, new: str) -> BaseUser:
        """Set a new password by a link that was sent to the account's address, and end all sessions.

        Nobody is signed in by it. As the link came by mail, the address is verified.

        Raises:
            InvalidTokenException: When the link is not, or no longer, good.
            UnprocessableException: When the password is not acceptable; the link stays good.
            ServiceUnavailableException: When too many passwords are being hashed.
        """
        links, begun = LinkService(self.db), self.db.in_transaction()
        owner = await links.owner(token, "reset_password")
        if not begun:
            await self.db.commit()
        await UserService(self.db).check_password(new, owner.email, owner, field="new")
        hashed = await self._security.passwords.hash(new)
        used = await links.consume(token, "reset_password")
        changed = await self._replace(used.user_id, used.security_version, hashed)
        if changed is None:
            raise InvalidTokenException
        if changed.email == used.email and changed.email_verified_at is None:
            changed.email_verified_at = utcnow()
        self.emit(PasswordReset(user_id=changed.id))
        return changed

    async def _check_current(self, principal: SessionPrincipal, user: BaseUser, password: str) -> None:
        begun = self.db.in_transaction()
        if not await self._security.passwords.verify(user.hashed_password, password):
            self.emit(PasswordRefused(user_id=user.id, session_id=principal.session_id))
            if not begun:
                await self.db.commit()  # The exception would roll it back.
            raise WrongPasswordException

    async def _replace(self, user_id: UUID, security_version: int, hashed: str) -> BaseUser | None:
        """Write a hash, if nothing ended the account's sessions since it was read; this does."""
        user, now = self._users, utcnow()
        changed: BaseUser | None = await self.db.scalar(
            update(user)
            .where(user.id == user_id, user.security_version == security_version, self._is_open)
            .values(hashed_password=hashed, password_changed_at=now, security_version=security_version + 1)
            .returning(user),
            execution_options=QUIET | FRESH,
        )
        return changed

"""PasswordService: asking for a password again, and giving an account a new one."""

from uuid import UUID

from sqlalchemy import update

from appkit.domain.events import PasswordChanged, UserReauthenticated
from appkit.exceptions import WrongPasswordException
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.sessions import FRESH, QUIET, SessionKeeper
from appkit.service.tokens import Principal, TokenPair
from appkit.service.users import UserService


class PasswordService(SessionKeeper):
    """What people prove themselves with.

    Nothing is read before hashing, so that nobody waits for a connection, nor for SQLite's writer, meanwhile.
    """

    async def confirm(self, principal: Principal, user: BaseUser, password: str) -> TokenPair:
        """Note that someone signed in has proved again who they are.

        Raises:
            WrongPasswordException: When that is not their password.
            SessionRevokedException: When their session has ended meanwhile.
            ServiceUnavailableException: When too many passwords are being hashed.
        """
        await self._check_current(user, password)
        tokens = await self._renew(principal, user)
        self.emit(UserReauthenticated(user_id=user.id, session_id=principal.session_id))
        return tokens

    async def change(self, principal: Principal, user: BaseUser, current: str, new: str) -> TokenPair:
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
        await self._check_current(user, current)
        UserService(self.db).check_password(new, user.email, user)
        hashed = await self._security.passwords.hash(new)
        changed = await self._replace(user.id, user.security_version, hashed)
        if changed is None:
            raise WrongPasswordException
        return await self._renew(principal, changed)

    async def _check_current(self, user: BaseUser, password: str) -> None:
        if not await self._security.passwords.verify(user.hashed_password, password):
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
        if changed is not None:
            self.emit(PasswordChanged(user_id=user_id))
        return changed

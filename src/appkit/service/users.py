"""UserService: creates, finds, lists, disables and promotes accounts."""

from typing import Any
from uuid import UUID

from sqlalchemy import literal, select, update
from sqlalchemy.exc import IntegrityError

from appkit.domain.emails import EmailAddress, parse_email
from appkit.domain.events import (
    AccountTakenOver,
    Event,
    PasswordResetForced,
    UserCreated,
    UserDemoted,
    UserDisabled,
    UserEnabled,
    UserPromoted,
)
from appkit.domain.password_policy import complaints
from appkit.exceptions import ConflictException, EmailTakenException, NotFoundException, UnprocessableException
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.errors import translate
from appkit.repository.pagination import KeysetPage, keyset_page
from appkit.repository.user import BaseUser
from appkit.service.base import FRESH, QUIET, BaseService
from appkit.service.hashing import Security


class UserService(BaseService):
    """The accounts of an app.

    Each method that gets a `user_id` raises `NotFoundException` if no account has this id, or the account is deleted.
    `by` is the superuser who makes a change, or None for the command line.
    """

    async def create(
        self, email: str, password: str | None, *, superuser: bool = False, verified: bool = False
    ) -> BaseUser:
        """Create an account. Without a password, its owner signs in by other means.

        Pass `verified` if the user has proved to own the e-mail address.

        Raises:
            EmailTakenException: When an account has this e-mail address, in upper or lower case.
            UnprocessableException: When the e-mail address or the password is not acceptable.
            ServiceUnavailableException: When too many passwords wait to be hashed.
        """
        # Only the INSERT checks whether the e-mail address is free. With a query before the INSERT, the response for a
        # taken address would come sooner and reveal the account. Also, two queries may both find the address free.
        address, now = _parse(email), utcnow()
        hashed = None
        if password is not None:
            await self.check_password(password, address.address)
            hashed = await Security.of(app_context(self.db)).passwords.hash(password)
        user = self.user_model(
            email=address.address,
            email_key=address.key,
            hashed_password=hashed,
            password_changed_at=now if hashed else None,
            email_verified_at=now if verified else None,
            is_superuser=superuser,
        )
        await self.save_address(user)
        self.emit(UserCreated(user_id=user.id, is_superuser=superuser))
        return user

    async def save_address(self, user: BaseUser) -> None:
        """Write an account with a new e-mail address.

        Raises:
            EmailTakenException: When another account has this e-mail address.
        """
        try:
            await self.save(user)
        except IntegrityError as exc:
            refused = translate(exc, BaseUser.metadata)
            if refused is None or [error["field"] for error in refused.extra["errors"]] != ["email_key"]:
                raise
            raise EmailTakenException from None

    async def find(self, email: str, *, lock: bool = False) -> BaseUser | None:
        """The account with this e-mail address, in upper or lower case; None if no account has it.

        With `lock`, the account's row is locked until the transaction ends.

        Raises:
            UnprocessableException: When `email` is not an e-mail address.
        """
        found = select(self.user_model).where(self.user_model.email_key == _parse(email).key)
        user: BaseUser | None = await self.db.scalar(found.with_for_update() if lock else found)
        return user

    async def take_over(self, user: BaseUser) -> None:
        """Let a user take over an account, after the user has proved that the e-mail address is theirs.

        Lock the account's row first. If the e-mail address was unverified, an attacker may have created the account.
        So the account's password, sign-in sessions and links become invalid. A verified
        account stays as it is.
        """
        if user.email_verified:
            return
        user.email_verified_at, user.hashed_password = utcnow(), None
        user.security_version += 1
        await self.save(user)
        self.emit(AccountTakenOver(user_id=user.id))

    async def get(self, user_id: UUID) -> BaseUser:
        """The account with this id."""
        return await self._one(user_id)

    async def page(
        self,
        *,
        q: str | None = None,
        active: bool | None = None,
        superuser: bool | None = None,
        verified: bool | None = None,
        cursor: str | None = None,
        size: int = 50,
    ) -> KeysetPage[BaseUser]:
        """A page of the accounts, the newest first.

        Args:
            q: Text that the e-mail address contains, in upper or lower case.
            active: True for enabled accounts only, False for disabled accounts only.
            superuser: True for superusers only, False for other users only.
            verified: True for accounts with a verified e-mail address only, False for all others.
            cursor: The `next_cursor` of the previous page.
            size: The maximum number of accounts.
        """
        model = self.user_model
        users = select(model).where(model.deleted_at.is_(None))
        if q:
            users = users.where(model.email.icontains(q, autoescape=True))
        is_verified = model.email_verified_at.is_not(None)
        for column, value in ((model.is_active, active), (model.is_superuser, superuser), (is_verified, verified)):
            if value is not None:
                users = users.where(column == literal(value))
        return await keyset_page(self.db, users, order=[model.id.desc()], cursor=cursor, size=size)

    async def disable(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Disable an account, and end all its sign-in sessions permanently.

        Raises:
            ConflictException: When superusers try to disable their own account.
        """
        if user_id == by:
            raise ConflictException("You can't disable your own account.")
        user = await self.void(user_id, is_active=False)
        self.emit(UserDisabled(user_id=user_id, by=by))
        return user

    async def enable(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Enable a disabled account."""
        return await self._change(user_id, UserEnabled(user_id=user_id, by=by), is_active=True)

    async def promote(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Make a user a superuser."""
        return await self._change(user_id, UserPromoted(user_id=user_id, by=by), is_superuser=True)

    async def demote(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Make a superuser an ordinary user."""
        return await self._change(user_id, UserDemoted(user_id=user_id, by=by), is_superuser=False)

    async def force_reset(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Remove an account's password, end its sign-in sessions, and mail the user a link to set a new password.

        Only the user chooses the new password and sees it (OWASP ASVS 6.4.6).
        """
        user = await self.void(user_id, hashed_password=None)
        self.emit(PasswordResetForced(user_id=user_id, by=by))
        return user

    async def void(self, user_id: UUID, **values: Any) -> BaseUser:
        """Invalidate all sign-in sessions and links of an account, and set these columns."""
        user = await self._one(user_id, lock=True)
        return await self._set(user, security_version=user.security_version + 1, **values)

    async def update_if_current(self, user_id: UUID, security_version: int, /, **values: Any) -> BaseUser | None:
        """Set columns of an enabled account with this security version. None if there is no such account."""
        user = self.user_model
        updated: BaseUser | None = await self.db.scalar(
            update(user)
            .where(user.id == user_id, user.security_version == security_version, user.is_open)
            .values(**values)
            .returning(user),
            execution_options=QUIET | FRESH,
        )
        return updated

    async def check_password(
        self, password: str, email: str, user: BaseUser | None = None, *, field: str = "password"
    ) -> None:
        """Check a new password against the password policy and the plugins.

        The password must not be the account's `email`. Without a `user`, the check is for a sign-up. `field` is the
        name of the request's field, for the error.

        Raises:
            UnprocessableException: When the password is not acceptable. The error has all reasons.
        """
        found = complaints(
            password,
            min_length=self.settings.auth.password_min_length,
            forbidden=(email, _parse(email).key, self.settings.app_name),
        )
        found += await self.plugins.gather("check_password", password=password, user=user, db=self.db)
        if found:
            raise _unacceptable("password", *found, field=field)

    async def _one(self, user_id: UUID, *, lock: bool = False) -> BaseUser:
        found = select(self.user_model).where(self.user_model.id == user_id, self.user_model.deleted_at.is_(None))
        user = await self.db.scalar(found.with_for_update() if lock else found)
        if user is None:
            raise NotFoundException
        return user

    async def _change(self, user_id: UUID, event: Event, **values: Any) -> BaseUser:
        user = await self.get(user_id)
        self.emit(event)
        return await self._set(user, **values)

    async def _set(self, user: BaseUser, **values: Any) -> BaseUser:
        for name, value in values.items():
            setattr(user, name, value)
        return await self.save(user)


def _parse(email: str) -> EmailAddress:
    try:
        return parse_email(email)
    except ValueError as exc:
        raise _unacceptable("email", str(exc)) from None


def _unacceptable(kind: str, *messages: str, field: str | None = None) -> UnprocessableException:
    problems = [{"field": field or kind, "message": message, "type": f"{kind}_unacceptable"} for message in messages]
    return UnprocessableException(" ".join(messages), extra={"errors": problems})

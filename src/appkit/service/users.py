"""UserService: creates, finds, lists, disables and promotes accounts."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, literal, select
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
from appkit.service.base import BaseService
from appkit.service.hashing import Security


class UserService(BaseService):
    """The accounts of an app."""

    async def create(
        self, email: str, password: str | None, *, superuser: bool = False, verified: bool = False
    ) -> BaseUser:
        """Create an account.

        Only writing the row shows whether the address is free. With a query first, a taken address would be answered
        faster, so the time would reveal the account. Also, two concurrent requests would both find the address free.

        Args:
            email: The e-mail address.
            password: As typed; None for an account that signs in by other means.
            superuser: Whether to make a superuser.
            verified: Whether the address is known to be the user's.

        Raises:
            EmailTakenException: When an account has this address, in upper or lower case.
            UnprocessableException: When the address or the password is not acceptable.
            ServiceUnavailableException: When too many passwords wait to be hashed.
        """
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
        """Write an account with a new address.

        Raises:
            EmailTakenException: When another account has this address.
        """
        try:
            await self.save(user)
        except IntegrityError as exc:
            refused = translate(exc, BaseUser.metadata)
            if refused is None or [error["field"] for error in refused.extra["errors"]] != ["email_key"]:
                raise
            raise EmailTakenException from None

    async def find(self, email: str, *, lock: bool = False) -> BaseUser | None:
        """The account with this address, in upper or lower case; None if there is none.

        Args:
            email: The e-mail address.
            lock: Lock the row until this transaction ends.

        Raises:
            UnprocessableException: When `email` is not an e-mail address.
        """
        found = select(self.user_model).where(self.user_model.email_key == _parse(email).key)
        user: BaseUser | None = await self.db.scalar(found.with_for_update() if lock else found)
        return user

    async def take_over(self, user: BaseUser) -> None:
        """Let users take over an account after they proved, other than by its password, that they own its address.

        If the address was not verified before, somebody else may have created the account and waited for its owner. So
        the account's password, sign-in sessions and links become invalid. A verified account stays as it is.

        Args:
            user: The account; lock its row.
        """
        if user.email_verified:
            return
        user.email_verified_at, user.hashed_password = utcnow(), None
        user.security_version += 1
        await self.save(user)
        self.emit(AccountTakenOver(user_id=user.id))

    async def get(self, user_id: UUID) -> BaseUser:
        """The account with this id.

        Raises:
            NotFoundException: When there is none, or it is deleted.
        """
        return await self._one(self.user_model.id == user_id)

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
        """A page of the accounts, newest first.

        Args:
            q: Text that the address contains, in upper or lower case.
            active: Only enabled accounts, or only disabled ones.
            superuser: Only superusers, or only other users.
            verified: Only accounts with a verified address, or only the others.
            cursor: The `next_cursor` of the previous page.
            size: The largest number of accounts.
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
        """Disable an account and end all its sign-in sessions; enabling it again doesn't restore them.

        Args:
            user_id: The account.
            by: The superuser, whose id can't be `user_id`; None for the command line, as in the methods below.

        Raises:
            NotFoundException: When there is no account with this id.
            ConflictException: When the account is the superuser's own.
        """
        if user_id == by:
            raise ConflictException("You can't disable your own account.")
        user = await self.void(user_id, is_active=False)
        self.emit(UserDisabled(user_id=user_id, by=by))
        return user

    async def enable(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Enable a disabled account.

        Raises:
            NotFoundException: When there is no account with this id.
        """
        return await self._change(user_id, UserEnabled(user_id=user_id, by=by), is_active=True)

    async def promote(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Make a user a superuser.

        Raises:
            NotFoundException: When there is no account with this id.
        """
        return await self._change(user_id, UserPromoted(user_id=user_id, by=by), is_superuser=True)

    async def demote(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Make a superuser an ordinary user.

        Raises:
            NotFoundException: When there is no account with this id.
        """
        return await self._change(user_id, UserDemoted(user_id=user_id, by=by), is_superuser=False)

    async def force_reset(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Remove an account's password, end its sign-in sessions, and mail the user a link to set a new password.

        Only the user ever chooses or sees their password (OWASP ASVS 6.4.6).

        Raises:
            NotFoundException: When there is no account with this id.
        """
        user = await self.void(user_id, hashed_password=None)
        self.emit(PasswordResetForced(user_id=user_id, by=by))
        return user

    async def void(self, user_id: UUID, **values: Any) -> BaseUser:
        """Invalidate all sign-in sessions and links of an account, and set these columns.

        Raises:
            NotFoundException: When there is no account with this id.
        """
        user = await self._one(self.user_model.id == user_id, lock=True)
        return await self._set(user, security_version=user.security_version + 1, **values)

    async def check_password(
        self, password: str, email: str, user: BaseUser | None = None, *, field: str = "password"
    ) -> None:
        """Check a new password against the password policy and the plugins.

        Args:
            password: As typed.
            email: The account's address, which must not be the password.
            user: The user; None at sign-up.
            field: The name of the request's field, for the error.

        Raises:
            UnprocessableException: When the password is not acceptable, with all reasons.
        """
        found = complaints(
            password,
            min_length=self.settings.auth.password_min_length,
            forbidden=(email, _parse(email).key, self.settings.app_name),
        )
        found += await self.plugins.gather("check_password", password=password, user=user, db=self.db)
        if found:
            raise _unacceptable("password", *found, field=field)

    async def _one(self, which: ColumnElement[bool], *, lock: bool = False) -> BaseUser:
        found = select(self.user_model).where(which, self.user_model.deleted_at.is_(None))
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

"""UserService: making accounts, and looking after them."""

from uuid import UUID

from sqlalchemy import ColumnElement, literal, select
from sqlalchemy.exc import IntegrityError

from appkit.domain.emails import EmailAddress, parse_email
from appkit.domain.events import (
    AccountClaimed,
    PasswordResetForced,
    UserCreated,
    UserDemoted,
    UserDisabled,
    UserEnabled,
    UserPromoted,
)
from appkit.domain.passwords import complaints
from appkit.exceptions import ConflictException, EmailTakenException, NotFoundException, UnprocessableException
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.errors import translate
from appkit.repository.pagination import KeysetPage, keyset_page
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService
from appkit.service.security import Security


class UserService(BaseService):
    """The people who may sign in."""

    async def create(
        self, email: str, password: str | None, *, superuser: bool = False, verified: bool = False
    ) -> BaseUser:
        """Make an account.

        Whether the address is free shows only when the row is written: asking first would be quicker for
        a taken one, which tells who has an account, and two at once would both be told that it is free.

        Args:
            email: The address.
            password: As it was typed; None for somebody who signs in by other means.
            superuser: Whether they may do everything.
            verified: Whether it is known that the address is theirs.

        Raises:
            EmailTakenException: When there is an account with this address, however its case.
            UnprocessableException: When the address or the password is not acceptable.
            ServiceUnavailableException: When too many passwords are being hashed.
        """
        address, now = _parse(email), utcnow()
        hashed = None
        if password is not None:
            await self.check_password(password, address.address)
            hashed = await Security.of(app_context(self.db)).passwords.hash(password)
        user = self._model(
            email=address.address,
            email_key=address.key,
            hashed_password=hashed,
            password_changed_at=now if hashed else None,
            email_verified_at=now if verified else None,
            is_superuser=superuser,
        )
        try:
            await self.save(user)
        except IntegrityError as exc:
            if not is_email_taken(exc):
                raise
            raise EmailTakenException from None
        self.emit(UserCreated(user_id=user.id, is_superuser=superuser))
        return user

    async def find(self, email: str, *, lock: bool = False) -> BaseUser | None:
        """The account with this address, however its case; None where nobody has it.

        Args:
            email: The address.
            lock: Keep others from changing the account until this transaction ends.

        Raises:
            UnprocessableException: When it is no address.
        """
        found = select(self._model).where(self._model.email_key == _parse(email).key)
        user: BaseUser | None = await self.db.scalar(found.with_for_update() if lock else found)
        return user

    async def claim(self, user: BaseUser) -> None:
        """Give an account to whoever just proved that its address is theirs, by other means than its password.

        Where the address had not been verified, somebody else may have made the account, to wait for its owner:
        its password, its sessions and its links are void. A verified account stays as it is.

        Args:
            user: The account; lock its row.
        """
        if user.email_verified:
            return
        user.email_verified_at, user.hashed_password = utcnow(), None
        user.security_version += 1
        await self.save(user)
        self.emit(AccountClaimed(user_id=user.id))

    async def get(self, user_id: UUID) -> BaseUser:
        """One account.

        Raises:
            NotFoundException: When there is none with this id.
        """
        return await self._one(self._model.id == user_id)

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
        """A page of the accounts, the youngest first.

        Args:
            q: What their address contains, whatever its case.
            active: Only those who may sign in, or may not.
            superuser: Only superusers, or the others.
            verified: Only those whose address is verified, or isn't.
            cursor: The `next_cursor` of the page before.
            size: How many at the most.
        """
        model = self._model
        users = select(model).where(model.deleted_at.is_(None))
        if q:
            users = users.where(model.email.icontains(q, autoescape=True))
        is_verified = model.email_verified_at.is_not(None)
        for column, value in ((model.is_active, active), (model.is_superuser, superuser), (is_verified, verified)):
            if value is not None:
                users = users.where(column == literal(value))
        return await keyset_page(self.db, users, order=[model.id.desc()], cursor=cursor, size=size)

    async def disable(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Lock someone out: all their sessions end at once, and stay ended when they are enabled again.

        Args:
            user_id: Whom.
            by: Who does it; nobody can lock themselves out. None is the command line, here as below.

        Raises:
            NotFoundException: When there is nobody with this id.
            ConflictException: When it is oneself.
        """
        if user_id == by:
            raise ConflictException("You can't disable your own account.")
        user = await self.void(user_id, is_active=False)
        self.emit(UserDisabled(user_id=user_id, by=by))
        return user

    async def enable(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Let someone sign in again.

        Raises:
            NotFoundException: When there is nobody with this id.
        """
        user = await self.get(user_id)
        user.is_active = True
        self.emit(UserEnabled(user_id=user_id, by=by))
        return await self.save(user)

    async def promote(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Make someone a superuser.

        Raises:
            NotFoundException: When there is nobody with this id.
        """
        user = await self.get(user_id)
        user.is_superuser = True
        self.emit(UserPromoted(user_id=user_id, by=by))
        return await self.save(user)

    async def demote(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Make a superuser an ordinary user.

        Raises:
            NotFoundException: When there is nobody with this id.
        """
        user = await self.get(user_id)
        user.is_superuser = False
        self.emit(UserDemoted(user_id=user_id, by=by))
        return await self.save(user)

    async def force_reset(self, user_id: UUID, *, by: UUID | None = None) -> BaseUser:
        """Take somebody's password away: all their sessions end, and a mail has a link to set a new one.

        Nobody else ever chooses or sees a password (OWASP ASVS 6.4.6).

        Raises:
            NotFoundException: When there is nobody with this id.
        """
        user = await self.void(user_id, hashed_password=None)
        self.emit(PasswordResetForced(user_id=user_id, by=by))
        return user

    async def void(self, user_id: UUID, **values: object) -> BaseUser:
        """Make all sessions and links of an account void, and change its columns as given.

        Raises:
            NotFoundException: When there is nobody with this id.
        """
        user = await self._one(self._model.id == user_id, lock=True)
        for name, value in {"security_version": user.security_version + 1, **values}.items():
            setattr(user, name, value)
        return await self.save(user)

    async def _one(self, which: ColumnElement[bool], *, lock: bool = False) -> BaseUser:
        found = select(self._model).where(which, self._model.deleted_at.is_(None))
        user = await self.db.scalar(found.with_for_update() if lock else found)
        if user is None:
            raise NotFoundException
        return user

    async def check_password(
        self, password: str, email: str, user: BaseUser | None = None, *, field: str = "password"
    ) -> None:
        """See that a new password is acceptable.

        Args:
            password: As it was typed.
            email: The account's address, which is no password.
            user: Whose it will be; None at sign-up.
            field: What the request calls it, for whoever shows what is wrong beside it.

        Raises:
            UnprocessableException: When it isn't, with all that is wrong with it.
        """
        found = complaints(
            password,
            min_length=self.settings.auth.password_min_length,
            forbidden=(email, _parse(email).key, self.settings.app_name),
        )
        found += await self.plugins.gather("check_password", password=password, user=user, db=self.db)
        if found:
            raise _unacceptable("password", *found, field=field)

    @property
    def _model(self) -> type[BaseUser]:
        return app_context(self.db).user_model


def is_email_taken(exc: IntegrityError) -> bool:
    """Whether the database refused a row because somebody has its address."""
    refused = translate(exc, BaseUser.metadata)
    return refused is not None and [error["field"] for error in refused.extra["errors"]] == ["email_key"]


def _parse(email: str) -> EmailAddress:
    try:
        return parse_email(email)
    except ValueError as exc:
        raise _unacceptable("email", str(exc)) from None


def _unacceptable(kind: str, *messages: str, field: str | None = None) -> UnprocessableException:
    problems = [{"field": field or kind, "message": message, "type": f"{kind}_unacceptable"} for message in messages]
    return UnprocessableException(" ".join(messages), extra={"errors": problems})

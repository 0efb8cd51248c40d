"""AccountService and EmailService: profile, data export, account deletion, and changes of the e-mail address."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, inspect, select, update
from sqlalchemy.orm import Mapper

from appkit.domain.emails import parse_email
from appkit.domain.events import (
    EmailChanged,
    EmailChangeRequested,
    EmailVerificationRequested,
    EmailVerified,
    UserDeleted,
    UserExported,
)
from appkit.exceptions import InvalidTokenException
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.base import QUIET, BaseService
from appkit.service.links import LinkService
from appkit.service.users import UserService

SECRET_COLUMNS: Final = frozenset({"email_key", "hashed_password", "security_version"})
"""Columns that an export leaves out."""


class AccountService(BaseService):
    """Changes the profile of an account, exports its data, and deletes it."""

    async def change(self, user_id: UUID, profile: Mapping[str, Any]) -> BaseUser:
        """Change a user's profile. Pass columns of the user model's `profile` with their new values.

        Raises:
            NotFoundException: When the account is deleted.
        """
        user = await UserService(self.db).get(user_id)
        for name, value in profile.items():
            setattr(user, name, value)
        return await self.save(user)

    async def delete_account(self, user_id: UUID) -> None:
        """Delete an account's personal data, sign-in sessions and links. The e-mail address can be used again.

        The account's row stays, because other rows may reference it. If the app keeps more data about users, let a
        subscriber of `UserDeleted` delete that data.

        Raises:
            NotFoundException: When the account is already deleted.
        """
        user = await UserService(self.db).void(user_id)
        self.emit(UserDeleted(user_id=user_id, email=user.email))
        user.email = user.email_key = f"{user_id}@deleted.invalid"
        user.hashed_password = user.email_verified_at = user.last_signin_at = None
        user.is_active = user.is_superuser = False
        user.deleted_at = utcnow()
        for name in user.profile.model_fields if user.profile else ():
            if inspect(type(user)).columns[name].nullable:
                setattr(user, name, None)
        await self.save(user)
        for rows in (AuthSession, AuthToken):
            await self.db.execute(delete(rows).where(rows.user_id == user_id))

    async def export(self, user: BaseUser) -> dict[str, Any]:
        """All data that appkit and plugins with `export_account()` keep about a user."""
        self.emit(UserExported(user_id=user.id))
        await self.db.flush()  # Write before reading: SQLite may refuse a write after a read in the same transaction.
        sessions = await self.db.scalars(select(AuthSession).where(AuthSession.user_id == user.id))
        return {
            "user": _values(user),
            "sessions": [_values(session) for session in sessions],
            **dict(await self.plugins.gather("export_account", user=user, db=self.db)),
        }


class EmailService(BaseService):
    """Verifies and changes the e-mail address of an account by mailed links."""

    def ask_to_verify(self, user: BaseUser) -> None:
        """Request another mail with a link to verify the e-mail address. For a verified address, this does nothing."""
        if not user.email_verified:
            self.emit(EmailVerificationRequested(user_id=user.id))

    async def verify(self, token: str) -> None:
        """Mark the e-mail address as verified.

        Raises:
            InvalidTokenException: When the link is used, expired or revoked.
        """
        used = await LinkService(self.db).consume(token, "verify_email")
        user = self.user_model
        verified = await self.db.scalar(
            update(user)
            .where(user.id == used.user_id, user.email == used.email)
            .values(email_verified_at=utcnow())
            .returning(user.id),
            execution_options=QUIET,
        )
        if verified is None:
            raise InvalidTokenException
        self.emit(EmailVerified(user_id=used.user_id))

    def ask_to_change(self, user: BaseUser, email: str) -> None:
        """Request a mail with a link to use another e-mail address. Until the link is used, nothing changes."""
        self.emit(EmailChangeRequested(user_id=user.id, email=email))

    async def change(self, token: str) -> None:
        """Change the account's e-mail address to the address that the link was mailed to.

        The new address is read from the token's row, so that no later request can replace it (CVE-2026-32700). All
        other links of the account become invalid.

        Raises:
            InvalidTokenException: When the link is used, expired or revoked.
            EmailTakenException: When another account has taken the e-mail address.
        """
        links, model = LinkService(self.db), self.user_model
        used = await links.consume(token, "change_email")
        user = await self.db.scalar(select(model).where(model.id == used.user_id, model.is_open).with_for_update())
        if user is None or used.email is None:
            raise InvalidTokenException
        address, old = parse_email(used.email), user.email
        user.email, user.email_key, user.email_verified_at = address.address, address.key, utcnow()
        await UserService(self.db).save_address(user)
        await links.void(user.id)
        self.emit(EmailChanged(user_id=user.id, old_email=old))


def _values(row: object) -> dict[str, Any]:
    mapper: Mapper[Any] = inspect(type(row))
    return {each.key: getattr(row, each.key) for each in mapper.column_attrs if each.key not in SECRET_COLUMNS}

"""AccountService: what people do with their own account: their profile, a copy of it all, and its end."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, inspect, select
from sqlalchemy.orm import Mapper

from appkit.domain.events import UserDeleted, UserExported
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.sessions import SessionKeeper
from appkit.service.users import UserService

SECRET_COLUMNS: Final = frozenset({"email_key", "hashed_password", "security_version"})
"""Columns that are about how an account is kept rather than about whose it is."""


class AccountService(SessionKeeper):
    """Accounts, as their owners look after them."""

    async def change(self, user_id: UUID, profile: Mapping[str, Any]) -> BaseUser:
        """Change what somebody says of themselves.

        Args:
            user_id: Who.
            profile: Columns that a user model's `profile` names, and their values.

        Raises:
            NotFoundException: When they are gone.
        """
        user = await UserService(self.db).get(user_id)
        for name, value in profile.items():
            setattr(user, name, value)
        return await self.save(user)

    async def delete_account(self, user_id: UUID) -> None:
        """Delete somebody's account: their address, password, sessions and links go, and the address is free again.

        The row stays, empty, for what refers to it. What an app keeps besides goes when it hears of `UserDeleted`.

        Raises:
            NotFoundException: When they are gone.
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
        """Everything that is kept about somebody: here, and by plugins' `export_account()`."""
        self.emit(UserExported(user_id=user.id))
        await self.db.flush()  # Before anything is read: on SQLite, a reader that writes later may be refused.
        sessions = await self.db.scalars(select(AuthSession).where(AuthSession.user_id == user.id))
        return {
            "user": _values(user),
            "sessions": [_values(session) for session in sessions],
            **dict(await self.plugins.gather("export_account", user=user, db=self.db)),
        }


def _values(row: object) -> dict[str, Any]:
    mapper: Mapper[Any] = inspect(type(row))
    return {name: getattr(row, name) for name in mapper.column_attrs.keys() if name not in SECRET_COLUMNS}  # noqa: SIM118

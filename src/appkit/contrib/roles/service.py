"""RoleService: define, grant and check roles. Also `require_permission`, and the tables, errors and events."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Depends
from sqlalchemy import ForeignKey, String, UniqueConstraint, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseService, BaseTableModel, BaseUser, DbSession, Event, Repository, UserService, require
from appkit.exceptions import ForbiddenException, NotFoundException


class PermissionMissingException(ForbiddenException):
    """None of the user's roles has the permission."""

    internal_code = 40275
    detail = "None of your roles permits this."


class Role(BaseTableModel):
    """A named set of permissions."""

    name: Mapped[str] = mapped_column(String(64), unique=True)
    permissions: Mapped[list[str]]
    """Names such as `posts:publish`. `posts:*` covers each permission that starts with `posts:`. `*` covers all."""


class UserRole(BaseTableModel):
    """A user has a role."""

    __table_args__ = (UniqueConstraint("user_id", "role_id"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    role_id: Mapped[UUID] = mapped_column(ForeignKey("role.id", ondelete="CASCADE"), index=True)


class _RoleEvent(Event):
    """Base class of the events about one role."""

    role: str
    by: UUID | None
    """The superuser who did this; None for the command line."""


class RoleDefined(_RoleEvent):
    """A role was created, or its permissions were replaced."""

    permissions: list[str]


class RoleRemoved(_RoleEvent):
    """A role was deleted, and withdrawn from everybody."""


class RoleGranted(_RoleEvent):
    """A user was granted a role."""

    user_id: UUID


class RoleWithdrawn(_RoleEvent):
    """A role was withdrawn from a user."""

    user_id: UUID


class RoleService(BaseService):
    """Roles and their users."""

    async def all(self) -> Sequence[Role]:
        """All roles, ordered by name."""
        return await Repository[Role](self.db).list(order=[Role.name])

    async def of(self, user_id: UUID) -> Sequence[Role]:
        """The roles of a user, ordered by name."""
        mine = select(UserRole.role_id).where(UserRole.user_id == user_id)
        return await Repository[Role](self.db).list(Role.id.in_(mine), order=[Role.name])

    async def define(self, name: str, permissions: Sequence[str], *, by: UUID | None = None) -> Role:
        """Create a role, or replace its permissions."""
        role = await Repository[Role](self.db).first(Role.name == name) or Role(name=name)
        role.permissions = sorted(set(permissions))
        self.emit(RoleDefined(role=name, permissions=role.permissions, by=by))
        return await self.save(role)

    async def remove(self, name: str, *, by: UUID | None = None) -> None:
        """Delete a role, and withdraw it from everybody.

        Raises:
            NotFoundException: When there is no such role.
        """
        role = await self._get(name)
        await self.db.execute(delete(UserRole).where(UserRole.role_id == role.id))
        await self.delete(role)
        self.emit(RoleRemoved(role=name, by=by))

    async def grant(self, user_id: UUID, name: str, *, by: UUID | None = None) -> None:
        """Grant a user a role. Nothing happens when the user already has the role.

        Raises:
            NotFoundException: When there is no such role or user.
        """
        role = await self._get(name)
        await UserService(self.db).get(user_id)
        if role not in await self.of(user_id):
            await self.save(UserRole(user_id=user_id, role_id=role.id))
            self.emit(RoleGranted(user_id=user_id, role=name, by=by))

    async def withdraw(self, user_id: UUID, name: str, *, by: UUID | None = None) -> None:
        """Withdraw a role from a user.

        Raises:
            NotFoundException: When there is no such role, or the user doesn't have the role.
        """
        role = await self._get(name)
        grants = Repository[UserRole](self.db)
        if not await grants.delete_where(UserRole.user_id == user_id, UserRole.role_id == role.id):
            raise NotFoundException
        self.emit(RoleWithdrawn(user_id=user_id, role=name, by=by))

    async def allows(self, user: BaseUser, permission: str) -> bool:
        """Whether a user has a permission, through a role or as a superuser."""
        if user.is_superuser:
            return True
        return any(_covers(held, permission) for role in await self.of(user.id) for held in role.permissions)

    async def _get(self, name: str) -> Role:
        role = await Repository[Role](self.db).first(Role.name == name)
        if role is None:
            raise NotFoundException(f"There is no role {name}.")
        return role


def require_permission(permission: str) -> Callable[..., Awaitable[BaseUser]]:
    """A dependency that returns the signed-in user if they have this permission. Superusers have all permissions.

        @router.post("/{id}/publish", dependencies=[Depends(require_permission("posts:publish"))])

    An API key with scopes must also have the permission as a scope.

    Raises:
        UnauthorizedException: When nobody is signed in.
        ScopeMissingException: When the credentials lack the scope.
        PermissionMissingException: When none of the user's roles has the permission.
    """

    async def check(user: Annotated[BaseUser, Depends(require(scopes=[permission]))], db: DbSession) -> BaseUser:
        if not await RoleService(db).allows(user, permission):
            raise PermissionMissingException(f"This needs the permission {permission}.")
        return user

    return check


def _covers(held: str, permission: str) -> bool:
    return held in {permission, "*"} or (held.endswith(":*") and permission.startswith(held[:-1]))

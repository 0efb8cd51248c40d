"""Roles: named sets of permissions, such as `posts:publish`. Superusers grant roles to users.

Turn it on with `AppKit(plugins=[roles])`. It needs no further package.
"""

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from appkit import AppKit, BaseUser, hookimpl
from appkit.contrib.roles.routes import router
from appkit.contrib.roles.service import RoleService, require_permission as require_permission

if TYPE_CHECKING:
    from typer import Typer


@hookimpl
def register_routers() -> list[APIRouter]:
    """Serve `/roles`, `/users/{user_id}/roles` and `/auth/me/roles`."""
    return [router]


@hookimpl
async def export_account(user: BaseUser, db: AsyncSession) -> list[tuple[str, Any]]:
    """Add the names of the user's roles."""
    return [("roles", [role.name for role in await RoleService(db).of(user.id)])]


@hookimpl
def register_commands(cli: "Typer", kit: AppKit) -> None:
    """Add `appkit roles`."""
    from appkit.contrib.roles.commands import create_cli

    cli.add_typer(create_cli(kit), name="roles")

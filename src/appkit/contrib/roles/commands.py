"""`appkit roles`: commands that define roles and grant them."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import UUID

import anyio
import typer
from pydantic import TypeAdapter, ValidationError

from appkit import AppKit, UserService
from appkit.contrib.roles.routes import Name, Permission
from appkit.contrib.roles.service import RoleService
from appkit.exceptions import AppKitError, NotFoundException

T = TypeVar("T")
Email = Annotated[str, typer.Argument(help="The user's e-mail address.")]


def create_cli(kit: AppKit) -> typer.Typer:
    """The `roles` commands of an app."""
    cli = typer.Typer(help="Manage roles.", no_args_is_help=True)

    def run(work: Callable[[RoleService], Awaitable[T]]) -> T:
        async def serve() -> T:
            async with kit.lifespan(work=False), kit.session() as db:
                return await work(RoleService(db))

        return anyio.run(serve)

    @cli.command(name="list")
    def list_roles() -> None:
        """List the roles and their permissions."""
        for role in run(RoleService.all):
            typer.echo(f"{role.name}: {', '.join(role.permissions)}")

    @cli.command()
    def define(name: str, permissions: list[str]) -> None:
        """Create a role, or replace its permissions, as in `define editor posts:*`."""
        try:
            TypeAdapter(tuple[Name, list[Permission]]).validate_python((name, permissions))
        except ValidationError:
            message = "Invalid name. Write a role as editor, and a permission as posts:publish, posts:* or *."
            raise AppKitError(message) from None
        role = run(lambda roles: roles.define(name, permissions))
        typer.echo(f"Role {name} now has the permissions {', '.join(role.permissions)}.")

    @cli.command()
    def remove(name: str) -> None:
        """Delete a role, and withdraw it from everybody."""
        run(lambda roles: roles.remove(name))
        typer.echo(f"Role {name} is deleted.")

    @cli.command()
    def grant(email: Email, name: str) -> None:
        """Grant a user a role."""
        run(lambda roles: _change(roles, roles.grant, email, name))
        typer.echo(f"{email} now has the role {name}.")

    @cli.command()
    def withdraw(email: Email, name: str) -> None:
        """Withdraw a role from a user."""
        run(lambda roles: _change(roles, roles.withdraw, email, name))
        typer.echo(f"{email} no longer has the role {name}.")

    return cli


async def _change(roles: RoleService, change: Callable[[UUID, str], Awaitable[None]], email: str, name: str) -> None:
    user = await UserService(roles.db).find(email)
    if user is None:
        raise NotFoundException(f"There is no user {email}. List users with `appkit users list`.")
    await change(user.id, name)

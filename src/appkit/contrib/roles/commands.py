"""`appkit roles`: what people may do, at a terminal."""

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
Email = Annotated[str, typer.Argument(help="The e-mail address they sign in with.")]


def create_cli(kit: AppKit) -> typer.Typer:
    """The commands, for an app."""
    cli = typer.Typer(help="Look after what people may do.", no_args_is_help=True)

    def run(work: Callable[[RoleService], Awaitable[T]]) -> T:
        async def serve() -> T:
            async with kit.lifespan(work=False), kit.session() as db:
                return await work(RoleService(db))

        return anyio.run(serve)

    @cli.command(name="list")
    def list_roles() -> None:
        """List the roles, and what they let people do."""
        for role in run(RoleService.all):
            typer.echo(f"{role.name}: {', '.join(role.permissions)}")

    @cli.command()
    def define(name: str, permissions: list[str]) -> None:
        """Make a role, or change what it lets people do, as in `define editor posts:*`."""
        _check(name, permissions)
        role = run(lambda roles: roles.define(name, permissions))
        typer.echo(f"{name} may do {', '.join(role.permissions)} now.")

    @cli.command()
    def remove(name: str) -> None:
        """Delete a role, and take it from all who have it."""
        run(lambda roles: roles.remove(name))
        typer.echo(f"There is no role {name} any more.")

    @cli.command()
    def grant(email: Email, name: str) -> None:
        """Give somebody a role."""
        run(lambda roles: _grant(roles, email, name))
        typer.echo(f"{email} is {name} now.")

    @cli.command()
    def withdraw(email: Email, name: str) -> None:
        """Take a role from somebody."""
        run(lambda roles: _withdraw(roles, email, name))
        typer.echo(f"{email} is {name} no more.")

    return cli


async def _grant(roles: RoleService, email: str, name: str) -> None:
    await roles.grant(await _find(roles, email), name)


async def _withdraw(roles: RoleService, email: str, name: str) -> None:
    await roles.withdraw(await _find(roles, email), name)


async def _find(roles: RoleService, email: str) -> UUID:
    user = await UserService(roles.db).find(email)
    if user is None:
        raise NotFoundException(f"Nobody has the address {email}.")
    return user.id


def _check(name: str, permissions: list[str]) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
        TypeAdapter(list[Permission]).validate_python(permissions)
    except ValidationError:
        raise AppKitError("Write a role as in editor, and permissions as in posts:publish, posts:* or *.") from None

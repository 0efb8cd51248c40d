"""`appkit users`: the people who may sign in."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import KitOption

if TYPE_CHECKING:
    from appkit.repository.user import BaseUser
    from appkit.service.users import UserService

Email = Annotated[str, typer.Argument(help="The e-mail address they sign in with.")]

cli = typer.Typer(help="Look after the people who sign in.", no_args_is_help=True)


@cli.command()
def create(
    email: Email,
    *,
    superuser: Annotated[bool, typer.Option("--superuser", help="They may do everything.")] = False,
    kit: KitOption = None,
) -> None:
    """Make an account; the password is asked for, or read from standard input."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    user = _run(kit, lambda users: users.create(email, password, superuser=superuser))
    typer.echo(f"{user.email} can sign in now.")


@cli.command()
def promote(email: Email, *, kit: KitOption = None) -> None:
    """Make someone a superuser."""
    user = _run(kit, lambda users: users.promote(email))
    typer.echo(f"{user.email} is a superuser now.")


def _run(target: str | None, work: "Callable[[UserService], Awaitable[BaseUser]]") -> "BaseUser":
    import anyio

    from appkit.service.users import UserService

    kit = find_kit(target).kit

    async def serve() -> "BaseUser":
        async with kit.lifespan(work=False), kit.session() as db:
            return await work(UserService(db))

    return anyio.run(serve)

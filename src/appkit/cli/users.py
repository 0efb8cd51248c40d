"""`appkit users`: the people who may sign in."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import AsJson, KitOption, show as print_rows

if TYPE_CHECKING:
    from uuid import UUID

    from appkit.repository.user import BaseUser
    from appkit.service.users import UserService

T = TypeVar("T")
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


@cli.command(name="list")
def list_users(
    q: Annotated[str | None, typer.Argument(help="Only addresses that contain this.")] = None,
    *,
    active: Annotated[
        bool | None, typer.Option("--active/--disabled", help="Only those who may sign in, or not.")
    ] = None,
    superuser: Annotated[bool | None, typer.Option("--superusers/--others", help="Only superusers, or others.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at the most.")] = 50,
    kit: KitOption = None,
    as_json: AsJson = False,
) -> None:
    """List the people who may sign in, the youngest account first."""
    page = _run(kit, lambda users: users.page(q=q, active=active, superuser=superuser, size=limit))
    print_rows([_describe(user) for user in page.items], as_json=as_json)


@cli.command()
def show(email: Email, *, kit: KitOption = None, as_json: AsJson = False) -> None:
    """Show one of them."""
    print_rows([_describe(_run(kit, lambda users: _find(users, email)))], as_json=as_json)


@cli.command()
def promote(email: Email, *, kit: KitOption = None) -> None:
    """Make someone a superuser."""
    _change(kit, email, lambda users, user_id: users.promote(user_id), "{} is a superuser now.")


@cli.command()
def demote(email: Email, *, kit: KitOption = None) -> None:
    """Make a superuser an ordinary user."""
    _change(kit, email, lambda users, user_id: users.demote(user_id), "{} is no superuser any more.")


@cli.command()
def disable(email: Email, *, kit: KitOption = None) -> None:
    """Lock someone out; all their sessions end."""
    _change(kit, email, lambda users, user_id: users.disable(user_id), "{} can't sign in any more.")


@cli.command()
def enable(email: Email, *, kit: KitOption = None) -> None:
    """Let someone sign in again."""
    _change(kit, email, lambda users, user_id: users.enable(user_id), "{} can sign in again.")


@cli.command()
def reset(email: Email, *, kit: KitOption = None) -> None:
    """Take someone's password away, end their sessions, and mail them a link to set a new one."""
    _change(kit, email, lambda users, user_id: users.force_reset(user_id), "{} gets a mail to set a new password.")


@cli.command()
def revoke(email: Email, *, kit: KitOption = None) -> None:
    """End all of someone's sessions; they may sign in again."""

    async def revoke_all(users: "UserService", user_id: "UUID") -> None:
        from appkit.service.sessions import SessionService

        await SessionService(users.db).revoke_all(user_id)

    _change(kit, email, revoke_all, "{} is signed out everywhere.")


def _change(
    kit: str | None, email: str, work: "Callable[[UserService, UUID], Awaitable[object]]", outcome: str
) -> None:
    async def find_and_change(users: "UserService") -> "BaseUser":
        user = await _find(users, email)
        await work(users, user.id)
        return user

    typer.echo(outcome.format(_run(kit, find_and_change).email))


async def _find(users: "UserService", email: str) -> "BaseUser":
    from appkit.exceptions import NotFoundException

    if (user := await users.find(email)) is None:
        raise NotFoundException("Nobody has this e-mail address.")
    return user


def _describe(user: "BaseUser") -> dict[str, object]:
    return {
        "email": user.email,
        "id": str(user.id),
        "active": user.is_active,
        "superuser": user.is_superuser,
        "verified": user.email_verified,
        "last_signin_at": user.last_signin_at and user.last_signin_at.isoformat(timespec="seconds"),
    }


def _run(target: str | None, work: "Callable[[UserService], Awaitable[T]]") -> T:
    import anyio

    from appkit.service.users import UserService

    kit = find_kit(target).kit

    async def serve() -> T:
        async with kit.lifespan(work=False), kit.session() as db:
            return await work(UserService(db))

    return anyio.run(serve)

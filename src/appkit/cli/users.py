"""`appkit users`: list, create, change and disable accounts."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from appkit.cli.discovery import find_kit, run_in_session
from appkit.cli.output import AsJson, KitOption, show as print_rows

if TYPE_CHECKING:
    from uuid import UUID

    from appkit.repository.user import BaseUser
    from appkit.service.users import UserService

T = TypeVar("T")
Email = Annotated[str, typer.Argument(help="The user's e-mail address.")]

cli = typer.Typer(help="Manage users.", no_args_is_help=True)


@cli.command()
def create(
    email: Email,
    *,
    superuser: Annotated[
        bool, typer.Option("--superuser", help="Make the user a superuser. Superusers may do everything.")
    ] = False,
    kit: KitOption = None,
) -> None:
    """Create a user. Enter the password at the prompt, or pass it on standard input."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    user = _run(kit, lambda users: users.create(email, password, superuser=superuser))
    typer.echo(f"{user.email} can now sign in.")


@cli.command(name="list")
def list_users(
    q: Annotated[str | None, typer.Argument(help="Only users whose e-mail address contains this text.")] = None,
    *,
    active: Annotated[
        bool | None, typer.Option("--active/--disabled", help="Only users who can sign in, or only disabled users.")
    ] = None,
    superuser: Annotated[
        bool | None, typer.Option("--superusers/--others", help="Only superusers, or only other users.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="The maximum number of users.")] = 50,
    kit: KitOption = None,
    as_json: AsJson = False,
) -> None:
    """List users, the newest first."""
    page = _run(kit, lambda users: users.page(q=q, active=active, superuser=superuser, size=limit))
    print_rows([_describe(user) for user in page.items], as_json=as_json)


@cli.command()
def show(email: Email, *, kit: KitOption = None, as_json: AsJson = False) -> None:
    """Show one user."""
    print_rows([_describe(_run(kit, lambda users: _find(users, email)))], as_json=as_json)


@cli.command()
def promote(email: Email, *, kit: KitOption = None) -> None:
    """Make a user a superuser."""
    _change(kit, email, lambda users, user_id: users.promote(user_id), "{} is now a superuser.")


@cli.command()
def demote(email: Email, *, kit: KitOption = None) -> None:
    """Make a superuser an ordinary user."""
    _change(kit, email, lambda users, user_id: users.demote(user_id), "{} is no longer a superuser.")


@cli.command()
def disable(email: Email, *, kit: KitOption = None) -> None:
    """Disable a user, and end all sign-in sessions of the user."""
    _change(kit, email, lambda users, user_id: users.disable(user_id), "{} can no longer sign in.")


@cli.command()
def enable(email: Email, *, kit: KitOption = None) -> None:
    """Let a disabled user sign in again."""
    _change(kit, email, lambda users, user_id: users.enable(user_id), "{} can sign in again.")


@cli.command()
def reset(email: Email, *, kit: KitOption = None) -> None:
    """Remove a user's password, end their sign-in sessions, and mail them a link to set a new password."""
    _change(kit, email, lambda users, user_id: users.force_reset(user_id), "{} gets a link to set a new password.")


@cli.command()
def revoke(email: Email, *, kit: KitOption = None) -> None:
    """End all sign-in sessions of a user. The user may sign in again."""

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
        raise NotFoundException("There is no user with this e-mail address. List users with `appkit users list`.")
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
    from appkit.service.users import UserService

    return run_in_session(find_kit(target).kit, lambda db: work(UserService(db)))

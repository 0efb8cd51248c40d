"""`appkit db`: migrate the database, and write, check and lint migrations."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from appkit.cli.discovery import find_kit, run_in_session
from appkit.cli.output import AsJson, KitOption, fail, show

if TYPE_CHECKING:
    from appkit.kit import AppKit
    from appkit.repository.migrations import Migrations

T = TypeVar("T")

_OUTCOMES = {
    "current": "Nothing to do: the database is up to date.",
    "waited": "Another process has just migrated the database.",
    "migrated": "The database is up to date now.",
    "created": "There are no migrations, so the missing tables were created.",
}

Revisions = Annotated[
    str, typer.Argument(metavar="[FROM:TO]", help="As in `3f2a:head`: all migrations after 3f2a. Default: all.")
]

cli = typer.Typer(help="Migrate the database.", no_args_is_help=True)


@cli.command()
def upgrade(revision: Annotated[str, typer.Argument()] = "head", *, kit: KitOption = None) -> None:
    """Apply the pending migrations, up to REVISION."""
    typer.echo(_OUTCOMES[_run(kit, lambda migrations: migrations.upgrade(revision))])


@cli.command(context_settings={"ignore_unknown_options": True})  # `-1` is an argument.
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, `-1` for one step, or `base` for all.")],
    *,
    kit: KitOption = None,
) -> None:
    """Undo migrations, back to REVISION."""
    _run(kit, lambda migrations: migrations.downgrade(revision))


@cli.command()
def revision(
    message: Annotated[
        str, typer.Option("--message", "-m", help="The change, in a few words. The file's name contains it.")
    ],
    *,
    kit: KitOption = None,
) -> None:
    """Write a migration for the differences between the migrations and the models."""
    typer.echo(
        _run(kit, lambda migrations: migrations.revision(message))
        or "No migration was written: the models match the last migration."
    )


@cli.command()
def current(*, kit: KitOption = None, as_json: AsJson = False) -> None:
    """Show the database's revision."""
    show([{"revision": _run(kit, lambda migrations: migrations.current())}], as_json=as_json)


@cli.command()
def history(*, kit: KitOption = None, as_json: AsJson = False) -> None:
    """List all migrations, the latest first."""
    show(_run(kit, lambda migrations: migrations.history()), as_json=as_json)


@cli.command()
def sql(revisions: Revisions = "base:head", *, kit: KitOption = None) -> None:
    """Print the SQL of a range of migrations, without a database."""
    typer.echo(_migrations(find_kit(kit).kit).sql(revisions), nl=False)


@cli.command()
def check(*, kit: KitOption = None, as_json: AsJson = False) -> None:
    """Fail when the models differ from the migrations.

    `appkit db revision` writes a migration for a difference. Fix some differences by hand: two last migrations, a
    constraint without a name, and the CHECK of a column.
    """
    differences = _run(kit, lambda migrations: migrations.check())
    show([{"difference": difference} for difference in differences], as_json=as_json)
    if differences:
        raise fail('The models differ from the migrations. Write the missing migration: `appkit db revision -m "…"`.')


@cli.command()
def lint(revisions: Revisions = "base:heads", *, kit: KitOption = None, as_json: AsJson = False) -> None:
    """Fail when a migration would block or break the running app, and show what to write instead."""
    from appkit.repository.migrations.lint import lint

    findings = [finding for script in _migrations(find_kit(kit).kit).scripts(revisions) for finding in lint(script)]
    if as_json:
        show([asdict(finding) for finding in findings], as_json=True)
    else:
        for finding in findings:
            typer.secho(f"{finding.code} {finding.revision}: {finding.where}", bold=True)
            typer.echo(f"  {finding.problem}\n  {finding.instead}")
    if findings:
        raise fail(
            f"{len(findings)} found. To allow one, write `# appkit: allow {findings[0].code} reason` in the file."
        )


@cli.command()
def reset(
    *,
    kit: KitOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
) -> None:
    """Drop all tables and migrate. Refused in production."""
    found = find_kit(kit).kit
    if not (yes or found.settings.production):
        typer.confirm(f"Drop all tables of {found.database.url!r}?", abort=True)
    typer.echo(_OUTCOMES[_run(kit, lambda migrations: migrations.reset())])


@cli.command()
def seed(*, kit: KitOption = None) -> None:
    """Fill the database: run the `seed` function of the kit's module with a database session."""
    found = find_kit(kit)
    function = getattr(found.module, "seed", None)
    if not iscoroutinefunction(function):
        raise fail(f"{found.module.__name__} has no `async def seed(db)`. Define or import it there.")
    run_in_session(found.kit, function)


def _migrations(kit: "AppKit") -> "Migrations":
    from appkit.repository.migrations import Migrations

    return Migrations(kit.database, kit.settings.database.migrations, production=kit.settings.production)


def _run(target: str | None, work: "Callable[[Migrations], Awaitable[T]]") -> T:
    import anyio

    kit = find_kit(target).kit

    async def migrate() -> T:
        try:
            return await work(_migrations(kit))
        finally:
            await kit.database.dispose()

    return anyio.run(migrate)

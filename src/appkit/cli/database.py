"""`appkit db`: the database's migrations."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import AsJson, KitOption, fail, show

if TYPE_CHECKING:
    from appkit.repository.migrations import Migrations

T = TypeVar("T")

_OUTCOMES = {
    "current": "Nothing to do: the database is up to date.",
    "waited": "Another process has just migrated the database.",
    "migrated": "The database is up to date now.",
    "created": "There are no migrations, so the missing tables were created.",
}

cli = typer.Typer(help="Migrate the database.", no_args_is_help=True)


@cli.command()
def upgrade(revision: Annotated[str, typer.Argument()] = "head", *, kit: KitOption = None) -> None:
    """Apply the migrations that are missing, up to REVISION."""
    typer.echo(_OUTCOMES[_run(kit, lambda migrations: migrations.upgrade(revision))])


@cli.command()
def downgrade(revision: Annotated[str, typer.Argument(help="As in `-1` or `base`.")], *, kit: KitOption = None) -> None:
    """Undo migrations, down to REVISION."""
    _run(kit, lambda migrations: migrations.downgrade(revision))


@cli.command()
def revision(
    message: Annotated[str, typer.Option("--message", "-m", help="What changes, in a few words.")],
    *,
    kit: KitOption = None,
) -> None:
    """Write the migration that takes the last one to the models as they are."""
    typer.echo(_run(kit, lambda migrations: migrations.revision(message)) or "Nothing changed since the last one.")


@cli.command()
def current(*, kit: KitOption = None, as_json: AsJson = False) -> None:
    """Show which revision the database is at."""
    show([{"revision": _run(kit, lambda migrations: migrations.current())}], as_json=as_json)


@cli.command()
def history(*, kit: KitOption = None, as_json: AsJson = False) -> None:
    """List all migrations, the latest first."""
    show(_run(kit, lambda migrations: migrations.history()), as_json=as_json)


@cli.command()
def check(*, kit: KitOption = None, as_json: AsJson = False) -> None:
    """Fail when the models say something that no migration does."""
    differences = _run(kit, lambda migrations: migrations.check())
    show([{"difference": difference} for difference in differences], as_json=as_json)
    if differences:
        raise fail('The models and the migrations differ. Run `appkit db revision -m "…"`.')


def _run(target: str | None, work: "Callable[[Migrations], Awaitable[T]]") -> T:
    import anyio

    kit = find_kit(target).kit
    directory = kit.settings.database.migrations

    async def migrate() -> T:
        from appkit.repository.migrations import Migrations

        try:
            return await work(Migrations(kit.database, directory, production=kit.settings.production))
        finally:
            await kit.database.dispose()

    return anyio.run(migrate)

"""Test that each migration can be rolled back."""

from collections.abc import Callable

from sqlalchemy import Connection, MetaData
from sqlalchemy.schema import CreateIndex, CreateTable

from appkit.kit import AppKit


async def assert_migrations_reversible(kit: AppKit) -> None:
    """Upgrade, downgrade and upgrade each of the kit's migrations, in a temporary database.

    Fails when a migration fails, or when its downgrade does not restore the tables.
    """
    from alembic import command

    from appkit.repository.migrations import Migrations
    from appkit.repository.migrations.locking import scratch_database

    migrations = Migrations(kit.database, kit.settings.database.migrations)
    async with scratch_database(kit.database.url) as connection:

        async def run(function: Callable[..., None], revision: str) -> set[str]:
            await connection.run_sync(migrations._alembic, function, revision)
            await connection.commit()
            schema = await connection.run_sync(_schema)
            await connection.commit()
            return schema

        before: set[str] = set()
        for script in reversed(migrations.scripts()):
            await run(command.upgrade, script.revision)
            after = await run(command.downgrade, "-1")
            changes = [f"lost: {line}" for line in before - after] + [f"left behind: {line}" for line in after - before]
            assert not changes, "\n".join(
                [f"The downgrade of {script.revision} ({script.doc}) is incomplete.", *changes]
            )
            before = await run(command.upgrade, script.revision)


def _schema(connection: Connection) -> set[str]:
    """The lines of all CREATE statements, as a set, because order doesn't matter."""
    metadata = MetaData()
    metadata.reflect(connection)
    lines = set()
    for table in metadata.tables.values():
        if table.name != "alembic_version":
            created = str(CreateTable(table).compile(connection)).splitlines()
            lines |= {f"{table.name}: {line.strip().rstrip(',')}" for line in created if line.strip(" \t)")}
            lines |= {str(CreateIndex(index).compile(connection)) for index in table.indexes}
    return lines

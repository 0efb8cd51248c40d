"""Checks of `appkit check` on models and migrations."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Column, Table, UniqueConstraint

from appkit.kit import AppKit, Check
from appkit.repository.migrations import Migrations


def find_unindexed_foreign_keys(kit: "AppKit") -> Iterator[str]:
    """Find foreign keys that no index starts with."""
    for table in kit.database.metadata.sorted_tables:
        indexes = list(_indexes(table))
        for key in table.foreign_key_constraints:
            columns = set(key.columns)
            if not any(set(index[: len(columns)]) == columns for index in indexes):
                yield f"{table.name}.{', '.join(column.name for column in key.columns)}"


async def find_differences(kit: "AppKit") -> list[str]:
    """Find differences between the models and the migrations, if there are migrations."""
    migrations = _migrations(kit)
    return await migrations.check() if migrations.scripts() else []


async def find_unapplied_migrations(kit: "AppKit") -> list[str]:
    """Find the reason why the database will lack migrations in production."""
    migrations = _migrations(kit)
    if not migrations.scripts():
        return [f"there are none in {migrations.directory}"]
    if kit.settings.database.migrate == "upgrade" or not await migrations.pending():
        return []
    return [f"DATABASE_MIGRATE is {kit.settings.database.migrate}, and the database is behind"]


def _indexes(table: Table) -> Iterator[Sequence[Column[object]]]:
    yield list(table.primary_key.columns)
    for index in table.indexes:
        yield list(index.columns)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield list(constraint.columns)


def _migrations(kit: "AppKit") -> Migrations:
    return Migrations(kit.database, kit.settings.database.migrations)


CHECKS = [
    Check(
        "AKC005",
        "A foreign key has no index, so deleting a referenced row scans the whole table.",
        "Write `mapped_column(ForeignKey(…), index=True)`, and create a migration.",
        find_unindexed_foreign_keys,
    ),
    Check(
        "AKC006",
        "The models differ from the tables that the migrations create.",
        'Create the migration: `appkit db revision -m "What changed"`.',
        find_differences,
    ),
    Check(
        "AKC107",
        "The database lacks migrations.",
        'Create the first migration: `appkit db revision -m "First tables"`. Apply migrations: `appkit db upgrade`.',
        find_unapplied_migrations,
        deploy=True,
    ),
]

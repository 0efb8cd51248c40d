"""`assert_migrations_reversible`, with correct and incorrect downgrades."""

from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from appkit.core.settings import DatabaseSettings, Settings
from appkit.kit import AppKit
from appkit.repository.base import NAMING_CONVENTION
from appkit.repository.migrations import Migrations
from appkit.testing.checks import assert_migrations_reversible


def schema(*columns: Column[object]) -> MetaData:
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    Table("author", metadata, Column("id", Integer, primary_key=True), Column("name", String(9), index=True), *columns)
    return metadata


@pytest.fixture
async def kit(own_database_url: str, tmp_path: Path):
    database = DatabaseSettings(url=own_database_url, migrations=tmp_path / "migrations")
    kit = AppKit(Settings(database=database))
    migrations = Migrations(kit.database, kit.settings.database.migrations)
    for message, metadata in (("First", schema()), ("Second", schema(Column("rank", Integer, unique=True)))):
        kit.database.metadata = metadata
        await migrations.revision(message)
    yield kit
    await kit.database.dispose()


def rewrite(kit: AppKit, old: str, new: str) -> None:
    (path,) = kit.settings.database.migrations.glob("*_second.py")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


async def test_reversible_migrations_pass(kit):
    await assert_migrations_reversible(kit)
    assert await Migrations(kit.database, kit.settings.database.migrations).current() is None


async def test_downgrade_that_leaves_something_behind_fails(kit):
    rewrite(kit, "batch_op.drop_column('rank')", "pass")
    with pytest.raises(AssertionError, match=r"(?s)The downgrade of \w+ \(Second\).*left behind: author: rank INTEGER"):
        await assert_migrations_reversible(kit)


async def test_downgrade_that_loses_something_fails(kit):
    rewrite(kit, "batch_op.drop_column('rank')", "batch_op.drop_column('rank'); batch_op.drop_index('ix_author_name')")
    with pytest.raises(AssertionError, match=r"lost: CREATE INDEX ix_author_name"):
        await assert_migrations_reversible(kit)


async def test_failing_migration_fails(kit):
    rewrite(kit, "def downgrade() -> None:", "def downgrade() -> None:\n    raise NotImplementedError")
    with pytest.raises(NotImplementedError):
        await assert_migrations_reversible(kit)

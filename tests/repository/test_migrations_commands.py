"""The other commands of `appkit db`: SQL, checks and reset, and migrations of a locked table."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.script import Script
from sqlalchemy import (
    CheckConstraint,
    Column,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    inspect,
    text,
)

from appkit.exceptions import AppKitError
from appkit.repository.base import NAMING_CONVENTION
from appkit.repository.database import Database
from appkit.repository.migrations import Migrations


def schema(*columns: Column[object]) -> MetaData:
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    Table("author", metadata, Column("id", Integer, primary_key=True), *columns)
    Table("book", metadata, Column("author_id", ForeignKey("author.id"), primary_key=True))
    return metadata


@pytest.fixture
async def database(own_database_url: str) -> AsyncIterator[Database]:
    database = Database(own_database_url, metadata=schema())
    yield database
    await database.dispose()


@pytest.fixture
def migrations(database: Database, tmp_path: Path) -> Migrations:
    return Migrations(database, tmp_path / "migrations")


async def tables(database: Database) -> set[str]:
    async with database.readers.connect() as connection:
        return await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))


async def test_sql_is_written_without_a_database(migrations, database):
    await migrations.revision("First")
    first = migrations.scripts()[0].revision
    database.metadata = schema(Column("rank", Integer))
    await migrations.revision("Second")
    assert "CREATE TABLE author" in migrations.sql(f"base:{first}")
    assert "rank" not in migrations.sql(f"base:{first}")
    assert [script.doc for script in migrations.scripts(f"{first}:head")] == ["Second"]
    assert await tables(database) == set()
    assert "ADD COLUMN rank INTEGER" in migrations.sql()
    if database.sqlite:
        database.metadata = schema()
        await migrations.revision("Third")
        with pytest.raises(AppKitError, match="requires a live database"):
            migrations.sql()
        return
    second = migrations.sql(f"{first}:head")
    assert "CREATE TABLE author" not in second
    assert "SET LOCAL lock_timeout = 1000" in second
    async with database.session() as db:
        for statement in filter(None, map(str.strip, migrations.sql().split(";"))):
            if statement not in {"BEGIN", "COMMIT"}:
                await db.execute(text(statement))
    assert await migrations.current() == migrations.scripts()[0].revision


async def test_unknown_revision_range_is_an_app_kit_error(migrations):
    await migrations.revision("First")
    with pytest.raises(AppKitError, match="nonsense"):
        migrations.sql("nonsense")
    with pytest.raises(AppKitError, match="nonsense"):
        migrations.scripts("nonsense:head")


def write_sibling(script: Script) -> None:
    path = Path(script.path)
    path.with_name("theirs.py").write_text(path.read_text().replace(script.revision, "theirs"))


async def test_check_finds_two_last_migrations(migrations, database):
    await migrations.revision("First")
    database.metadata = schema(Column("rank", Integer))
    await migrations.revision("Mine")
    second = migrations.scripts()[0]
    write_sibling(second)
    (found,) = await migrations.check()
    assert "theirs" in found
    assert second.revision in found
    assert len(await migrations.history()) == 3


async def test_check_finds_constraints_that_migrations_would_lose(migrations, database):
    metadata = MetaData()
    Table(
        "t", metadata, Column("a", Integer, CheckConstraint("a > 0")), Column("b", Integer), UniqueConstraint("a", "b")
    )
    database.metadata = metadata
    found = await migrations.check()
    assert found == [
        "move the CHECK of t.a to its table, because migrations lose the CHECK of a column",
        "name the Unique constraint of t (a, b)",
    ]
    database.metadata = MetaData(naming_convention=NAMING_CONVENTION)
    Table("t", database.metadata, Column("a", Integer), CheckConstraint("a > 0", name="positive"))
    assert await migrations.check() == ["add table t"]


async def test_reset_drops_everything_and_migrates(migrations, database):
    database.metadata = schema(Column("mood", Enum("glad", "sad", name="mood")))
    await migrations.revision("First")
    await migrations.upgrade()
    async with database.session() as db:
        await db.execute(text("CREATE TABLE left_over (id INTEGER PRIMARY KEY, a INTEGER REFERENCES author (id))"))
        await db.execute(text("INSERT INTO author (id) VALUES (1)"))
    assert await migrations.reset() == "migrated"
    assert await tables(database) == {"author", "book", "alembic_version"}
    async with database.read_session() as db:
        assert await db.scalar(text("SELECT count(*) FROM author")) == 0


async def test_reset_of_an_app_without_migrations_creates_its_tables_again(migrations, database):
    await migrations.upgrade()
    database.metadata = schema(Column("rank", Integer))
    assert await migrations.reset() == "created"
    assert not await migrations.pending()


async def test_production_is_never_reset(migrations, database):
    await migrations.upgrade()
    with pytest.raises(AppKitError, match="production"):
        await Migrations(database, migrations.directory, production=True).reset()
    assert await tables(database) == {"author", "book"}


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_migration_that_waits_for_a_table_does_not_block_readers(migrations, database, driver):
    """A later reader doesn't wait for the transaction that blocks the migration."""
    if database.sqlite:
        pytest.skip("SQLite has no locks of tables.")
    await migrations.revision("First")
    await migrations.upgrade()
    database.metadata = schema(Column("rank", Integer))
    await migrations.revision("Second")
    url = database.url.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
    own = Database(url, metadata=database.metadata)
    eager = Migrations(own, migrations.directory, lock_timeout=0.1)
    async with database.session() as holder:
        await holder.execute(text("SELECT * FROM author"))
        with pytest.raises(AppKitError, match="locked by other sessions for 0 seconds.*ALTER TABLE author"):
            await Migrations(own, migrations.directory, wait=0.1, lock_timeout=0.1).upgrade()
        migrating = asyncio.create_task(eager.upgrade())
        await asyncio.sleep(0.5)
        async with asyncio.timeout(15), database.read_session() as reader:
            await reader.execute(text("SELECT * FROM author"))
        assert not migrating.done()
    assert await migrating == "migrated"
    await own.dispose()

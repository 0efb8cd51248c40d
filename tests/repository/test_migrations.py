"""Migrations, on PostgreSQL and SQLite, also by several processes at the same time."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    StaticPool,
    String,
    Table,
    Text,
    inspect,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, registry
from sqlalchemy.types import TypeDecorator

from appkit.exceptions import AppKitError
from appkit.repository.base import NAMING_CONVENTION, Base, UTCDateTime
from appkit.repository.database import Database
from appkit.repository.engines import create_engine
from appkit.repository.filters import search_vector
from appkit.repository.migrations import Migrations, migrate_at_start

PROCESSES = 10


class Shouting(TypeDecorator[str]):
    impl = String(20)
    cache_ok = True


class Mood(Enum):
    GLAD = "glad"


class Moods(Enum):
    GLAD = "glad"
    SAD = "sad"


TYPES: Any = Base.type_annotation_map


class Before(Base):
    __abstract__ = True
    metadata = MetaData()
    registry = registry(metadata=metadata, type_annotation_map=TYPES)


class Felt(Before):
    __tablename__ = "felt"

    id: Mapped[int] = mapped_column(primary_key=True)
    mood: Mapped[Mood]


class After(Base):
    __abstract__ = True
    metadata = MetaData()
    registry = registry(metadata=metadata, type_annotation_map=TYPES)


class FeltMore(After):
    __tablename__ = "felt"

    id: Mapped[int] = mapped_column(primary_key=True)
    mood: Mapped[Moods]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "my migrations 100%"


@pytest.fixture
async def database(own_database_url: str) -> AsyncIterator[Database]:
    database = Database(own_database_url, metadata=schema())
    yield database
    await database.dispose()


def schema(*columns: Column[object], tables: bool = False) -> MetaData:
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    Table(
        "author",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Shouting, unique=True),
        Column("born", UTCDateTime, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
        *columns,
        CheckConstraint("name <> ''", name="named"),
    )
    Table(
        "book",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("author_id", ForeignKey("author.id", ondelete="CASCADE"), nullable=False, index=True),
    )
    if tables:
        Table("shelf", metadata, Column("id", Integer, primary_key=True))
    return metadata


def tables_of(database: Database) -> asyncio.Future[set[str]]:
    async def read() -> set[str]:
        async with database.readers.connect() as connection:
            return await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))

    return asyncio.ensure_future(read())


async def test_app_without_migrations_creates_missing_tables(database, directory, caplog):
    caplog.set_level(logging.INFO, "appkit")
    migrations = Migrations(database, directory)
    assert await migrations.pending()
    assert await migrations.upgrade() == "created"
    assert await migrations.upgrade() == "current"
    database.metadata = schema(tables=True)
    assert await migrations.upgrade() == "created"
    assert await tables_of(database) == {"author", "book", "shelf"}
    assert [record.message for record in caplog.records if record.name.startswith("appkit")] == ["migrated"] * 2
    assert await migrations.history() == []
    assert await migrations.current() is None


async def test_app_without_migrations_refuses_tables_with_missing_columns(database, directory):
    await Migrations(database, directory).upgrade()
    database.metadata = schema(Column("nick", String))
    with pytest.raises(AppKitError, match="author lacks nick"):
        await Migrations(database, directory).upgrade()


async def test_production_needs_migrations(database, directory):
    with pytest.raises(AppKitError, match="appkit db revision"):
        await migrate_at_start(database, directory, "upgrade", production=True)


async def test_revision_upgrades_and_downgrades(database, directory, caplog):
    caplog.set_level(logging.INFO, "appkit")
    migrations = Migrations(database, directory, production=True)
    first = await migrations.revision("First tables")
    assert first is not None
    assert await tables_of(database) == set()  # `revision` used a temporary database.
    assert "appkit" not in first.read_text()
    assert "Shouting" not in first.read_text()

    assert await migrations.pending()
    assert await migrations.upgrade() == "migrated"
    assert await migrations.upgrade() == "current"
    assert await tables_of(database) == {"author", "book", "alembic_version"}
    assert await migrations.check() == []
    assert await migrations.revision("Nothing") is None

    database.metadata = schema(Column("nick", String(5)), tables=True)
    assert sorted(await migrations.check()) == ["add column author.nick", "add table shelf"]
    second = await migrations.revision("Shelves")
    assert second is not None
    assert await migrations.upgrade() == "migrated"
    assert [entry["message"] for entry in await migrations.history()] == ["Shelves", "First tables"]
    assert await migrations.current() == (await migrations.history())[0]["revision"]
    assert not await migrations.pending()

    await migrations.downgrade("-1")
    assert await tables_of(database) == {"author", "book", "alembic_version"}
    await migrations.downgrade("base")
    assert await tables_of(database) == {"alembic_version"}
    lines = [record for record in caplog.records if record.name.startswith("appkit")]
    assert [line.message for line in lines] == ["migrated"] * 2
    assert lines[1].__dict__["to_revision"] == (await migrations.history())[0]["revision"]


async def test_missing_check_constraint_is_a_difference(database, directory):
    await Migrations(database, directory).revision("First")
    constraint = next(c for c in database.metadata.tables["author"].constraints if isinstance(c, CheckConstraint))
    database.metadata.tables["author"].constraints.remove(constraint)
    assert await Migrations(database, directory).check() == ["remove constraint ck_author_named"]


async def test_every_table_of_appkit_is_migrated_exactly(own_database_url, directory):
    import appkit.repository.auth
    import appkit.repository.outbox  # noqa: F401 - for its table
    from appkit.repository.user import resolve_user_model

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    for name in (resolve_user_model().__tablename__, "auth_session", "auth_token", "appkit_outbox"):
        Base.metadata.tables[name].to_metadata(metadata)
    database = Database(own_database_url, metadata=metadata)
    migrations = Migrations(database, directory)
    await migrations.revision("Ours")
    await migrations.upgrade()
    assert await migrations.check() == []
    await migrations.downgrade("base")
    await database.dispose()


async def test_a_database_made_without_migrations_is_adopted(database, directory):
    migrations = Migrations(database, directory)
    await migrations.upgrade()
    async with database.session() as db:
        await db.execute(text("CREATE TABLE somebody_elses (id INTEGER)"))
        await db.execute(text("INSERT INTO author (id, name) VALUES (1, 'Ann')"))
    await migrations.revision("First")
    assert await migrations.upgrade() == "migrated"
    assert await migrations.current() == (await migrations.history())[0]["revision"]
    async with database.read_session() as db:
        assert await db.scalar(text("SELECT name FROM author")) == "Ann"


async def test_a_database_made_without_migrations_that_differs_is_left_alone(database, directory):
    migrations = Migrations(database, directory)
    await migrations.upgrade()
    database.metadata = schema(Column("nick", String), tables=True)
    await migrations.revision("First")
    with pytest.raises(AppKitError, match=r"differs from the models: add column author\.nick"):
        await migrations.upgrade()
    assert await tables_of(database) == {"author", "book"}


async def test_altering_a_table_keeps_referring_rows(database, directory):
    migrations = Migrations(database, directory)
    await migrations.revision("First")
    await migrations.upgrade()
    async with database.session() as db:
        await db.execute(text("INSERT INTO author (id, name) VALUES (1, 'Ann')"))
        await db.execute(text("INSERT INTO book (id, author_id) VALUES (1, 1)"))
    database.metadata = schema(Column("rank", Integer, nullable=False, server_default="1"))
    database.metadata.tables["author"].c.name.type = String(99)
    await migrations.revision("Alter")
    assert await migrations.upgrade() == "migrated"
    async with database.read_session() as db:
        assert await db.scalar(text("SELECT count(*) FROM book")) == 1


async def test_a_migration_that_fails_changes_nothing(database, directory):
    migrations = Migrations(database, directory)
    first = await migrations.revision("First")
    assert first
    first.write_text(
        first.read_text().replace("def downgrade", "    raise RuntimeError('half way')\n\n\ndef downgrade")
    )
    with pytest.raises(RuntimeError, match="half way"):
        await migrations.upgrade()
    assert await tables_of(database) == set()


async def test_a_migration_may_leave_its_transaction_on_postgresql(database, directory):
    if database.sqlite:
        pytest.skip("SQLite has no concurrent indexes.")
    migrations = Migrations(database, directory)
    first = await migrations.revision("First")
    assert first
    block = (
        "    with op.get_context().autocommit_block():\n"
        "        op.create_index('ix_born', 'author', ['born'], postgresql_concurrently=True)\n"
    )
    first.write_text(first.read_text().replace("def downgrade", f"{block}\n\ndef downgrade"))
    assert await migrations.upgrade() == "migrated"
    assert await migrations.check() == ["remove index ix_born"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_pooler_that_shares_connections_is_refused(database, directory, monkeypatch, driver):
    """With StaticPool, two connections share one server process, as behind such a pooler."""
    if database.sqlite:
        pytest.skip("SQLite has no poolers.")
    await Migrations(database, directory).revision("First")
    url = database.url.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
    pooled = Database(url, metadata=database.metadata)
    shared = create_engine(pooled.url, 10.0, poolclass=StaticPool)
    with monkeypatch.context() as patch:
        patch.setattr("appkit.repository.migrations.locking.unpooled_engine", lambda *_: shared)
        with pytest.raises(AppKitError, match="pooler that shares connections"):
            await Migrations(pooled, directory).upgrade()
    await shared.dispose()
    assert await tables_of(database) == set()
    assert await Migrations(pooled, directory).upgrade() == "migrated"
    await pooled.dispose()


async def test_failure_of_the_second_migration_rolls_back_the_first(database, directory):
    migrations = Migrations(database, directory)
    await migrations.revision("First")
    database.metadata = schema(tables=True)
    second = await migrations.revision("Second")
    assert second
    second.write_text(second.read_text().replace("def downgrade", "    raise RuntimeError('late')\n\n\ndef downgrade"))
    with pytest.raises(RuntimeError, match="late"):
        await migrations.upgrade()
    assert await tables_of(database) == set()


async def test_renamed_model_drops_one_table_and_creates_another(database, directory):
    """Alembic can't detect a rename. Write `op.rename_table()` by hand."""
    migrations = Migrations(database, directory)
    database.metadata = schema(tables=True)
    await migrations.revision("First")
    database.metadata = schema()
    Table("rack", database.metadata, Column("id", Integer, primary_key=True))
    assert sorted(await migrations.check()) == ["add table rack", "remove table shelf"]


async def test_enum_migrates_both_ways_and_new_members_need_no_migration(database, directory):
    database.metadata = Felt.metadata
    migrations = Migrations(database, directory)
    await migrations.revision("First")
    for _ in range(2):
        assert await migrations.upgrade() == "migrated"
        await migrations.downgrade("base")
    database.metadata = FeltMore.metadata
    assert await migrations.check() == []


async def test_a_revision_written_on_sqlite_serves_postgresql(database, directory, tmp_path):
    if database.sqlite:
        pytest.skip("This test migrates PostgreSQL.")
    development = Database(f"sqlite:///{tmp_path}/app.db", metadata=schema())
    await Migrations(development, directory).revision("First")
    development.metadata = database.metadata = schema(Column("nick", String(5)), tables=True)
    await Migrations(development, directory).revision("Second")
    await development.dispose()
    migrations = Migrations(database, directory)
    assert await migrations.upgrade() == "migrated"
    assert await migrations.check() == []
    await migrations.downgrade("base")
    assert await tables_of(database) == {"alembic_version"}


async def test_index_of_another_database_is_no_difference(database, directory):
    metadata = database.metadata = schema(Column("nick", String(5)), Column("about", Text))
    columns = metadata.tables["author"].c
    vector = search_vector(columns.name, columns.nick, columns.about)
    Index("ix_author_search", vector, postgresql_using="gin").ddl_if(dialect="postgresql")
    migrations = Migrations(database, directory)
    revision = await migrations.revision("First")
    await migrations.upgrade()
    assert await migrations.check() == []
    assert revision
    assert ("ix_author_search" in revision.read_text()) is not database.sqlite


async def test_unknown_revision_is_an_app_kit_error(database, directory):
    migrations = Migrations(database, directory)
    first = await migrations.revision("First")
    await migrations.upgrade()
    with pytest.raises(AppKitError, match="nonsense"):
        await migrations.upgrade("nonsense")
    assert first
    revision = await migrations.current()
    first.write_text(first.read_text().replace(f'revision: str = "{revision}"', 'revision: str = "other"'))
    first.write_text(first.read_text().replace(f"revision: str = '{revision}'", "revision: str = 'other'"))
    with pytest.raises(AppKitError, match=str(revision)):
        await migrations.upgrade()


async def test_check_mode_refuses_a_database_that_is_behind(database, directory):
    with pytest.raises(AppKitError, match="appkit db upgrade"):
        await migrate_at_start(database, directory, "check", production=False)
    await migrate_at_start(database, directory, "off", production=False)
    assert await tables_of(database) == set()
    await migrate_at_start(database, directory, "upgrade", production=False)
    await migrate_at_start(database, directory, "check", production=False)


async def test_unreachable_database_is_an_app_kit_error(directory):
    database = Database("postgresql://nobody:secret@127.0.0.1:1/none", metadata=schema())
    with pytest.raises(AppKitError, match="Can't connect") as caught:
        await Migrations(database, directory).upgrade()
    assert "secret" not in str(caught.value)
    await database.dispose()


RACERS = """
import asyncio, logging, multiprocessing, os, sys
from pathlib import Path
from test_migrations import PROCESSES, schema
from appkit.repository.database import Database
from appkit.repository.engines import create_engine
from appkit.repository.filters import search_vector
from appkit.repository.migrations import migrate_at_start

class Lines(logging.Handler):
    def emit(self, record):
        os.write(1, f"{record.name} {record.getMessage()}\\n".encode())  # Whole lines, because ten processes write.

async def migrate(url, directory):
    database = Database(url, metadata=schema())
    await migrate_at_start(database, Path(directory), "upgrade", production=False)
    async with database.session() as db:
        await db.execute(schema().tables["author"].select())
    await database.dispose()

def race(start, *arguments):
    logging.basicConfig(level=logging.INFO, handlers=[Lines()])
    start.wait()
    asyncio.run(migrate(*arguments))

context = multiprocessing.get_context("fork")  # A fork has all imports, so the processes start at the same time.
start = context.Barrier(PROCESSES)
racers = [context.Process(target=race, args=(start, *sys.argv[1:])) for _ in range(PROCESSES)]
for racer in racers:
    racer.start()
for racer in racers:
    racer.join()
sys.exit(sum(racer.exitcode != 0 for racer in racers))
"""


@pytest.mark.slow
@pytest.mark.parametrize("versioned", [True, False])
async def test_ten_processes_migrate_once(own_database_url, directory, versioned):
    if versioned:
        await Migrations(Database(own_database_url, metadata=schema()), directory).revision("First")
    racers = await asyncio.create_subprocess_exec(
        *[sys.executable, "-W", "error", "-c", RACERS, own_database_url, str(directory)],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=Path(__file__).parent,
    )
    output = (await racers.communicate())[0].decode()
    assert racers.returncode == 0, output
    assert output.count("appkit.repository.migrations.runner migrated") == 1, output


async def test_unopenable_file_is_an_app_kit_error(tmp_path, directory):
    database = Database(f"sqlite:///{tmp_path}/nowhere/app.db", metadata=schema())
    with pytest.raises(AppKitError, match="unable to open database file"):
        await Migrations(database, directory).upgrade()
    await database.dispose()

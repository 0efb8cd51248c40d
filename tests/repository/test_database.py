"""Database sessions, on PostgreSQL and SQLite."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit.core.settings import DatabaseSettings
from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.repository.base import BaseTableModel
from appkit.repository.context import app_context
from appkit.repository.database import Database, on_commit, parse_url


class Counter(BaseTableModel):
    name: Mapped[str] = mapped_column(unique=True)
    value: Mapped[int] = mapped_column(default=0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseSettings(url=database_url, pool_size=3, pool_timeout=2.0))
    await create(database)
    yield database
    await database.dispose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(DatabaseSettings(url=f"sqlite:///{tmp_path}/test.db", pool_size=3, pool_timeout=2.0))
    await create(database)
    yield database
    await database.dispose()


async def create(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(Counter.metadata.tables["counter"].create)
    async with database.session() as db:
        db.add(Counter(name="one"))


async def value(database: Database, name: str = "one") -> int | None:
    async with database.read_session() as db:
        return await db.scalar(select(Counter.value).where(Counter.name == name))


def checked_out(database: Database) -> int:
    return sum(engine.pool.checkedout() for engine in {database.engine, database.readers})  # type: ignore[attr-defined]


async def until_checked_out(database: Database, connections: int) -> None:
    async with asyncio.timeout(60):
        while checked_out(database) < connections:  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0.01)


async def test_a_session_commits_when_its_block_ends(database):
    async with database.session() as db:
        counter = (await db.scalars(select(Counter))).one()
        counter.value = 5
    assert counter.value == 5
    assert await value(database) == 5


async def test_a_session_rolls_back_when_its_block_raises(database):
    class Mine(Exception):
        pass

    async def fail() -> None:
        async with database.session() as db:
            await db.execute(update(Counter).values(value=5))
            raise Mine

    with pytest.raises(Mine):
        await fail()
    assert await value(database) == 0
    assert checked_out(database) == 0


async def test_a_session_takes_its_connection_at_its_first_statement(database):
    async with database.session() as db:
        db.add(Counter(name="two"))
        assert checked_out(database) == 0
        async with database.session():
            await asyncio.sleep(0)
        await db.flush()
        assert checked_out(database) == 1


async def test_concurrent_updates_on_sqlite_lose_none(sqlite):
    async def increment() -> None:
        for _ in range(15):
            async with sqlite.session() as db:
                counter = (await db.scalars(select(Counter))).one()
                await asyncio.sleep(0)
                counter.value += 1

    await asyncio.gather(*(increment() for _ in range(12)))
    assert await value(sqlite) == 180


async def test_readers_on_sqlite_wait_for_no_writer(sqlite):
    async with sqlite.session() as db:
        await db.execute(update(Counter).values(value=9))
        assert await value(sqlite) == 0
        async with sqlite.session(reader=True) as reader:
            assert await reader.scalar(select(Counter.value)) == 0
        await sqlite.ping(timeout=30)
    assert await value(sqlite) == 9


async def test_second_writer_in_one_task_is_refused_immediately(sqlite, monkeypatch):
    monkeypatch.setattr(sqlite.engine.pool, "_timeout", 300)

    async def nest() -> None:
        async with sqlite.session() as outer:
            await outer.execute(update(Counter).values(value=1))
            async with sqlite.session() as inner:
                await inner.execute(update(Counter).values(value=2))

    with pytest.raises(AppKitError, match="holds SQLite's writer already"):
        async with asyncio.timeout(60):  # Waiting for the writer would take five minutes.
            await nest()
    assert await value(sqlite) == 0
    async with sqlite.session() as db:  # The writer is free again.
        await db.execute(update(Counter).values(value=3))
    assert await value(sqlite) == 3


async def test_a_joined_session_is_the_innermost_that_the_same_task_has_open_to_write(database):
    async def elsewhere() -> Any:
        async with database.joined_session() as other:
            return other

    async with database.session(reader=True) as db:
        async with database.joined_session() as joined, database.read_session() as reader:
            assert joined is db is not reader
        assert await asyncio.create_task(elsewhere()) is not db
        async with database.session(reader=True) as inner, database.joined_session() as joined:
            assert joined is inner
        async with database.joined_session() as joined:
            assert joined is db
            joined.add(Counter(name="two"))
        assert await value(database, "two") is None
        await db.close()
        assert await elsewhere() is not db
        async with database.joined_session() as own:
            own.add(Counter(name="three"))
    assert (await value(database, "two"), await value(database, "three")) == (None, 0)
    assert database._open == {}


async def test_another_task_queues_for_the_writer(sqlite):
    async def write(number: int) -> None:
        async with sqlite.session() as db:
            await db.execute(update(Counter).values(value=number))

    async with sqlite.session() as db:
        await db.execute(update(Counter).values(value=1))
        child = asyncio.create_task(write(2))
        await asyncio.sleep(0.1)
        assert not child.done()
    await child
    assert await value(sqlite) == 2


async def test_waiting_too_long_for_a_connection_is_a_503(database, monkeypatch):
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.2)

    async def hold(db: AsyncSession) -> None:
        await db.execute(update(Counter).where(Counter.name == "none").values(value=1))

    async def work(release: asyncio.Event) -> None:
        async with database.session() as db:
            await hold(db)
            await release.wait()

    release = asyncio.Event()
    tasks = [asyncio.create_task(work(release)) for _ in range(1 if database.sqlite else 6)]
    await until_checked_out(database, len(tasks))
    with pytest.raises(ServiceUnavailableException) as caught:
        async with database.session() as db:
            await hold(db)
    assert caught.value.headers["Retry-After"]
    release.set()
    await asyncio.gather(*tasks)


async def test_reader_that_writes_after_a_stale_read_is_refused(sqlite):
    async def read_then_write() -> None:
        async with sqlite.session(reader=True) as db:
            counter = (await db.scalars(select(Counter))).one()
            await asyncio.create_task(theirs())
            counter.value += 1

    async def theirs() -> None:
        async with sqlite.session() as db:
            await db.execute(update(Counter).values(value=10))

    with pytest.raises(ServiceUnavailableException):
        await read_then_write()
    assert await value(sqlite) == 10


async def test_a_reader_may_write(database):
    async with database.session(reader=True) as db:
        (await db.scalars(select(Counter))).one().value = 4
    assert await value(database) == 4


async def flush(db: AsyncSession, row: Any) -> None:
    db.add(row)
    await db.flush()


async def change(db: AsyncSession) -> None:
    (await db.scalars(select(Counter))).one().value = 1
    await db.flush()


async def remove(db: AsyncSession) -> None:
    await db.delete((await db.scalars(select(Counter))).one())
    await db.flush()


@pytest.mark.parametrize(
    "write",
    [
        lambda db: db.execute(insert(Counter).values(name="x")),
        lambda db: db.execute(text(" update counter set value = 1")),
        lambda db: db.execute(update(Counter).values(value=1)),
        lambda db: db.execute(delete(Counter)),
        lambda db: flush(db, Counter(name="x")),
        change,
        remove,
    ],
    ids=["insert", "text", "update", "delete", "new", "changed", "removed"],
)
async def test_a_read_session_refuses_to_write(database, write):
    with pytest.raises(AppKitError, match="read session can't write"):
        async with database.read_session() as db:
            await write(db)
    async with database.session() as db:  # The connection may write again.
        await db.execute(update(Counter).values(value=1))
    async with database.session(reader=True) as db:
        await db.execute(update(Counter).values(value=2))


async def test_read_session_within_a_unit_of_work_sees_only_commits(database):
    async with database.session() as db:
        await db.execute(update(Counter).values(value=5))
        assert await value(database) == 0
        await db.commit()
        assert await value(database) == 5


async def test_read_session_on_sqlite_refuses_unrecognised_writes(sqlite):
    with pytest.raises(OperationalError, match="readonly"):
        async with sqlite.read_session() as db:
            await (await db.connection()).execute(update(Counter).values(value=1))


async def test_read_sessions_take_the_replicas_in_turn(database_url, tmp_path):
    replicas = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    for url in (database_url, *replicas):
        database = Database(url)
        await create(database)
        async with database.session() as db:
            await db.execute(update(Counter).values(name=url))
        await database.dispose()
    database = Database(DatabaseSettings(url=database_url, replica_urls=tuple(replicas)))

    async def name(*, primary: bool = False) -> str | None:
        async with database.read_session(primary=primary) as db:
            return await db.scalar(select(Counter.name))

    assert [await name() for _ in range(3)] == [*replicas, replicas[0]]
    assert await name(primary=True) == database_url
    await database.dispose()


async def test_a_cancelled_task_leaves_no_connection_and_no_row(database):
    async def work(started: asyncio.Event) -> None:
        async with database.session() as db:
            await db.execute(update(Counter).values(value=7))
            started.set()
            if database.sqlite:
                await db.execute(
                    text(
                        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) "
                        "SELECT max(i) FROM n"
                    )
                )
            else:
                await db.execute(text("SELECT pg_sleep(30)"))

    for delay in (0.0, 0.05):
        for _ in range(3):
            started = asyncio.Event()
            task = asyncio.create_task(work(started))
            await started.wait()
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    async with database.session() as db:
        await db.execute(update(Counter).values(value=Counter.value + 1))
    assert await value(database) == 1
    assert checked_out(database) == 0


async def test_a_task_cancelled_in_the_queue_leaves_the_writer_free(sqlite):
    async def work() -> None:
        async with sqlite.session() as db:
            await db.execute(update(Counter).values(value=7))

    async with sqlite.session() as db:
        await db.execute(update(Counter).values(value=1))
        waiting = asyncio.create_task(work())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await work()
    assert await value(sqlite) == 7


async def test_hooks_run_after_the_commit_in_order(database):
    seen: list[Any] = []

    async def look() -> None:
        seen.append(await value(database))

    def fail() -> None:
        raise RuntimeError("mine")

    async with database.session() as db:
        await db.execute(update(Counter).values(value=2))
        on_commit(db, lambda: seen.append("first"))
        on_commit(db, fail)
        on_commit(db, look)
        assert seen == []
    assert seen == ["first", 2]


async def test_a_hook_that_fails_is_logged(database, caplog):
    def fail() -> None:
        raise ZeroDivisionError

    async with database.session() as db:
        on_commit(db, fail)
    assert "ZeroDivisionError" in caplog.text


async def test_hooks_of_rolled_back_work_do_not_run(database):
    seen: list[str] = []
    async with database.session() as db:
        await db.execute(update(Counter).values(value=2))
        on_commit(db, lambda: seen.append("rolled back"))
        await db.rollback()
        await db.execute(update(Counter).values(value=3))
        on_commit(db, lambda: seen.append("kept"))
        async with db.begin_nested():
            on_commit(db, lambda: seen.append("released"))
        savepoint = await db.begin_nested()
        on_commit(db, lambda: seen.append("savepoint"))
        async with db.begin_nested():
            on_commit(db, lambda: seen.append("inner savepoint"))
        await savepoint.rollback()
    assert seen == ["kept", "released"]

    async def fail() -> None:
        async with database.session() as db:
            on_commit(db, lambda: seen.append("failed"))
            await db.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(Exception, match="nowhere"):
        await fail()
    async with database.session() as db:
        on_commit(db, lambda: seen.append("closed"))
        await db.close()
    assert seen == ["kept", "released"]


async def test_hooks_run_at_each_commit_once(database):
    seen: list[int] = []
    async with database.session() as db:
        on_commit(db, lambda: seen.append(1))
        await db.commit()
        assert seen == [1]
        on_commit(db, lambda: seen.append(2))
    assert seen == [1, 2]


async def test_plain_async_session_has_no_hooks_and_no_app(database):
    async with AsyncSession(database.engine) as db:
        with pytest.raises(AppKitError, match="a Database opened"):
            on_commit(db, print)
    async with database.session() as db:
        with pytest.raises(AppKitError, match="belongs to no app"):
            app_context(db)


async def test_blocking_the_event_loop_after_a_session_does_not_lock_sqlite(sqlite):
    async def wait_for_a_turn() -> None:
        async with sqlite.session() as db:
            await db.execute(text("SELECT 1"))

    async with sqlite.session() as db:
        await db.execute(text("SELECT 1"))
        waiting = asyncio.create_task(wait_for_a_turn())
        await asyncio.sleep(0.05)
    time.sleep(0.1)  # noqa: ASYNC251 - what the test is about
    with closing(sqlite3.connect(sqlite.url.database, timeout=0)) as other_process:
        other_process.execute("BEGIN IMMEDIATE")
        other_process.rollback()
    await waiting


@pytest.mark.parametrize("seconds", [0, 0.5], ids=["idle", "just used"])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_connection_that_died_is_replaced(postgres_server, monkeypatch, driver, seconds):
    monkeypatch.setattr("appkit.repository.engines._PING_AFTER", seconds)
    database = Database(postgres_server.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False))
    async with database.session() as db:
        pid = await db.scalar(text("SELECT pg_backend_pid()"))
    killer = Database(database.url.render_as_string(hide_password=False))
    async with killer.session() as db:
        await db.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    await killer.dispose()
    if seconds:
        await asyncio.sleep(0.1)  # asyncpg learns of the end by the event loop.
    async with database.session() as db:
        assert await db.scalar(text("SELECT pg_backend_pid()")) != pid
    await database.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_only_an_idle_connection_is_pinged(postgres_server, monkeypatch, driver):
    database = Database(postgres_server.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False))
    dialect, pings = database.engine.sync_engine.dialect, []

    def do_ping(connection: Any) -> bool:
        pings.append(connection)
        return type(dialect).do_ping(dialect, connection)

    monkeypatch.setattr(dialect, "do_ping", do_ping)
    monkeypatch.setattr("appkit.repository.engines._PING_AFTER", 300)
    for _ in range(3):
        await database.ping()
    assert pings == []
    monkeypatch.setattr("appkit.repository.engines._PING_AFTER", 0)
    await database.ping()
    assert len(pings) == 1
    await database.dispose()


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_a_database_that_is_down_is_unavailable(driver):
    database = Database(f"{driver}://nobody@127.0.0.1:1/none")
    with pytest.raises(ServiceUnavailableException):
        await database.ping()
    with pytest.raises(ServiceUnavailableException):
        async with database.session() as db:
            await db.execute(text("SELECT 1"))
    await database.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_unfinished_connection_of_a_cancelled_task_is_closed(driver):
    connected, closed = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        closed.set()
        writer.close()

    async def ask() -> None:
        async with silent.session() as db:
            await db.execute(text("SELECT 1"))

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent = Database(f"postgresql+{driver}://127.0.0.1:{port}/postgres?sslmode=disable")
    gc.disable()  # The garbage collector would close the connection later.
    try:
        task = asyncio.create_task(ask())
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 30)
    finally:
        gc.enable()
        server.close()


async def test_a_task_cancelled_while_a_broken_connection_is_closed_leaves_none(postgres_server, monkeypatch):
    url = postgres_server.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    postgres, other = Database(url), Database(url)
    closing, closed = asyncio.Event(), asyncio.Event()

    async def close_slowly(_: Any) -> None:
        closing.set()
        await closed.wait()

    async def ask() -> Any:
        async with postgres.session() as db:
            return await db.scalar(text("SELECT pg_backend_pid()"))

    async with postgres.session() as db:
        raw = await (await db.connection()).get_raw_connection()
        monkeypatch.setattr(type(raw.dbapi_connection), "_terminate_graceful_close", close_slowly)
    async with other.session() as db:
        await db.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": await ask()})
    task = asyncio.create_task(ask())
    await closing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert checked_out(postgres) == 0
    monkeypatch.undo()
    closed.set()
    await postgres.dispose()
    await other.dispose()


async def test_ping_does_not_wait_for_ever(database):
    tasks = [asyncio.create_task(sleep(database)) for _ in range(6)]
    if not database.sqlite:
        await until_checked_out(database, 6)
        with pytest.raises(ServiceUnavailableException):
            await database.ping(timeout=0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await database.ping()


async def sleep(database: Database) -> None:
    async with database.session() as db:
        await db.execute(text("SELECT 1" if database.sqlite else "SELECT pg_sleep(300)"))


def test_a_database_can_be_used_again_in_another_loop(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/test.db")

    async def use() -> None:
        async with database.session() as db:
            await db.execute(text("CREATE TABLE IF NOT EXISTS t (i INTEGER)"))
        await database.dispose()

    loops = [asyncio.new_event_loop() for _ in range(2)]
    for loop in loops:
        loop.run_until_complete(use())
        loop.close()


def test_create_all_and_two_databases_share_nothing(tmp_path):
    async def use() -> None:
        databases = [Database(f"sqlite:///{tmp_path}/{n}.db", metadata=Counter.metadata) for n in range(2)]
        async with databases[0].session() as first, databases[1].session() as second:
            for db in (first, second):
                await db.execute(text("CREATE TABLE t (i INTEGER)"))
        for database in databases:
            await database.dispose()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense:secret", "not a URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
        ("postgresql+psycopg2://u:secret@h/d", "psycopg2"),
        ("oracle://u:secret@h/d", "oracle"),
        ("nothing://u:secret@h/d", "not a URL"),
    ],
)
def test_wrong_url_is_explained(url, sentence):
    with pytest.raises(AppKitError, match=sentence) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "extra"), [("postgresql", "postgres"), ("postgresql+psycopg", "psycopg")])
def test_a_driver_that_is_missing_is_named_with_its_extra(monkeypatch, scheme, extra):
    for name in ("asyncpg", "psycopg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(AppKitError, match=rf"pip install 'fastapi-appkit\[{extra}\]'"):
        Database(f"{scheme}://localhost/x")


def test_urls_get_an_async_driver():
    assert parse_url("postgresql://u:p@h/d?sslmode=require").render_as_string(hide_password=False) == (
        "postgresql+asyncpg://u:p@h/d?ssl=require"
    )
    assert parse_url("postgres://h/d").drivername == "postgresql+asyncpg"
    assert parse_url("postgresql+psycopg://h/d?sslmode=require").query == {"sslmode": "require"}
    assert parse_url("sqlite:///./app.db").drivername == "sqlite+aiosqlite"


async def test_sqlite_is_configured(sqlite):
    for open_session in (sqlite.session, sqlite.read_session):
        async with open_session() as db:
            settings = [
                await db.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
            assert settings == ["wal", 1, 1, 2000]


async def test_sqlite_leaves_one_file(sqlite, tmp_path):
    assert await value(sqlite) == 0
    assert {file.name for file in tmp_path.iterdir()} >= {"test.db", "test.db-wal"}
    await sqlite.dispose()
    assert [file.name for file in tmp_path.iterdir()] == ["test.db"]


def test_importing_the_database_imports_no_alembic():
    check = "import sys, appkit.repository.database; sys.exit('alembic' in sys.modules or 'fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

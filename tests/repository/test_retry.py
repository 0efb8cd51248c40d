"""Retries of units of work, and timeouts of statements and connections."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit.api.dependencies import ReadSession
from appkit.core.settings import DatabaseSettings, Settings
from appkit.exceptions import ConflictException, ServiceUnavailableException
from appkit.kit import AppKit
from appkit.repository.base import BaseTableModel
from appkit.repository.database import Database
from appkit.testing.kits import settings_for_tests


class Tally(BaseTableModel):
    name: Mapped[str] = mapped_column(unique=True)
    value: Mapped[int] = mapped_column(default=0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseSettings(url=database_url, pool_size=4, pool_timeout=30))
    async with database.engine.begin() as connection:
        await connection.run_sync(Tally.metadata.tables["tally"].create)
    async with database.session() as db:
        db.add_all([Tally(name="one"), Tally(name="two")])
    yield database
    await database.dispose()


@pytest.fixture
def postgresql(database: Database) -> Database:
    if database.sqlite:
        pytest.skip("This test needs PostgreSQL.")
    return database


async def values(database: Database) -> list[int]:
    async with database.read_session() as db:
        return list(await db.scalars(select(Tally.value).order_by(Tally.name)))


async def test_run_commits_and_returns_the_result(database):
    async def work(db: AsyncSession) -> int:
        tally = (await db.scalars(select(Tally).filter_by(name="one"))).one()
        tally.value = 7
        return tally.value

    assert await database.run(work) == 7
    assert await values(database) == [7, 0]


async def test_deadlock_is_retried(postgresql):
    attempts = 0
    both = asyncio.Barrier(2)

    async def work(db: AsyncSession, names: tuple[str, str]) -> None:
        nonlocal attempts
        attempts += 1
        await db.execute(update(Tally).filter_by(name=names[0]).values(value=Tally.value + 1))
        if attempts <= 2:
            await both.wait()
        await db.execute(update(Tally).filter_by(name=names[1]).values(value=Tally.value + 1))

    orders = ("one", "two"), ("two", "one")
    await asyncio.gather(*(postgresql.run(lambda db, names=names: work(db, names)) for names in orders))
    assert attempts == 3
    assert await values(postgresql) == [2, 2]


async def test_serialisation_failure_is_retried(postgresql):
    attempts = 0
    all_four = asyncio.Barrier(4)

    async def increment(db: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        first = attempts <= 4
        await db.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        tally = (await db.scalars(select(Tally).filter_by(name="one"))).one()
        if first:
            await all_four.wait()
        tally.value += 1

    await asyncio.gather(*(postgresql.run(increment, attempts=8) for _ in range(4)))
    assert await values(postgresql) == [4, 0]
    assert attempts > 4


async def test_locked_sqlite_file_is_retried(tmp_path):
    database = Database(DatabaseSettings(url=f"sqlite:///{tmp_path}/test.db", pool_timeout=0.1))
    async with database.engine.begin() as connection:
        await connection.run_sync(Tally.metadata.tables["tally"].create)
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    attempts = []

    async def add(db: AsyncSession) -> None:
        attempts.append(db)
        db.add(Tally(name="three"))

    with pytest.raises(ServiceUnavailableException):
        await database.run(add, attempts=2)
    attempts.clear()
    waiting = asyncio.create_task(database.run(add, attempts=10))
    async with asyncio.timeout(60):
        while len(attempts) < 3:  # noqa: ASYNC110 - the list has no event
            await asyncio.sleep(0.01)
    other.execute("ROLLBACK")
    await waiting
    assert await values(database) == [0]
    other.close()
    await database.dispose()


@pytest.mark.parametrize("failure", [ConflictException, ServiceUnavailableException, ZeroDivisionError])
async def test_permanent_error_is_not_retried(database, failure):
    attempts = 0

    async def fail(db: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        await db.execute(update(Tally).values(value=1))
        raise failure

    with pytest.raises(failure):
        await database.run(fail)
    assert attempts == 1
    assert await values(database) == [0, 0]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_statement_timeout_is_a_503(postgresql, driver):
    url = postgresql.settings.url.replace("+asyncpg", f"+{driver}")
    database = Database(DatabaseSettings(url=url, statement_timeout=0.5))
    with pytest.raises(ServiceUnavailableException):
        async with asyncio.timeout(60), database.session() as db:
            await db.execute(text("SELECT pg_sleep(300)"))
    async with database.session() as db:
        assert await db.scalar(text("SHOW statement_timeout")) == "500ms"
    await database.dispose()


async def test_pool_timeout_is_a_503_with_retry_after(database_url):
    router, release, holders = APIRouter(), asyncio.Event(), asyncio.Queue[None]()

    @router.get("/hold")
    async def hold(db: ReadSession) -> None:
        await db.execute(text("SELECT 1"))
        holders.put_nowait(None)
        await release.wait()

    settings = settings_for_tests(Settings(), database_url)
    small = settings.database.model_copy(update={"pool_size": 1, "pool_timeout": 0.3})
    app = AppKit(settings.model_copy(update={"database": small}), routers=[router], discover=False).app
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="https://test") as client,
    ):
        holding = [asyncio.create_task(client.get("/api/hold")) for _ in range(2)]
        for _ in holding:
            await asyncio.wait_for(holders.get(), 60)
        response = await client.get("/api/hold")
        release.set()
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["internal_code"] == ServiceUnavailableException.internal_code
        assert [answer.status_code for answer in await asyncio.gather(*holding)] == [200, 200]
        assert (await client.get("/api/hold")).status_code == 200

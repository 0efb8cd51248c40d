"""Acknowledged writes are kept and connections return to the pool, after cancellations and a crash of the server."""

import asyncio
import logging
import os
import random
from collections import Counter
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Mapped

from appkit.core.settings import DatabaseSettings
from appkit.exceptions import ServiceUnavailableException
from appkit.repository.base import BaseTableModel, uuid7
from appkit.repository.database import Database

WRITERS = 64
SECONDS = float(os.environ.get("APPKIT_TEST_CHAOS_SECONDS", "3"))

_logger = logging.getLogger(__name__)


class DurableEntry(BaseTableModel):
    writer: Mapped[int]


class Writers:
    """Sixty-four asyncio tasks that write rows. `cancel_at_random` cancels some of their writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: dict[int, asyncio.Task[None]] = {}
        self._chance = random.Random(7)
        self.acknowledged: list[UUID] = []
        self.outcomes: Counter[str] = Counter()
        self.progress = asyncio.Event()
        self.stopped = False

    async def work(self, writer: int) -> None:
        while not self.stopped:
            id_ = uuid7()
            self._running[writer] = asyncio.create_task(self._write(id_, writer))
            try:
                await self._running[writer]
            except ServiceUnavailableException:
                self.outcomes["refused"] += 1
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                self.outcomes["cancelled"] += 1
            else:
                self.acknowledged.append(id_)
                self.progress.set()

    async def cancel_at_random(self) -> None:
        while not self.stopped:
            await asyncio.sleep(self._chance.uniform(0, 0.02))
            self._running[self._chance.randrange(WRITERS)].cancel()

    async def _write(self, id_: UUID, writer: int) -> None:
        async with self._database.session() as db:
            db.add(DurableEntry(id=id_, writer=writer))
            await db.flush()
            await db.scalar(select(DurableEntry.writer).where(DurableEntry.id == id_))


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_no_acknowledged_write_is_lost_and_no_connection_leaks(primary, driver):
    """Runs with fsync and synchronous_commit. The test kills the server once, and starts it again."""
    # Without TLS, because a cancellation during asyncpg's request for TLS leaves a future with an unread error.
    url = primary.url.replace("postgresql:", f"postgresql+{driver}:") + "?sslmode=disable"
    database = Database(DatabaseSettings(url=url, pool_timeout=2.0))
    async with database.engine.begin() as connection:
        await connection.run_sync(DurableEntry.metadata.create_all, [DurableEntry.metadata.tables["durable_entry"]])
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert (await connection.execute(text(f"SHOW {setting}"))).scalar() == "on"
    writers = Writers(database)
    working = [asyncio.create_task(writers.work(number)) for number in range(WRITERS)]
    await asyncio.sleep(0)
    cancelling = asyncio.create_task(writers.cancel_at_random())
    await asyncio.sleep(SECONDS / 2)
    await writers.progress.wait()  # The machine may be busy.
    before = len(writers.acknowledged)
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(primary.start)
    writers.progress.clear()
    await asyncio.sleep(SECONDS / 2)
    await writers.progress.wait()
    writers.stopped = True
    await asyncio.gather(*working, cancelling)
    _logger.info("%s: %s acknowledged, %s", driver, len(writers.acknowledged), dict(writers.outcomes))

    async with database.session() as db:
        kept = set(await db.scalars(select(DurableEntry.id)))
    assert set(writers.acknowledged) - kept == set()
    assert 0 < before < len(writers.acknowledged)
    assert min(writers.outcomes["cancelled"], writers.outcomes["refused"]) > 0
    pool = database.engine.pool
    assert pool.checkedout() == 0  # type: ignore[attr-defined]
    assert 0 < connections(primary.url) <= 2 * database.settings.pool_size
    await asyncio.gather(*(hold(database) for _ in range(2 * database.settings.pool_size)))  # All still work.
    await database.dispose()
    for _ in range(200):  # The server's processes need a moment to end.
        if not connections(primary.url):
            break
        await asyncio.sleep(0.05)
    assert connections(primary.url) == 0


async def hold(database: Database) -> None:
    async with database.session() as db:
        await db.execute(text("SELECT pg_sleep(0.05)"))


def connections(url: str) -> int:
    """How many other connections the server has."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else -1

"""Notifications: how a worker hears of tasks that another process committed, by PostgreSQL's NOTIFY.

A convenience: whoever misses one finds its tasks at the next look.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sqlalchemy.pool import NullPool

from appkit.repository.database import Database
from appkit.repository.engines import create_engine
from appkit.repository.outbox import CHANNEL

logger = logging.getLogger(__name__)

_LONGEST_PAUSE: Final = 30.0  # seconds


class Listener:
    """A connection of its own, on which PostgreSQL tells of commits, made anew whenever it breaks.

    Args:
        database: Where the outbox is, on PostgreSQL.
        wake: Called for each commit, and after each connecting, for what came meanwhile.
    """

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        # Not from the pool, which would lack it for good.
        timeout = database.settings.pool_timeout
        self._engine = create_engine(database.url, timeout, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._wake = wake
        self.connected = False
        """Whether PostgreSQL tells of commits at the moment."""
        self._listening = asyncio.create_task(self._listen_forever(), name="appkit-listener")

    async def stop(self) -> None:
        """Close the connection."""
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening

    async def _listen_forever(self) -> None:
        pause = 1.0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._listen()
            except Exception as exc:  # noqa: BLE001 - whatever it was, the next connection may be better
                logger.warning("PostgreSQL tells of no more commits, and is asked again in %g s: %r", pause, exc)
            self.connected = False
            await asyncio.sleep(pause)
            lasted = asyncio.get_running_loop().time() - started
            pause = 1.0 if lasted > 2 * _LONGEST_PAUSE else min(_LONGEST_PAUSE, pause * 2)

    async def _listen(self) -> None:
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            if self._engine.driver == "asyncpg":
                await self._hear_asyncpg(driver)
            else:
                await connection.exec_driver_sql(f"LISTEN {CHANNEL}")
                self._connected()
                async for _ in driver.notifies():
                    self._wake()

    async def _hear_asyncpg(self, driver: Any) -> None:
        closed = asyncio.Event()
        driver.add_termination_listener(lambda _: closed.set())
        await driver.add_listener(CHANNEL, lambda *_: self._wake())
        self._connected()
        await closed.wait()

    def _connected(self) -> None:
        self.connected = True
        self._wake()

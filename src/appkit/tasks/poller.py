"""Poller: polls the outbox at intervals and when woken. Listener: wakes pollers at each NOTIFY.

A lost notification only delays tasks until the next poll.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy.pool import NullPool

from appkit.repository.database import Database
from appkit.repository.engines import create_engine
from appkit.repository.outbox import CHANNEL
from appkit.tasks.maintenance import PeriodicMaintenance

T = TypeVar("T")

IDLE_INTERVAL: Final = 10.0
"""The longest time between polls in seconds, if nothing was found for a while and PostgreSQL notifies of commits."""
MAX_RETRY: Final = 30.0
"""The longest time in seconds before a retry, when the database or the LISTEN connection fails."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Poller(Generic[T]):
    """Takes tasks from the outbox, and runs the maintenance when it is due."""

    take: Callable[[], Coroutine[Any, Any, T]]
    """Takes tasks; returns something false when no task may run."""
    maintenance: PeriodicMaintenance
    interval: float
    """Seconds between polls."""
    idle_interval: float
    """The longest time between polls in seconds, if nothing was found for a while and `listening()` is true."""
    listening: Callable[[], bool]
    """Returns whether PostgreSQL notifies this process of commits."""
    healthy: bool = True
    """Whether the last poll succeeded."""

    def __post_init__(self) -> None:
        self._woken = asyncio.Event()
        self._idle = 0
        """The number of polls in a row that found nothing."""

    def wake(self) -> None:
        """Poll now. Call this from the event loop."""
        self._woken.set()

    async def next(self) -> T:
        """Wait until tasks can be taken, and return them. While the database fails, retry with exponential backoff."""
        failures = 0
        while True:
            try:
                taken, wait = await uninterrupted(self.poll())
            except Exception:
                failures += 1
                wait = min(MAX_RETRY, self.interval * 2**failures)
                self.healthy = False
                logger.exception("Polling the outbox failed; retrying in %.3g s.", wait)
                await self.wait(wait)
                continue
            self.healthy, failures = True, 0
            if taken:
                return taken
            await self.wait(wait)

    async def wait(self, seconds: float) -> None:
        """Wait until `wake()`, but not longer than this number of seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def poll(self) -> tuple[T | None, float]:
        """Poll once; returns the tasks, or None and the seconds to wait before the next poll."""
        woken = self._woken.is_set()
        self._woken.clear()
        polled = None
        if self.maintenance.due or (self._idle and not woken):
            polled = await self.maintenance.run()
        if (polled is None or polled.ready or woken) and (taken := await self.take()):
            self._idle = 0
            return taken, 0
        self._idle = 1 if polled is None or polled.ready else self._idle + 1
        wait = self.interval
        if self.listening():
            wait = min(self.idle_interval, self.interval * 2.0 ** min(self._idle - 1, 16))
        wait *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, so that workers don't poll at the same moment
        return None, wait if polled is None or polled.wait is None else min(wait, polled.wait)


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Let work finish before a cancellation. A connection whose query is cancelled can't be used again."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


class Listener:
    """Listens on a separate PostgreSQL connection, and reconnects when the connection is lost.

    The listener calls `wake` at each notification. It also calls `wake` after each connect, because notifications may
    have been missed.
    """

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        # In the app's connection pool, the listener would permanently use one connection.
        timeout = database.settings.pool_timeout
        self._engine = create_engine(database.url, timeout, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._wake = wake
        self.connected = False
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
            except Exception as exc:  # noqa: BLE001 - the next connection may succeed after any error
                logger.warning("LISTEN connection lost; reconnecting in %g s: %r", pause, exc)
            self.connected = False
            await asyncio.sleep(pause)
            lasted = asyncio.get_running_loop().time() - started
            pause = 1.0 if lasted > 2 * MAX_RETRY else min(MAX_RETRY, pause * 2)

    async def _listen(self) -> None:
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            if self._engine.driver == "asyncpg":
                await self._listen_asyncpg(driver)
            else:
                await connection.exec_driver_sql(f"LISTEN {CHANNEL}")
                self._on_connect()
                async for _ in driver.notifies():
                    self._wake()

    async def _listen_asyncpg(self, driver: Any) -> None:
        closed = asyncio.Event()
        driver.add_termination_listener(lambda _: closed.set())
        await driver.add_listener(CHANNEL, lambda *_: self._wake())
        self._on_connect()
        await closed.wait()

    def _on_connect(self) -> None:
        self.connected = True
        self._wake()

"""Heartbeat: renews the leases of in-flight tasks, from a thread of its own.

The thread has its own event loop and connections, so tasks that block the app's event loop keep their leases.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection
from typing import Final

from appkit.core.settings import DatabaseSettings, TasksSettings
from appkit.repository.database import Database
from appkit.repository.queue import TaskQueue
from appkit.repository.queue_statements import ClaimedTask

MAX_INTERVAL: Final = 5.0
"""The longest time between heartbeats in seconds, so that a cancelled task stops soon."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Renews leases at least three times before they expire. It calls its callbacks in its own thread.

    Args:
        database: The database with the outbox; the heartbeat opens connections of its own.
        tasks: The settings with the duration of a lease.
        owner: The lease owner.
        in_flight: Returns the tasks whose leases to renew.
        on_lost: Called with the tasks whose leases were lost.
        on_cancel: Called with the tasks whose cancellation was requested.
    """

    def __init__(
        self,
        database: DatabaseSettings,
        tasks: TasksSettings,
        owner: str,
        *,
        in_flight: Callable[[], Collection[ClaimedTask]],
        on_lost: Callable[[Collection[ClaimedTask]], object],
        on_cancel: Callable[[Collection[ClaimedTask]], object],
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._owner = owner
        self._in_flight = in_flight
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="appkit-heartbeat", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop after the current heartbeat."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        database = Database(self._database)
        queue = TaskQueue(database, self._tasks, self._owner)
        with asyncio.Runner() as runner:
            while not self._stopped.wait(min(MAX_INTERVAL, self._tasks.lease / 3)):
                try:
                    runner.run(self._renew(queue))
                except Exception:
                    logger.exception("Leases could not be renewed; retrying with the next heartbeat.")
            runner.run(database.dispose())

    async def _renew(self, queue: TaskQueue) -> None:
        if tasks := self._in_flight():
            renewed = await queue.renew(tasks)
            self._on_lost([task for task in tasks if task.key not in renewed])
            self._on_cancel([task for task in tasks if renewed.get(task.key)])

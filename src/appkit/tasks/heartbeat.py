"""Heartbeat: renews the leases of in-flight tasks from a separate thread.

The thread has its own event loop and connections, so tasks that block the app's event loop keep their leases.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from appkit.core.settings import DatabaseSettings, TasksSettings
from appkit.repository.database import Database
from appkit.repository.queue import TaskQueue
from appkit.repository.queue_statements import ClaimedTask

MAX_INTERVAL: Final = 5.0
"""The longest time between heartbeats in seconds. Heartbeats also find the tasks to cancel."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Heartbeat:
    """Renews leases at least three times before they expire. The callbacks are called in the heartbeat's thread."""

    database: DatabaseSettings
    tasks: TasksSettings
    owner: str
    """The lease owner."""
    in_flight: Callable[[], Collection[ClaimedTask]]
    """Returns the tasks whose leases to renew."""
    on_lost: Callable[[Collection[ClaimedTask]], object]
    """Called with the tasks whose leases were lost."""
    on_cancel: Callable[[Collection[ClaimedTask]], object]
    """Called with the tasks whose cancellation was requested."""

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="appkit-heartbeat", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop after the current heartbeat."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        database = Database(self.database)
        queue = TaskQueue(database, self.tasks, self.owner)
        with asyncio.Runner() as runner:
            while not self._stopped.wait(min(MAX_INTERVAL, self.tasks.lease / 3)):
                try:
                    runner.run(self._renew(queue))
                except Exception:
                    logger.exception("Leases could not be renewed; retrying with the next heartbeat.")
            runner.run(database.dispose())

    async def _renew(self, queue: TaskQueue) -> None:
        if tasks := self.in_flight():
            renewed = await queue.renew(tasks)
            self.on_lost([task for task in tasks if task.key not in renewed])
            self.on_cancel([task for task in tasks if renewed.get(task.key)])

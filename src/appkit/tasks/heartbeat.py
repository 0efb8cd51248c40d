"""Heartbeat: renews the leases of running tasks, from a thread of its own.

The thread has its own event loop and connections, so that a task that holds up the app's loop keeps its lease.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection
from typing import Final

from appkit.core.settings import DatabaseSettings, TasksSettings
from appkit.repository.database import Database
from appkit.repository.queue import ClaimedTask, TaskQueue

MOST: Final = 5.0
"""Seconds between beats at the most."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Three beats a lease, or more, so that a task that is called off hears of it soon.

    Args:
        database: Where the rows are; the heartbeat opens connections of its own.
        tasks: How long a lease is.
        owner: Whose rows to renew.
        held: Called in the thread: the tasks to renew.
        lost: Called in the thread: those that somebody else has by now.
        called_off: Called in the thread: those that somebody wants to stop.
    """

    def __init__(
        self,
        database: DatabaseSettings,
        tasks: TasksSettings,
        owner: str,
        held: Callable[[], Collection[ClaimedTask]],
        lost: Callable[[Collection[ClaimedTask]], object],
        called_off: Callable[[Collection[ClaimedTask]], object],
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._owner = owner
        self._held = held
        self._lost = lost
        self._called_off = called_off
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="appkit-heartbeat", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop after the beat that may be going on."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        database = Database(self._database)
        queue = TaskQueue(database, self._tasks, self._owner)
        with asyncio.Runner() as runner:
            while not self._stopped.wait(min(MOST, self._tasks.lease / 3)):
                try:
                    runner.run(self._beat(queue))
                except Exception:
                    logger.exception("Leases could not be renewed.")
            runner.run(database.dispose())

    async def _beat(self, queue: TaskQueue) -> None:
        if held := self._held():
            kept = await queue.renew(held)
            self._lost([task for task in held if task.key not in kept])
            self._called_off([task for task in held if kept.get(task.key)])

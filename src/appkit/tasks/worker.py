"""Worker: runs tasks in this process until `stop()`, embedded in the app or by `appkit worker`."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.receiver import Receiver

logger = logging.getLogger(__name__)


class Worker:
    """Runs a broker in this process, and restarts a broker that fails.

        async with Worker(kit.broker):
            ...

    Args:
        broker: A broker of `create_broker`.
        work: Whether to run tasks. False only publishes tasks; None follows `TASKS_EMBEDDED`.
    """

    def __init__(self, broker: OutboxBroker, *, work: bool | None = None) -> None:
        self._broker = broker
        self._work = broker.settings.tasks.embedded if work is None else work
        self._receiver: Receiver | None = None
        self._finish = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether the worker runs and its last polls succeeded."""
        return self._running is not None and not self._running.done() and self._broker.healthy

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.run(), name="appkit-worker")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self) -> None:
        """Run until `stop()`. When the broker fails, log the error and restart the broker with exponential backoff."""
        self._broker.is_worker_process = self._work
        pause = 1.0
        while not self._finish.is_set():
            try:
                await self._broker.startup()
                await (self._receive() if self._work else self._finish.wait())
            except Exception:
                logger.exception("Worker failed; restarting in %g s.", pause)
            finally:
                await self._broker.shutdown()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finish.wait(), pause)
            pause = min(30.0, pause * 2)

    async def stop(self, grace: float | None = None) -> None:
        """Claim no more tasks, wait for the running tasks, and release the tasks that don't end in time.

        Args:
            grace: Seconds to wait; `TASKS_SHUTDOWN_GRACE` unless given.
        """
        if grace is not None and self._receiver is not None:
            self._receiver.wait_tasks_timeout = grace
        self._finish.set()
        if self._running is not None:
            await self._running

    async def _receive(self) -> None:
        threads = ThreadPoolExecutor(self._broker.settings.tasks.concurrency, thread_name_prefix="appkit-task")
        try:
            self._receiver = Receiver(self._broker, threads, run_startup=False)
            await self._receiver.listen(self._finish)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

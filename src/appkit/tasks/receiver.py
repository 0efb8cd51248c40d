"""Receiver: Taskiq's receiver with a few differences."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from typing import Any

from taskiq import AckableMessage
from taskiq.receiver import Receiver as TaskiqReceiver
from taskiq_dependencies import DependencyGraph
from taskiq_dependencies.ctx import AsyncResolveContext

from appkit.tasks.context import LeaseLostError
from appkit.tasks.outbox_broker import OutboxBroker


class Receiver(TaskiqReceiver):
    """Runs tasks as Taskiq does, with four differences.

    - One poll claims several tasks, up to the concurrency. No task is prefetched.
    - On shutdown, the receiver waits up to `TASKS_SHUTDOWN_GRACE` seconds for running tasks.
    - A task starts in one step of the event loop rather than in five, which doubles the throughput.
    - Tasks share no dependencies. Taskiq keeps the `Context` of all tasks in one dict. There, a dependency with
      `use_cache=False` may get the `Context` of another task.

    Taskiq's worker can use this class too: `taskiq worker --receiver appkit.tasks.receiver:Receiver`.
    """

    broker: OutboxBroker

    def __init__(
        self,
        broker: OutboxBroker,
        executor: Executor | None = None,
        *,
        max_async_tasks: int | None = None,
        **options: Any,
    ) -> None:
        settings = broker.settings.tasks
        options["validate_params"] = False  # The broker's middleware validates them.
        if options.get("wait_tasks_timeout") is None:
            options["wait_tasks_timeout"] = settings.shutdown_grace
        broker.concurrency = max_async_tasks or settings.concurrency
        super().__init__(broker, executor, max_async_tasks=broker.concurrency, **options)

    async def listen(self, finish_event: asyncio.Event) -> None:
        """Run tasks until the event is set, and then wait for the running tasks."""
        if self.run_startup:
            await self.broker.startup()
        running: set[asyncio.Task[None]] = set()
        pulling = asyncio.create_task(self._pull(running))
        finish = asyncio.create_task(finish_event.wait())
        try:
            await asyncio.wait({pulling, finish}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            finish.cancel()
            pulling.cancel()
            await asyncio.wait({pulling, finish})
        if running:
            await asyncio.wait(running, timeout=self.wait_tasks_timeout)
        if not pulling.cancelled() and (error := pulling.exception()) is not None:
            raise error
        if self.on_exit is not None:
            self.on_exit(self)

    async def _pull(self, running: set[asyncio.Task[None]]) -> None:
        room = asyncio.Semaphore(self.broker.concurrency)
        async with aclosing(self.broker.listen()) as messages:
            for _ in range(self.max_tasks_to_execute or sys.maxsize):
                await room.acquire()
                task = asyncio.create_task(self.callback(await anext(messages)))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _: room.release())

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:  # noqa: FBT001, FBT002 - Taskiq
        """Run a task, unless its lease was lost before the start."""
        with suppress(LeaseLostError):
            await super().callback(message, raise_err)

    def _prepare_task(self, name: str, handler: Callable[..., Any]) -> None:
        super()._prepare_task(name, handler)
        self.dependency_graphs[name] = _Separate(handler)


class _Separate(DependencyGraph):
    """A dependency graph whose contexts share no cache."""

    def async_ctx(self, initial_cache: dict[Any, Any] | None = None, *args: Any, **options: Any) -> AsyncResolveContext:
        return super().async_ctx(dict(initial_cache or {}), *args, **options)

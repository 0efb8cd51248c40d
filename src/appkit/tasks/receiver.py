"""Receiver: Taskiq's, with what a worker needs so that nothing it was given is lost or mixed up."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from taskiq import AckableMessage
from taskiq.receiver import Receiver as TaskiqReceiver
from taskiq_dependencies import DependencyGraph
from taskiq_dependencies.ctx import AsyncResolveContext

from appkit.tasks.broker import OutboxBroker
from appkit.tasks.lease import LeaseLostError


class Receiver(TaskiqReceiver):
    """Runs tasks as Taskiq does, with three differences.

    - It claims as many tasks at once as it has room for.
    - At the end, it waits no longer than `TASKS_SHUTDOWN_GRACE` for those that run.
    - Tasks share no dependencies. Taskiq puts the `Context` of all into one dict, from which a dependency with
      `use_cache=False` may get another task's.

    `taskiq worker --receiver appkit.tasks.receiver:Receiver` uses it too.
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
        options["validate_params"] = False  # The broker's middleware has done that, and better.
        if options.get("wait_tasks_timeout") is None:
            options["wait_tasks_timeout"] = settings.shutdown_grace
        broker.concurrency = max_async_tasks or settings.concurrency
        super().__init__(broker, executor, max_async_tasks=broker.concurrency, **options)

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:  # noqa: FBT001, FBT002
        """Run a task, unless it was given up before it began."""
        with suppress(LeaseLostError):
            await super().callback(message, raise_err)

    def _prepare_task(self, name: str, handler: Callable[..., Any]) -> None:
        super()._prepare_task(name, handler)
        self.dependency_graphs[name] = _Separate(handler)


class _Separate(DependencyGraph):
    """A graph whose contexts share nothing."""

    def async_ctx(self, initial_cache: dict[Any, Any] | None = None, *args: Any, **options: Any) -> AsyncResolveContext:
        return super().async_ctx(dict(initial_cache or {}), *args, **options)

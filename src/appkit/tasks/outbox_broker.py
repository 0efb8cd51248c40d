"""OutboxBroker: the base class of all brokers, with the queue, the in-flight tasks, the pollers and the schedules."""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import wraps
from typing import Any, Final, TypeVar

from taskiq import AckableMessage, AsyncBroker, AsyncTaskiqDecoratedTask, BrokerMessage, TaskiqMessage

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.repository.base import Base, uuid7
from appkit.repository.database import Database
from appkit.repository.enqueueing import task_row
from appkit.repository.outbox import OutboxTask, ScheduledTask, TaskPolicy
from appkit.repository.queue import TaskQueue
from appkit.tasks.arguments import Arguments, InvalidArguments
from appkit.tasks.context import Attempt, keep_result
from appkit.tasks.inflight import InFlightTasks
from appkit.tasks.maintenance import Maintenance, PeriodicMaintenance
from appkit.tasks.middleware import ATTEMPT, OutboxMiddleware, OutboxResults
from appkit.tasks.poller import IDLE_INTERVAL, Listener, Poller
from appkit.tasks.router import Task
from appkit.tasks.schedule import Schedules

T = TypeVar("T")

_LABELS: Final = {"delay", "max_attempts", "priority", "queue"}

logger = logging.getLogger(__name__)


class UnreadableRow(InvalidArguments):
    """The row's payload can't be read by this version of appkit."""

    code = "TASK_UNREADABLE"


class OutboxBroker(AsyncBroker):
    """The broker for `db://`: tasks are rows of the outbox, which workers claim. See `create_broker`."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.database = database or Database(settings.database)
        self.with_id_generator(lambda: uuid7().hex)
        self.with_result_backend(OutboxResults(self.database))
        self.add_middlewares(OutboxMiddleware(lambda: self.in_flight, self.arguments))
        self.schedules = Schedules(self.database)
        self.concurrency = 1
        """Maximum number of tasks in flight. With Taskiq's own receiver, tasks are claimed one by one."""
        self._started = False
        self._owns_database = database is None
        self._arguments: dict[str, Arguments] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Listener | None = None
        self._build()

    def _build(self) -> None:
        """Make the parts that claim and run tasks.

        Each start makes new parts with a new lease owner. So tasks that still run from an earlier start change no rows.
        """
        tasks = self.settings.tasks
        self.queue = TaskQueue(self.database, tasks)
        self.in_flight = InFlightTasks(
            self.queue,
            self.database,
            self.settings,
            names=self.get_all_tasks,
            concurrency=lambda: self.concurrency,
            wake=self.wake,
        )
        self.maintenance = Maintenance(self.database, tasks)
        self._periodic_maintenance = PeriodicMaintenance(
            self.maintenance,
            self.schedules,
            names=self.get_all_tasks,
            in_flight=self.in_flight.tasks,
            interval=self.poll_interval,
        )
        self._pollers: list[Poller[Any]] = []

    @property
    def healthy(self) -> bool:
        """Whether the broker runs, and the last poll of each poller succeeded."""
        return self._started and all(poller.healthy for poller in self._pollers)

    @property
    def listening(self) -> bool:
        """Whether PostgreSQL notifies this process of commits."""
        return self._listener is not None and self._listener.connected

    @property
    def poll_interval(self) -> float:
        """Seconds between polls without a notification."""
        return min(self.settings.tasks.poll_interval, self.settings.tasks.lease / 3)

    def add_task(self, task: Task[..., Any]) -> None:
        """Register a router's task. See `register_tasks` for the errors."""
        self._arguments[task.name] = task.arguments
        self._register_task(task.name, _RouterTask(self, task.name, task.function, task.policy.labels))
        task.brokers.add(self)

    def arguments(self, name: str) -> Arguments:
        """The parameters of the task with this name."""
        if name not in self._arguments:
            task = self.find_task(name)
            assert task is not None  # noqa: S101 - only known tasks are claimed
            self._arguments[name] = Arguments(task.original_func, name)
        return self._arguments[name]

    def wake(self) -> None:
        """Poll now rather than at the next interval. Any thread may call this method."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_pollers)

    async def startup(self) -> None:
        """Get ready to run tasks in this process and event loop."""
        self._loop = asyncio.get_running_loop()
        self._build()
        if self._owns_database:
            async with self.database.engine.begin() as connection:
                for row in (OutboxTask, ScheduledTask):
                    await connection.run_sync(Base.metadata.tables[row.__tablename__].create, checkfirst=True)
        if self.database.context is not None:
            self.database.context.wake = self.wake
        await super().startup()
        self._started = True

    async def shutdown(self) -> None:
        """Cancel the tasks that still run, and release their leases."""
        self._started = False
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None
        if self.database.context is not None:
            self.database.context.works = False
        await self.in_flight.stop()
        await super().shutdown()
        if self._owns_database:
            await self.database.dispose()

    async def kick(self, message: BrokerMessage) -> None:
        """Write a row in a separate transaction. For a running task, reschedule the task's row, as Taskiq's retries do.

        This method respects the labels `delay` (seconds), `queue`, `priority` and `max_attempts`.
        """
        if not await self.queue.requeue(message.task_id, float(message.labels.get("delay", 0))):
            task = self.formatter.loads(message.message)
            task.parse_labels()
            policy = TaskPolicy(name=task.task_name, **{key: task.labels[key] for key in _LABELS & task.labels.keys()})
            row = task_row(policy, task.args, task.kwargs, task.labels, task_id=task.task_id)
            async with self.database.session() as session:
                session.add(row)
        self.wake()

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Claim rows, and yield Taskiq's messages for these rows, forever."""
        poller = self.add_poller(self.in_flight.claim_next)
        try:
            while True:
                for attempt in await poller.next():
                    if (message := await self.message(attempt)) is not None:
                        yield message
        finally:
            self.in_flight.forget_unstarted()

    def add_poller(self, take: Callable[[], Coroutine[Any, Any, T]]) -> Poller[T]:
        """Make a poller. Commits in this process wake the poller, and on PostgreSQL also commits in other processes."""
        tasks = self.settings.tasks
        if self.database.context is not None:
            self.database.context.works = True
        if self._listener is None and not self.database.sqlite and tasks.notify != "off":
            self._listener = Listener(self.database, self._wake_pollers)
        poller = Poller(
            take,
            self._periodic_maintenance,
            interval=self.poll_interval,
            idle_interval=max(self.poll_interval, min(IDLE_INTERVAL, tasks.lease / 3)),
            listening=lambda: self.listening,
        )
        self._pollers.append(poller)
        return poller

    def _wake_pollers(self) -> None:
        for poller in self._pollers:
            poller.wake()

    async def message(self, attempt: Attempt) -> bytes | None:
        """Make Taskiq's message for a claimed task, or settle the task as dead if the row can't be read."""
        row = attempt.task
        try:
            task = self.get_all_tasks()[row.task_name]
            attempt.labels = {**task.labels, **row.payload["labels"]}
            attempt.interruptible = inspect.iscoroutinefunction(task.original_func)
            message = TaskiqMessage(
                task_id=row.task_id,
                task_name=row.task_name,
                labels={**attempt.labels, ATTEMPT: row.key},
                args=row.payload["args"],
                kwargs=row.payload["kwargs"],
            )
            return self.formatter.dumps(message).message
        except Exception as exc:
            logger.exception("%s is dead, because its row can't be read.", attempt)
            await self.in_flight.settle(attempt, UnreadableRow(f"The row can't be read: {type(exc).__qualname__}."))
            return None

    def _register_task(self, task_name: str, task: AsyncTaskiqDecoratedTask[Any, Any]) -> None:
        known = self.local_task_registry.get(task_name)
        if known is None:
            task.original_func = _keeping_result(task.original_func)
        elif inspect.unwrap(known.original_func) is not inspect.unwrap(task.original_func):
            raise AppKitError(
                f"Two tasks are named {task_name!r}, in {known.original_func.__module__} and in "
                f"{task.original_func.__module__}. Pass name= to one of them, as in @router.task(name=…)."
            )
        else:
            task.original_func = known.original_func
        super()._register_task(task_name, task)


def _keeping_result(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function to keep its result. The end of the `TaskSession` writes the result before Taskiq returns it."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            return keep_result(await function(*args, **kwargs))

        return run

    @wraps(function)
    def run_in_thread(*args: Any, **kwargs: Any) -> Any:
        return keep_result(function(*args, **kwargs))

    return run_in_thread


class _RouterTask(AsyncTaskiqDecoratedTask[Any, Any]):
    """A router's task for Taskiq. Unlike Taskiq's class, this doesn't rename the function, which kits may share."""

    def __init__(self, broker: AsyncBroker, task_name: str, original_func: Callable[..., Any], labels: Any) -> None:
        self.broker = broker
        self.task_name = task_name
        self.original_func = original_func
        self.labels = labels
        self.return_type = None

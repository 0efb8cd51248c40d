"""create_broker: the Taskiq broker that `TASKS_BROKER_URL` names, and OutboxBroker, which all of them are."""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
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
from appkit.repository.upkeep import Upkeep
from appkit.tasks.arguments import Arguments, UnreadableRow
from appkit.tasks.chores import Chores
from appkit.tasks.lease import Lease, note_result
from appkit.tasks.leases import Leases
from appkit.tasks.middleware import ATTEMPT, OutboxMiddleware
from appkit.tasks.notifications import Listener
from appkit.tasks.results import OutboxResults
from appkit.tasks.router import Task, TaskRouter
from appkit.tasks.schedule import Schedules
from appkit.tasks.watch import Watch

T = TypeVar("T")

_LABELS: Final = {"delay", "max_attempts", "priority", "queue"}

logger = logging.getLogger(__name__)


class OutboxBroker(AsyncBroker):
    """`db://`: tasks are rows of the outbox, and a worker claims them there.

    Args:
        settings: The app's settings.
        database: Where the outbox is; unless given, a database of the broker's own at `DATABASE_URL`.
        transport: Passed on to the Taskiq broker underneath.
    """

    def __init__(self, settings: Settings, database: Database | None = None, **transport: Any) -> None:
        super().__init__(**transport)
        self.with_id_generator(lambda: uuid7().hex)
        self.add_middlewares(OutboxMiddleware())
        self.settings = settings
        self.database = database or Database(settings.database)
        self.queue = TaskQueue(self.database, settings.tasks)
        self.upkeep = Upkeep(self.database, settings.tasks)
        self.leases = Leases(self)
        self.with_result_backend(OutboxResults(self.database))
        self.schedules = Schedules(self.database)
        self.concurrency = 1
        """Tasks to have at most; Taskiq's own receiver asks for one after the other."""
        self._started = False
        self._owns_database = database is None
        self._arguments: dict[str, Arguments] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watches: list[Watch[Any]] = []
        self._listener: Listener | None = None
        self.chores = Chores(self)

    @property
    def healthy(self) -> bool:
        """Whether the last look for work went well."""
        return self._started and all(watch.healthy for watch in self._watches)

    @property
    def listens(self) -> bool:
        """Whether PostgreSQL tells of commits."""
        return self._listener is not None and self._listener.connected

    @property
    def interval(self) -> float:
        """Seconds between looks that nobody asked for."""
        return min(self.settings.tasks.poll_interval, self.settings.tasks.lease / 3)

    def add_task(self, task: Task[..., Any]) -> None:
        """Make a router's task known.

        Raises:
            AppKitError: When another task has its name, or its parameters can't be read from JSON.
        """
        self._arguments[task.name] = task.arguments
        self._register_task(task.name, _RouterTask(self, task.name, task.function, task.policy.labels))
        task.attach(self)

    def arguments(self, name: str) -> Arguments:
        """What the task of this name takes."""
        if name not in self._arguments:
            task = self.find_task(name)
            assert task is not None  # noqa: S101 - only known tasks are claimed
            self._arguments[name] = Arguments(task.original_func, name)
        return self._arguments[name]

    def wake(self) -> None:
        """Look for work now rather than in a second; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_watches)

    async def startup(self) -> None:
        """Get ready to work in this process and event loop."""
        self._loop = asyncio.get_running_loop()
        self._watches = []
        self.queue = TaskQueue(self.database, self.settings.tasks)
        self.leases = Leases(self)
        self.chores = Chores(self)
        if self._owns_database:
            async with self.database.engine.begin() as connection:
                for row in (OutboxTask, ScheduledTask):
                    await connection.run_sync(Base.metadata.tables[row.__tablename__].create, checkfirst=True)
        if self.database.context is not None:
            self.database.context.wake = self.wake
        await super().startup()
        self._started = True

    async def shutdown(self) -> None:
        """Cancel the tasks that still run, and give their rows back."""
        self._started = False
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None
        if self.database.context is not None:
            self.database.context.works = False
        await self.leases.stop()
        await super().shutdown()
        if self._owns_database:
            await self.database.dispose()

    async def kick(self, message: BrokerMessage) -> None:
        """Write a row in a transaction of its own; a task that runs is made pending again, as retries ask for.

        The labels `delay` (seconds), `queue`, `priority` and `max_attempts` are heeded.
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
        """Claim rows and yield their messages, for ever."""
        watch = self.watch(self.leases.take)
        try:
            while True:
                for lease in await watch.next():
                    if (message := await self.message(lease)) is not None:
                        yield message
        finally:
            self.leases.abandon()

    def watch(self, take: Callable[[], Coroutine[Any, Any, T]]) -> Watch[T]:
        """Have something taken whenever there is news of a commit, and now and then without."""
        if self.database.context is not None:
            self.database.context.works = True
        if self._listener is None and not self.database.sqlite and self.settings.tasks.notify != "off":
            self._listener = Listener(self.database, self._wake_watches)
        self._watches.append(watch := Watch(self, take))
        return watch

    def _wake_watches(self) -> None:
        for watch in self._watches:
            watch.wake()

    async def message(self, lease: Lease) -> bytes | None:
        """The message for Taskiq; what can't be made into one is dead."""
        row = lease.task
        try:
            task = self.get_all_tasks()[row.task_name]
            lease.labels = {**task.labels, **row.payload["labels"]}
            lease.interruptible = inspect.iscoroutinefunction(task.original_func)
            message = TaskiqMessage(
                task_id=row.task_id,
                task_name=row.task_name,
                labels={**lease.labels, ATTEMPT: row.key},
                args=row.payload["args"],
                kwargs=row.payload["kwargs"],
            )
            return self.formatter.dumps(message).message
        except Exception as exc:
            logger.exception("%s can't be read.", lease)
            await self.leases.settle(lease, UnreadableRow(f"The row can't be read: {type(exc).__qualname__}."))
            return None

    def _register_task(self, task_name: str, task: AsyncTaskiqDecoratedTask[Any, Any]) -> None:
        known = self.local_task_registry.get(task_name)
        if known is None:
            task.original_func = _noting(task.original_func)
        elif inspect.unwrap(known.original_func) is not inspect.unwrap(task.original_func):
            raise AppKitError(
                f"Two tasks are called {task_name!r}, in {known.original_func.__module__} and in "
                f"{task.original_func.__module__}. Pass name= to one of them, as in @router.task(name=…)."
            )
        else:
            task.original_func = known.original_func
        super()._register_task(task_name, task)


def _noting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose result is known before Taskiq closes the task's session."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            return note_result(await function(*args, **kwargs))

        return run

    @wraps(function)
    def run_in_thread(*args: Any, **kwargs: Any) -> Any:
        return note_result(function(*args, **kwargs))

    return run_in_thread


class _RouterTask(AsyncTaskiqDecoratedTask[Any, Any]):
    """Taskiq's view of a router's task: without its renaming of the function, which belongs to other kits too."""

    def __init__(self, broker: AsyncBroker, task_name: str, original_func: Callable[..., Any], labels: Any) -> None:
        self.broker = broker
        self.task_name = task_name
        self.original_func = original_func
        self.labels = labels
        self.return_type = None


def create_broker(settings: Settings, *, database: Database | None = None) -> OutboxBroker:
    """The Taskiq broker that `TASKS_BROKER_URL` names.

    Args:
        settings: The app's settings.
        database: Where the outbox is; unless given, a database of the broker's own at `DATABASE_URL`.

    Raises:
        AppKitError: When there is no such broker, or what it needs is not installed.
    """
    if settings.tasks.broker_url.startswith("db:"):
        if settings.tasks.broker_url != "db://":
            raise AppKitError("TASKS_BROKER_URL says more than db://, which is the database at DATABASE_URL.")
        return OutboxBroker(settings, database)
    from appkit.tasks.publishing import PublishingBroker
    from appkit.tasks.transports import find_transport

    context = database.context if database else None
    return PublishingBroker(settings, database, find_transport(settings, context.plugins if context else None))


def register_tasks(broker: OutboxBroker, routers: Iterable[TaskRouter]) -> None:
    """Make the tasks of these routers known to a broker. A router may be given to several.

    Raises:
        AppKitError: When two tasks have one name, one has parameters that can't be read from JSON, or one that runs at
            certain times has parameters at all.
    """
    for router in routers:
        for task in router.tasks:
            broker.add_task(task)
        for schedule in router.schedules:
            broker.arguments(schedule.name).check((), {})
            broker.schedules.add(schedule)

"""TaskRouter: declares background tasks, as `APIRouter` declares routes. `enqueue` writes a task to the outbox."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload
from weakref import WeakSet

from sqlalchemy.ext.asyncio import AsyncSession

from appkit.domain.events import Event
from appkit.exceptions import AppKitError
from appkit.repository.context import AppContext
from appkit.repository.database import Database, on_commit
from appkit.repository.enqueueing import add_task, add_tasks
from appkit.repository.outbox import Key, Scope, TaskPolicy
from appkit.tasks.handle import TaskHandle
from appkit.tasks.schedule import Misfire, Schedule

if TYPE_CHECKING:
    from appkit.tasks.arguments import Arguments

P = ParamSpec("P")
R = TypeVar("R")


class Broker(Protocol):
    """The part of a broker that `Task.kiq` uses."""

    @property
    def database(self) -> Database:
        """The database with the outbox."""

    def wake(self) -> None:
        """Wake the workers of this process."""


class TaskOptions(TypedDict, total=False):
    """The options of a task. All are optional."""

    name: str
    """The task's name in its rows; by default, `module:function`."""
    queue: str
    """The queue, by default `default`. A worker runs the tasks of the queues in its `TASKS_QUEUES`."""
    priority: int
    """From -100 to 100, by default 0. Waiting tasks with a higher priority run first."""
    max_attempts: int | None
    """Number of attempts, including crashes, before the task is dead; `TASKS_MAX_ATTEMPTS` unless given."""
    retry_delay: float | None
    """Seconds before the second attempt, doubled after each attempt, with jitter; `TASKS_RETRY_DELAY` unless given."""
    timeout: float | None
    """Seconds after which an attempt is cancelled and counts as failed; only for an `async def`."""
    unique_key: Key | None
    """While a row with this name has this key, no second row is written. The key may be a function of the arguments."""
    unique_scope: Scope
    """How long the unique key is taken: `until_start`, `until_done` (the default), or while the row is `retained`."""
    ordering_key: Key | None
    """Tasks of any name with the same key run one by one in the order of enqueueing. The key may be a function."""


class Task(Generic[P, R]):
    """A function that can run in the background; `TaskRouter.task` makes it."""

    def __init__(self, function: Callable[P, R], policy: TaskPolicy) -> None:
        self.function = function
        self.policy = policy
        self.brokers: WeakSet[Broker] = WeakSet()
        """The brokers with which the task is registered."""
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function directly."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def name(self) -> str:
        """The task's name in its rows. The name doesn't depend on how the process was started."""
        return self.policy.name

    @cached_property
    def arguments(self) -> "Arguments":
        """The function's parameters, except the parameters that Taskiq injects."""
        from appkit.tasks.arguments import Arguments

        return Arguments(self.function, self.name)

    def with_options(
        self,
        *,
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
        expires_at: datetime | None = None,
        **options: Unpack[TaskOptions],
    ) -> "Task[P, R]":
        """The same task with other options: `enqueue(db, remind.with_options(delay=timedelta(hours=1)), user.id)`.

        Args:
            delay: Seconds to wait before the task may run.
            run_at: The earliest time to run the task.
            expires_at: The task is dead if no worker has started the task by this time.
            options: `TaskOptions`, except the name.

        Raises:
            AppKitError: When `name` is given, or `delay` and `run_at` are both given.
        """
        if delay is not None and run_at is not None:
            raise AppKitError(f"Task {self.name!r} has both a delay and a run_at. Leave one of them out.")
        if "name" in options:
            raise AppKitError(f"Task {self.name!r} can't be enqueued under another name.")
        task = copy.copy(self)
        task.policy = replace(self.policy, delay=delay, run_at=run_at, expires_at=expires_at, **options)
        return task

    async def kiq(self, *args: Any, **kwargs: Any) -> TaskHandle:
        """Enqueue the task in the kit's open database session. If no database session is open, a new one is used.

        The task runs after the commit, and never after a rollback.

        Raises:
            AppKitError: When no kit has the task, several kits have the task, or the arguments don't fit.
        """
        if len(self.brokers) != 1:
            have = "Several kits have" if self.brokers else "No kit has"
            raise AppKitError(f"{have} task {self.name!r}, so kiq() can't choose one. Use enqueue(db, task, …).")
        (broker,) = self.brokers
        async with broker.database.joined_session() as session:
            handle = enqueue(session, self, *args, **kwargs)
            handle.database = broker.database
            on_commit(session, broker.wake)
        return handle


def enqueue(db: AsyncSession, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle:
    """Write a task in the database session's transaction. The task runs after the commit, and never after a rollback.

    Raises:
        AppKitError: When the arguments don't fit the task, or can't be written as JSON.
    """
    task.arguments.check(args, kwargs)
    return TaskHandle.of_row(add_task(db, task.policy, args, kwargs), _database(db))


async def enqueue_many(
    db: AsyncSession, task: Task[..., Any], calls: Iterable[tuple[Any, ...] | Mapping[str, Any]]
) -> list[TaskHandle]:
    """Write many calls of one task by a single INSERT, which is much faster than many calls of `enqueue`.

    Each of the `calls` is a tuple of positional arguments or a mapping of named arguments.

    Raises:
        AppKitError: When the arguments of a call don't fit the task, or can't be written as JSON.
    """
    bound = [((), call) if isinstance(call, Mapping) else (call, {}) for call in calls]
    for args, kwargs in bound:
        task.arguments.check(args, kwargs)
    return [TaskHandle.of_row(row, _database(db)) for row in await add_tasks(db, task.policy, bound)]


def _database(db: AsyncSession) -> Database | None:
    context = db.info.get("appkit")
    return context.database if isinstance(context, AppContext) else None


class TaskRouter:
    """Tasks, event subscriptions and cron schedules. Several kits may share a router."""

    def __init__(self) -> None:
        self.tasks: list[Task[..., Any]] = []
        self.subscriptions: dict[type[Event], list[Task[..., Any]]] = {}
        self.schedules: list[Schedule] = []

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self, function: None = None, /, **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
        """Declare a background task. An `async def` runs on the event loop, and a `def` runs in a thread.

        Raises:
            AppKitError: When a `def` has a timeout, because a thread can't be stopped.
        """

        def declare(function: Callable[P, R]) -> Task[P, R]:
            policy = TaskPolicy(**(options | {"name": options.get("name") or task_name(function)}))
            if policy.timeout is not None and not inspect.iscoroutinefunction(function):
                raise AppKitError(f"Task {policy.name!r} has a timeout but is no async def; a thread can't be stopped.")
            task = Task(function, policy)
            self.tasks.append(task)
            return task

        return declare if function is None else declare(function)

    def on(self, event: type[Event], **options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Run a function as a task after each committed event of exactly this class. The argument is the event."""

        def declare(function: Callable[P, R]) -> Task[P, R]:
            task: Task[P, R] = self.task(**options)(function)
            self.subscriptions.setdefault(event, []).append(task)
            return task

        return declare

    def cron(
        self, expression: str, /, *, timezone: str = "UTC", misfire: Misfire = "once", **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Run a function as a task on a cron schedule.

        For each time of the schedule, the task runs once, even if there are many processes.

        Args:
            expression: The cron expression, as in crontab(5): minute, hour, day of the month, month, day of the week.
                With six fields, the first field is seconds.
            timezone: The time zone of the expression, such as `Europe/Zurich`.
            misfire: The action for slots that were missed by more than a minute, because no process ran: `skip` all,
                run `once` for all, or run `all`.
            options: `TaskOptions`.

        Raises:
            AppKitError: When the expression or the time zone is invalid.
        """

        def declare(function: Callable[P, R]) -> Task[P, R]:
            task: Task[P, R] = self.task(**options)(function)
            self.schedules.append(Schedule(task.policy, expression, timezone, misfire))
            return task

        return declare

    def policies(self, event: type[Event]) -> list[TaskPolicy]:
        """The policies of the tasks that run for an event of exactly this class."""
        return [task.policy for task in self.subscriptions.get(event, ())]


def task_name(function: Callable[..., Any]) -> str:
    """The last part of the module's name, and the function's name: `jobs:fetch_title`.

    A task must have the same name in every process, even if one imports `app.jobs`, another imports `jobs`, and another
    runs `app/jobs.py` as a script.
    """
    module = function.__module__.rpartition(".")[2]
    if module == "__main__":
        module = Path(inspect.getfile(function)).stem
    return f"{module}:{function.__qualname__}"

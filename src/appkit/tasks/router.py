"""TaskRouter: for background tasks what `APIRouter` is for requests."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload
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
    from appkit.tasks.broker import OutboxBroker

P = ParamSpec("P")
R = TypeVar("R")


class TaskOptions(TypedDict, total=False):
    """How a task is run; each has a default."""

    name: str
    """What rows call it; unless given, the last part of its module's name, and its qualified name."""
    queue: str
    """Which workers run it, by `TASKS_QUEUES`; `default` unless given."""
    priority: int
    """From -100 to 100; of the tasks that may run, the largest goes first. 0 unless given."""
    max_attempts: int | None
    """Times it is tried, crashes included; `TASKS_MAX_ATTEMPTS` unless given."""
    retry_delay: float | None
    """Seconds before the second attempt, doubled with each further one; `TASKS_RETRY_DELAY` unless given."""
    timeout: float | None
    """Seconds after which an attempt is cancelled, and has failed."""
    unique_key: Key | None
    """While a task of this name has the same key, another is not written. A function makes it of the arguments."""
    unique_scope: Scope
    """Whether the key is taken `until_start`, `until_done` (the default), or as long as the row is `retained`."""
    ordering_key: Key | None
    """Tasks with the same key run one after the other, as they were written. A function makes it of the arguments."""


class Task(Generic[P, R]):
    """A function that can run in the background."""

    def __init__(self, function: Callable[P, R], policy: TaskPolicy) -> None:
        self.function = function
        self.policy = policy
        self._brokers: WeakSet[OutboxBroker] = WeakSet()
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here and now, like any function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def name(self) -> str:
        """What rows call it; the same however the process was started."""
        return self.policy.name

    @cached_property
    def arguments(self) -> "Arguments":
        """What it takes, without what Taskiq injects."""
        from appkit.tasks.arguments import Arguments

        return Arguments(self.function, self.name)

    def attach(self, broker: "OutboxBroker") -> None:
        """Note that this broker knows the task."""
        self._brokers.add(broker)

    def with_options(
        self,
        *,
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
        expires_at: datetime | None = None,
        **options: Unpack[TaskOptions],
    ) -> "Task[P, R]":
        """The same task, run in another way: `enqueue(db, remind.with_options(delay=timedelta(hours=1)), user.id)`.

        Args:
            delay: Seconds to wait before it may run.
            run_at: When it may run.
            expires_at: When it is of no use any more; if it has not been started by then, it is dead.
            options: As for `TaskRouter.task`, but for the name.

        Raises:
            AppKitError: When it is given both a delay and a time, or another name.
        """
        if delay is not None and run_at is not None:
            raise AppKitError(f"Task {self.name!r} is given a delay and a time to run at. Leave one of them out.")
        if "name" in options:
            raise AppKitError(f"Task {self.name!r} can't be enqueued under another name.")
        task = copy.copy(self)
        task.policy = replace(self.policy, delay=delay, run_at=run_at, expires_at=expires_at, **options)
        return task

    async def kiq(self, *args: Any, **kwargs: Any) -> TaskHandle:
        """Enqueue it on the only kit that has it: with the session of this kit that is open here, else at once.

        In a session it is as `enqueue`: it runs once that has committed, and never if it is rolled back.

        Raises:
            AppKitError: When no kit has it or several do, or when the arguments don't fit.
        """
        if len(self._brokers) != 1:
            has = "several kits have" if self._brokers else "no kit has"
            raise AppKitError(f"Which kit is to run {self.name!r}? {has.capitalize()} it. Use enqueue(db, task, …).")
        (broker,) = self._brokers
        async with broker.database.joined_session() as session:
            handle = enqueue(session, self, *args, **kwargs)
            handle.database = broker.database
            on_commit(session, broker.wake)
        return handle


def enqueue(db: AsyncSession, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle:
    """Run a task once this session's transaction has committed, and never if it is rolled back.

    Raises:
        AppKitError: When the arguments don't fit the task, or can't be written as JSON.
    """
    task.arguments.check(args, kwargs)
    return TaskHandle.of_row(add_task(db, task.policy, args, kwargs), _database(db))


async def enqueue_many(
    db: AsyncSession, task: Task[..., Any], calls: Iterable[tuple[Any, ...] | Mapping[str, Any]]
) -> list[TaskHandle]:
    """As `enqueue`, for many calls of one task in a single INSERT, which takes a small part of the time.

    Args:
        db: The session whose transaction they belong to.
        task: The task.
        calls: The arguments of each call: a tuple has them by their place, a mapping by their name.

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
    """Tasks, the events they subscribe to, and the times they run at. Several kits may share one."""

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
        """Declare a background task. An `async def` runs on the event loop, a `def` in a thread.

        Args:
            function: What to run, where the decorator is used without brackets.
            options: How to run it; `TaskOptions` says which there are.

        Raises:
            AppKitError: When a `def` has a timeout, for nobody can stop a thread.
        """

        def declare(function: Callable[P, R]) -> Task[P, R]:
            policy = TaskPolicy(**(options | {"name": options.get("name") or task_name(function)}))
            if policy.timeout is not None and not inspect.iscoroutinefunction(function):
                raise AppKitError(f"{policy.name!r} has a timeout and is no `async def`: a thread can't be stopped.")
            task = Task(function, policy)
            self.tasks.append(task)
            return task

        return declare if function is None else declare(function)

    def on(self, event: type[Event], **options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Run a function as a task, with the event as its argument, whenever one of exactly this class was committed.

        Args:
            event: The class to subscribe to.
            options: As for `task`.
        """

        def declare(function: Callable[P, R]) -> Task[P, R]:
            task: Task[P, R] = self.task(**options)(function)
            self.subscriptions.setdefault(event, []).append(task)
            return task

        return declare

    def cron(
        self, expression: str, /, *, timezone: str = "UTC", misfire: Misfire = "once", **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Run a function as a task at certain times, once for all instances of the app together.

        Args:
            expression: When, as in crontab(5): minute, hour, day of the month, month, day of the week. A sixth field
                in front is for seconds.
            timezone: Whose clock is meant, as in `Europe/Zurich`.
            misfire: What to do about times at which no instance was there: `skip` them, run `once` for all of them, or
                run `all`. A minute late isn't too late.
            options: As for `task`.

        Raises:
            AppKitError: When the expression or the time zone makes no sense.
        """

        def declare(function: Callable[P, R]) -> Task[P, R]:
            task: Task[P, R] = self.task(**options)(function)
            self.schedules.append(Schedule(task.policy, expression, timezone, misfire))
            return task

        return declare

    def policies(self, event: type[Event]) -> list[TaskPolicy]:
        """The tasks that run for an event of exactly this class."""
        return [task.policy for task in self.subscriptions.get(event, ())]


def task_name(function: Callable[..., Any]) -> str:
    """`fetch_title` in `app/jobs.py` is `jobs:fetch_title`, imported as `app.jobs`, as `jobs`, or run as a script.

    Rows outlive the process that wrote them, and the next one may have been started in another way.
    """
    module = function.__module__.rpartition(".")[2]
    if module == "__main__":
        module = Path(inspect.getfile(function)).stem
    return f"{module}:{function.__qualname__}"

"""TaskRouter: for background tasks what `APIRouter` is for requests."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload
from weakref import WeakSet

from sqlalchemy.ext.asyncio import AsyncSession

from appkit.domain.events import Event
from appkit.exceptions import AppKitError
from appkit.repository.outbox import TaskPolicy, add_task

if TYPE_CHECKING:
    from appkit.tasks.arguments import Arguments
    from appkit.tasks.broker import OutboxBroker

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class TaskHandle:
    """A task that has been enqueued."""

    task_id: str


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

    async def kiq(self, *args: Any, **kwargs: Any) -> TaskHandle:
        """Enqueue it in a transaction of its own, on the only kit that has it.

        Raises:
            AppKitError: When no kit has it or several do, when the arguments don't fit, or, on SQLite, when a session
                of this asyncio task is writing already: `enqueue(db, task, …)` joins that.
        """
        if len(self._brokers) != 1:
            has = "several kits have" if self._brokers else "no kit has"
            raise AppKitError(f"Which kit is to run {self.name!r}? {has.capitalize()} it. Use enqueue(db, task, …).")
        (broker,) = self._brokers
        async with broker.database.session() as session:
            handle = enqueue(session, self, *args, **kwargs)
        broker.wake()
        return handle


def enqueue(db: AsyncSession, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle:
    """Run a task once this session's transaction has committed, and never if it is rolled back.

    Raises:
        AppKitError: When the arguments don't fit the task, or can't be written as JSON.
    """
    task.arguments.check(args, kwargs)
    return TaskHandle(add_task(db, task.policy, args, kwargs).task_id)


class TaskRouter:
    """Tasks, and the events they subscribe to. Several kits may share one."""

    def __init__(self) -> None:
        self.tasks: list[Task[..., Any]] = []
        self.subscriptions: dict[type[Event], list[Task[..., Any]]] = {}

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        max_attempts: int | None = None,
        retry_delay: float | None = None,
        timeout: float | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        max_attempts: int | None = None,
        retry_delay: float | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Declare a background task. An `async def` runs on the event loop, a `def` in a thread.

        Args:
            function: What to run, where the decorator is used without brackets.
            name: What rows call it; unless given, the last part of its module's name, and its qualified name.
            max_attempts: Times it is tried, crashes included; `TASKS_MAX_ATTEMPTS` unless given.
            retry_delay: Seconds before a failed attempt is repeated; `TASKS_RETRY_DELAY` unless given.
            timeout: Seconds after which an attempt is cancelled, and has failed.

        Raises:
            AppKitError: When a `def` has a timeout, for nobody can stop a thread.
        """

        def declare(function: Callable[P, R]) -> Task[P, R]:
            policy = TaskPolicy(
                name=name or task_name(function), max_attempts=max_attempts, retry_delay=retry_delay, timeout=timeout
            )
            if timeout is not None and not inspect.iscoroutinefunction(function):
                raise AppKitError(f"{policy.name!r} has a timeout and is no `async def`: a thread can't be stopped.")
            task = Task(function, policy)
            self.tasks.append(task)
            return task

        return declare if function is None else declare(function)

    def on(self, event: type[Event], **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
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

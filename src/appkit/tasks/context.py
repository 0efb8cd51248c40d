"""Task context: `TaskSession` and `TaskContext` for a task's signature, and the class of one attempt."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic_core import PydanticSerializationError, to_jsonable_python
from sqlalchemy.ext.asyncio import AsyncSession
from taskiq_dependencies import Depends

from appkit.core.mail import Mailer
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.repository.base import utcnow
from appkit.repository.database import Database
from appkit.repository.queue import TaskQueue
from appkit.repository.queue_statements import ClaimedTask
from appkit.tasks.outcomes import Outcome, decide_outcome

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """The lease expired, and another process may have claimed the task. The `TaskSession` is rolled back."""


@dataclass(eq=False)
class Attempt:
    """One attempt at a task, from the claim of the row until the row is settled."""

    task: ClaimedTask
    queue: TaskQueue
    """The queue that owns the lease."""
    database: Database
    settings: Settings
    labels: dict[str, Any] = field(default_factory=dict)
    interruptible: bool = True
    """Whether the task runs on the event loop; a thread can't be stopped."""
    runner: asyncio.Task[Any] | None = None
    """The asyncio task that runs this attempt; None before the start."""
    deadline: datetime | None = None
    """When the task's timeout cancels this attempt."""
    session: AsyncGenerator[AsyncSession, None] | None = None
    """The `TaskSession`. If the teardown of another dependency fails, Taskiq doesn't close the `TaskSession`."""
    result: Any = None
    """The function's return value."""
    error: BaseException | None = None
    """The exception that ended this attempt."""
    cancel_requested: bool = False
    closing: bool = False
    """Whether the row is being settled. Then the attempt can't be cancelled."""
    settled: bool = False
    """Whether nothing is left to do: the row is settled, waits for the next exchange, or belongs to another worker."""
    done: bool = False
    """Whether the attempt succeeded and its row waits for the next exchange."""

    def __str__(self) -> str:
        return f"Task {self.task.task_name} {self.task.task_id}"

    @property
    def result_json(self) -> Any:
        """The return value as JSON; None when the value can't be serialised."""
        try:
            return to_jsonable_python(self.result)
        except PydanticSerializationError as exc:
            logger.warning("%s returned a value that can't be serialised, so its result is empty: %s", self, exc)
            return None

    def start(self) -> "asyncio.Task[Any]":
        """Bind this attempt to the calling asyncio task, and make it the current attempt in that task's context."""
        runner = self.runner = asyncio.current_task()
        assert runner is not None  # noqa: S101 - Taskiq calls this from a coroutine
        timeout = self.labels.get("timeout")
        self.deadline = None if timeout is None else utcnow() + timedelta(seconds=float(timeout))
        _current.set(self)
        return runner

    def cancel(self) -> None:
        """Cancel this attempt, unless its row is being settled or its function runs in a thread."""
        if self.runner is not None and self.interruptible and not self.closing:
            self.runner.cancel()

    def decide_outcome(self, error: BaseException) -> Outcome:
        """Decide the outcome of this attempt, which failed with an exception."""
        if self.cancel_requested and isinstance(error, asyncio.CancelledError):
            return Outcome("Cancelled while it ran.", "TASK_CANCELLED", cancelled=True)
        settings = self.settings.tasks
        return decide_outcome(
            error,
            attempts=self.task.attempts,
            max_attempts=self.task.max_attempts or settings.max_attempts,
            delay=float(self.labels.get("retry_delay", settings.retry_delay)),
            max_delay=settings.retry_max_delay,
        )


_current: ContextVar[Attempt] = ContextVar("appkit_attempt")


def current_attempt() -> Attempt:
    """The attempt that runs in this context. Raises `AppKitError` outside of a task."""
    try:
        return _current.get()
    except LookupError:
        raise AppKitError("TaskSession and TaskContext work only inside a task that a worker runs.") from None


def keep_result(result: T) -> T:
    """Store a return value in the attempt that runs in this context, if there is one."""
    if (attempt := _current.get(None)) is not None:
        attempt.result = result
    return result


class RunningTask:
    """The running attempt, for the code of the task."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._database = attempt.database
        self.task_id = attempt.task.task_id
        """The task's id. All attempts have the same id, so the id can serve as an idempotency key."""
        self.attempt = attempt.task.attempts
        """1 at the first attempt."""
        self.deadline = attempt.deadline
        """When this attempt is cancelled, if the task has a timeout."""
        self.slot = datetime.fromisoformat(attempt.labels["slot"]) if "slot" in attempt.labels else None
        """The time for which a cron task was scheduled. The task may have started later."""
        self.settings: Settings = attempt.settings

    @property
    def cancel_requested(self) -> bool:
        """Whether the task was cancelled. An `async def` is interrupted, but a `def` must check this property."""
        return self._attempt.cancel_requested

    @property
    def mailer(self) -> Mailer:
        """The app's mailer.

        Raises:
            AppKitError: When the broker was made without an app.
        """
        if self._database.context is None:
            raise AppKitError("This broker belongs to no app, so it has no mailer. Use the broker of an AppKit.")
        return self._database.context.mailer

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A separate transaction, which is committed when the block ends, even if the task fails later."""
        return self._database.session()

    def read_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A read-only database session on the primary, because a replica may not have the task's data yet."""
        return self._database.read_session(primary=True)

    async def progress(self, percent: int, step: str = "") -> None:
        """Report progress in a separate short transaction, which is visible immediately.

        Raises:
            AppKitError: When the `TaskSession` holds SQLite's writer. Report before the first statement of the
                `TaskSession`.
        """
        await self._attempt.queue.report_progress(self._attempt.task, {"percent": percent, "step": step})


def _task_session() -> AsyncGenerator[AsyncSession, None]:
    attempt = current_attempt()
    attempt.session = _session(attempt)
    return attempt.session


async def _session(attempt: Attempt) -> AsyncGenerator[AsyncSession, None]:
    async with attempt.database.session() as session:
        try:
            yield session
        except BaseException:  # noqa: BLE001 - Taskiq raises the task's exception here, and handles it elsewhere
            await session.rollback()
            return
        attempt.closing = True
        if not await attempt.queue.finish(attempt.task, session, result=attempt.result_json):
            raise LeaseLostError
    attempt.settled = True


def _task_context() -> RunningTask:
    return RunningTask(current_attempt())


TaskSession = Annotated[AsyncSession, Depends(_task_session)]
"""The task's database session. Its transaction also marks the task as done. So the writes of the session take effect
exactly once, even if the task is retried. The transaction begins with the first statement."""

TaskContext = Annotated[RunningTask, Depends(_task_context)]
"""The running task: its id, attempt and progress, and the app's settings, mailer and database sessions."""

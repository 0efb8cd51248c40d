"""Lease: one attempt at a task, from the claim of its row until the row says how it ended."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import PydanticSerializationError, to_jsonable_python
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.exceptions import AppKitError
from appkit.repository.queue import ClaimedTask
from appkit.tasks.outcomes import Outcome, judge

if TYPE_CHECKING:
    from appkit.tasks.broker import OutboxBroker

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another process has the task by now, for this one seemed dead; what it did in its `TaskSession` is undone."""


class Lease:
    """One attempt at one task."""

    def __init__(self, broker: "OutboxBroker", task: ClaimedTask) -> None:
        self.broker = broker
        self.task = task
        self.labels: dict[str, Any] = {}
        self.interruptible = True
        """Whether it runs on the event loop; a thread can't be stopped."""
        self.runner: asyncio.Task[Any] | None = None
        """Taskiq's callback, once it has begun."""
        self.began: datetime | None = None
        self.session: AsyncGenerator[AsyncSession, None] | None = None
        """The `TaskSession`, which Taskiq doesn't close when the teardown of another dependency fails."""
        self.result: Any = None
        """What the function returned."""
        self.error: BaseException | None = None
        """What it failed with."""
        self.called_off = False
        """Whether somebody wants it to stop."""
        self.closing = False
        """Whether the row is about to be closed, and it's too late to cancel."""
        self.settled = False
        """Whether the row is closed or about to be, or nothing more can be done about it."""
        self.done = False
        """Whether it ended well, and the row is about to say so."""

    def __str__(self) -> str:
        return f"Task {self.task.task_name} {self.task.task_id}"

    @property
    def deadline(self) -> datetime | None:
        """When the attempt is cancelled."""
        timeout = self.labels.get("timeout")
        return None if timeout is None or self.began is None else self.began + timedelta(seconds=float(timeout))

    @property
    def result_json(self) -> Any:
        """What the function returned, as JSON has it; None when it can't be written so."""
        try:
            return to_jsonable_python(self.result)
        except PydanticSerializationError as exc:
            logger.warning("%s returned what can't be kept: %s", self, exc)
            return None

    def cancel(self) -> None:
        """Stop the attempt, unless it has as good as ended, or can't be stopped."""
        if self.runner is not None and self.interruptible and not self.closing:
            self.runner.cancel()

    def judge(self, error: BaseException) -> Outcome:
        """What becomes of the task that this attempt failed with."""
        if self.called_off and isinstance(error, asyncio.CancelledError):
            return Outcome("It was called off while it ran.", "TASK_CANCELLED", cancelled=True)
        settings = self.broker.settings.tasks
        return judge(
            error,
            attempts=self.task.attempts,
            max_attempts=self.task.max_attempts or settings.max_attempts,
            delay=float(self.labels.get("retry_delay", settings.retry_delay)),
            max_delay=settings.retry_max_delay,
        )


current: ContextVar[Lease] = ContextVar("appkit_lease")
"""The attempt that runs, if one does."""


def current_lease() -> Lease:
    """The attempt that runs in this context.

    Raises:
        AppKitError: When no task runs here.
    """
    try:
        return current.get()
    except LookupError:
        raise AppKitError("TaskSession and TaskContext are for tasks that a worker runs, and none runs here.") from None


def note_result(result: T) -> T:
    """Keep what the function of the attempt that runs here returned, if one runs here at all."""
    if (lease := current.get(None)) is not None:
        lease.result = result
    return result

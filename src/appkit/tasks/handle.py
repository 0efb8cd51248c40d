"""TaskHandle: the state, progress and result of an enqueued task."""

import asyncio
from time import monotonic
from typing import Any

from sqlalchemy import select

from appkit.core.settings import TasksSettings
from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.repository.outbox import OutboxTask, TaskState
from appkit.repository.queue import TaskQueue

_ENDED = {TaskState.DONE, TaskState.DEAD, TaskState.CANCELLED}


class TaskFailedError(Exception):
    """Raised by `TaskHandle.result()`: the task is dead or was cancelled."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The `internal_code` of the task's exception, or a code such as `TASK_EXPIRED`."""


class TaskHandle:
    """An enqueued task. For an id that you have stored, make a handle by `TaskHandle(task_id, kit.database)`."""

    def __init__(self, task_id: str, database: Database | None = None) -> None:
        self.database = database
        self._task_id = task_id
        self._unique: OutboxTask | None = None

    @classmethod
    def of_row(cls, row: OutboxTask, database: Database | None) -> "TaskHandle":
        """The handle of a row that is not written yet."""
        handle = cls(row.task_id, database)
        if row.unique_key is not None:
            handle._unique = row
        return handle

    def __repr__(self) -> str:
        return f"<TaskHandle {self.task_id}>"

    @property
    def task_id(self) -> str:
        """The task's id. If another task has the unique key, this is the id of that task after the flush."""
        return self._task_id if self._unique is None else self._unique.task_id

    @property
    def created(self) -> bool | None:
        """Whether this call wrote the task. False if another task has the unique key; None before the flush."""
        return True if self._unique is None else self._unique.created

    async def status(self) -> TaskState | None:
        """The task's state; None when the task doesn't exist, or was deleted."""
        row = await self._read()
        return None if row is None else TaskState(row.state)

    async def ended(self) -> bool:
        """Whether the task is done, dead or cancelled."""
        return await self.status() in _ENDED

    async def progress(self) -> dict[str, Any] | None:
        """The last reported progress; None when the task has reported none."""
        row = await self._read()
        return None if row is None else row.progress

    async def result(self, timeout: float | None = None) -> Any:
        """Wait until the task is done, and return its result as JSON. The `timeout` is in seconds.

        Raises:
            TaskFailedError: When the task is dead or was cancelled.
            TimeoutError: When the task has not ended in time.
            LookupError: When the task doesn't exist, or was deleted.
        """
        end, pause = monotonic() + (float("inf") if timeout is None else timeout), 0.02
        while True:
            row = await self._read()
            if row is None:
                raise LookupError(f"Task {self.task_id} doesn't exist, or was deleted.")
            if row.state == TaskState.DONE:
                return row.result
            if row.state in _ENDED:
                reason = row.last_error or "it was cancelled"
                raise TaskFailedError(f"Task {row.task_id} is {row.state}: {reason}", row.error_code)
            if monotonic() + pause > end:
                raise TimeoutError(f"Task {self.task_id} is still {row.state}.")
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.5)

    async def cancel(self) -> bool:
        """Cancel the task. A running task is interrupted within seconds. False when the task has already ended."""
        context = self._outbox.context
        settings = TasksSettings() if context is None else context.settings.tasks
        return await TaskQueue(self._outbox, settings).cancel(self.task_id)

    @property
    def _outbox(self) -> Database:
        if self.database is None:
            raise AppKitError(
                "This task was enqueued in a session without an app, so its handle has no database. "
                "Use TaskHandle(task_id, database)."
            )
        return self.database

    async def _read(self) -> OutboxTask | None:
        async with self._outbox.read_session(primary=True) as db:
            row: OutboxTask | None = await db.scalar(select(OutboxTask).where(OutboxTask.task_id == self.task_id))
            return row
